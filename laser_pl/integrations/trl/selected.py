"""The reward function for TRL: one reward model, chosen for each generation batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import TrainerState

from laser_pl.bandits.base import Bandit
from laser_pl.bandits.context import ContextPreparation
from laser_pl.bandits.linucb import LinUCB
from laser_pl.batches import LOSS, LabelledBatch, Prompt, PromptBatch, PromptLosses, Responses, RolloutBatch
from laser_pl.data.pairs import BestWorst
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.normalizers import ContextBaseline, RewardNormalizer
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals import Advantage, Cooling, Signal
from laser_pl.integrations.trl.groups import Groups, Rows
from laser_pl.integrations.trl.trained_policy import TrainedPolicy
from laser_pl.logprobs.logprob_model import ResponseBatch
from laser_pl.logprobs.padding import pad_left, pad_right
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact
from laser_pl.rewards import FunctionReward, RewardModel
from laser_pl.rewards.asker import Asker
from laser_pl.runtime.process_group import ProcessGroup
from laser_pl.selection.decision import Decision
from laser_pl.selection.scores import NO_PAIRS
from laser_pl.selection.selector import Selector

Granularity = Literal["batch", "category", "prompt"]
Features = Callable[[Sequence[Prompt]], Tensor]


@dataclass(frozen=True)
class Learned:
    """A generation batch that was trained and learned from.

    Attributes:
        number: Counted from 0.
        batch: It, on the CPU.
        decisions: What was decided and learned.
        polled: See ``Selector``.
    """

    number: int
    batch: LabelledBatch
    decisions: list[Decision]
    polled: dict[int, Tensor]


class SelectedReward:
    """A reward function for TRL that asks one of several reward models, the one that a bandit chooses.

    One choice is made for each batch that TRL generates (or for each category or prompt of it), and only the chosen
    reward model scores it, but for what the signal asks of all. ``SelectionCallback`` lets the bandit learn once the
    batch was trained. What TRL generates to evaluate is scored by the arm of the largest expected reward, and nothing
    is learned from it.

    The loss of a policy gradient says nothing about which reward model is right: it follows from advantages, which have
    the same mean and, in GRPO, the same spread whoever scores. So signals that are made of a loss are refused.

    Args:
        reward_models: The arms, by names of your own: TRL's reward functions, or anything from ``laser_pl.rewards``.
        signal: What a trained batch says of them: ``FewAnswers``, ``Trusted`` (needs answers to more prompts),
            ``Majority``, ``Cooling``, ``Gap``, or ``ProbeGain``; see ``laser_pl.feedback.signals``.
        bandit: Chooses one of them; null for ``LinUCB()``.
        context: Prepares hidden states, or features, for the bandit; null for ``ContextPreparation()``.
        features: From prompts to numbers ``(B, d)`` that the bandit sees instead of the policy's hidden states.
        normalizer: Turns what the signal says into the bandit's rewards; null for ``ContextBaseline()``.
        granularity: What gets one arm: a generation ``batch``, each ``category`` in it, or each ``prompt``.
        matcher: Says how right a response is, for signals and reward models that use answers; null for ``Exact()``.
        labels: A file of compared responses, see ``laser_pl.selection.labelled.Labels``.
        answer: The data set's column of reference answers.
        category: Its column of categories.
        memory_budget: As in ``Selector``.
        spill: As in ``Selector``.
        max_failures: Failures in a row after which a reward model is put aside.
        cooldown: Generation batches for which it is.
        seed: Root of the bandit's and the signal's randomness.

    Attributes:
        selector: It chooses, scores and learns.
        batches: Generation batches that the bandit has learned from.
        asked: Whether TRL has asked it for anything.
        cycle: Micro-batches in which a generation batch is trained, once a trainer is known.
    """

    __name__ = "selected"  # by which TRL logs it

    def __init__(
        self,
        reward_models: Mapping[str, RewardModel | Callable[..., Any]],
        signal: Signal,
        bandit: Bandit | None = None,
        context: ContextPreparation | None = None,
        features: Features | None = None,
        normalizer: RewardNormalizer | None = None,
        granularity: Granularity = "batch",
        matcher: Grader | None = None,
        labels: str | None = None,
        answer: str = "answer",
        category: str = "category",
        memory_budget: str | int | None = None,
        spill: Literal["cpu", "disk"] = "disk",
        max_failures: int = 3,
        cooldown: int = 20,
        seed: int = 0,
    ) -> None:
        bandit, context, normalizer = (
            bandit or LinUCB(),
            context or ContextPreparation(),
            normalizer or ContextBaseline(),
        )
        for name, part, kind in (
            ("signal", signal, Signal), ("bandit", bandit, Bandit), ("context", context, ContextPreparation),
            ("normalizer", normalizer, RewardNormalizer), ("matcher", matcher or Exact(), Grader),
        ):  # fmt: skip
            if not isinstance(part, kind):
                raise ConfigurationError(f"{name} must be a {kind.__name__}, made with its arguments, got {part!r}.")
        if granularity not in get_args(Granularity):
            one = ", ".join(get_args(Granularity))
            raise ConfigurationError(f"granularity must be one of {one}, got {granularity!r}.")
        if signal.part is not None:
            raise ConfigurationError(
                f"The signal {type(signal).__name__} is made of the training loss, and the loss of a policy gradient"
                " says nothing about which reward model is right. Use FewAnswers, Trusted (more answers), Majority,"
                " Cooling or Gap of laser_pl.feedback.signals."
            )
        self.selector = Selector(
            _arms(reward_models), bandit, context, signal, normalizer, BestWorst(per_prompt=1), granularity, labels,
            memory_budget=memory_budget, spill=spill, max_failures=max_failures, cooldown=cooldown, seed=seed,
        )  # fmt: skip
        self.features = features
        self.matcher = matcher or Exact()
        self.columns = answer, category
        self.batches = 0
        self.asked = False
        self._policy: TrainedPolicy | None = None
        self._before: dict[str, Any] | None = None  # the state before the batch that is being trained
        self._labelled: LabelledBatch | None = None
        self._left = 0  # micro-batches until all of it was trained
        self._learned: list[Learned] = []

    # -- the trainer -------------------------------------------------------------------------------------------------

    def meet(self, args: Any, model: Any, processing_class: Any) -> None:
        """Know the trainer that asks.

        Raises:
            ConfigurationError: If it is none that samples groups of responses, or what was asked for needs more of the
                model than it can do.
        """
        if not hasattr(args, "num_generations") or not hasattr(args, "steps_per_generation"):
            raise ConfigurationError(
                f"SelectedReward works in GRPOTrainer and RLOOTrainer, got {type(args).__name__} as the trainer's"
                " arguments."
            )
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        self.rows = Rows(tokenizer, args.chat_template_kwargs or {}, *self.columns)
        self._sizes = {True: args.num_generations, False: args.num_generations_eval or args.num_generations}
        self.cycle = args.steps_per_generation * args.num_iterations
        self._keeps_before = args.gradient_accumulation_steps % self.cycle != 0  # a checkpoint may be made within
        eos = getattr(model.generation_config, "eos_token_id", None)
        self._ends = {tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])}
        policy = TrainedPolicy(model)
        signal = self.selector.signal
        if self.features is None or not type(signal).__module__.endswith(("trusted", "majority", "gap")):
            policy.refuse_sharded()
        if isinstance(signal, Advantage) and not policy.knows_its_start:
            raise ConfigurationError(
                "The signal Advantage asks the model that training started from, which only an adapter keeps. Train"
                " with peft_config, or use another signal."
            )
        self.selector.panel.processes = ProcessGroup(args.process_index, args.world_size)
        self.selector.panel.device = args.device
        self._policy = policy
        self._asker: Asker | None = None
        self._before, self._labelled = None, None

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See that reward models, matcher and signal can do with these prompts.

        Raises:
            ConfigurationError: If one cannot.
        """
        signal, categories = self.selector.signal, sorted({prompt.category for prompt in prompts})
        if any(prompt.answer is not None for prompt in prompts):
            self.matcher.check(categories)
        signal.check(categories)
        for reward_model in self.selector.pool.reward_models.values():
            reward_model.check_categories(categories)
        self.selector.compared.read(prompts, self.matcher)
        self._asker = self.selector.prepare(self.matcher, self.rows.tokenizer, prompts)

    def refuse_silence(self, prompts: Sequence[Prompt]) -> None:
        """See that a signal that asks all reward models on some prompts has any such prompt in the whole data set.

        Raises:
            ConfigurationError: If not.
        """
        signal = self.selector.signal
        if type(signal).polled is not Signal.polled and not signal.polled(prompts):
            column = (
                f" (column '{self.columns[0]}')" if not any(prompt.answer is not None for prompt in prompts) else ""
            )
            raise ConfigurationError(
                f"The signal {type(signal).__name__} would observe nothing: {signal.silence(prompts)}{column}."
            )

    # -- scores ------------------------------------------------------------------------------------------------------

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: TrainerState | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Scores of this process's responses; None is no opinion.

        Raises:
            ConfigurationError: If no trainer is known, no reward model is left that can judge, or one is not what it is
                said to be.
        """
        if self._policy is None:
            raise ConfigurationError(
                "SelectedReward does not know its trainer: give the trainer SelectionCallback(reward) in callbacks."
            )
        training = self._policy.trains
        if training:
            self.learn()  # which only a trainer that left its last batch behind has not done
        groups = Groups.of_call(
            prompts,
            completions,
            completion_ids,
            columns,
            self._sizes[training],
            self.rows,
            self.selector.panel.processes,
        )
        if self._asker is None:
            self.prepare(groups.prompts)
        assert self._asker is not None
        self.asked = True
        state = trainer_state or TrainerState()
        self._asker.state = state
        with torch.no_grad():
            scores, judges = self._train(groups, state) if training else self._evaluate(groups)
        if log_metric is not None:
            for name in self.selector.arms:
                log_metric(f"selection/{name}", judges.count(name) / len(judges))
            for told, values in self._asker.told().items():
                for value in values:
                    log_metric(told, value)
        if log_extra is not None:
            log_extra("judge", [judge for judge in judges for _ in range(scores.shape[1])][groups.own])
        return [None if value != value else value for value in scores.flatten().tolist()[groups.own]]

    def _train(self, groups: Groups, state: TrainerState) -> tuple[Tensor, list[str | None]]:
        """Choose and score, and remember what is to be learned from. Scores ``(B, n)``, and each prompt's judge."""
        selector = self.selector
        if self._keeps_before:
            self._before = copy.deepcopy(selector.state_dict())
        batch = self._batch(groups, int(state.epoch or 0))
        assert self._asker is not None
        self._asker.shows(batch)
        selector.context.observe(batch.contexts)
        labelled = selector.label(batch, self.batches)
        if selector.stuck is not None:
            raise ConfigurationError(selector.stuck)
        self._labelled, self._left = labelled, self.cycle
        return labelled.scores, [selector.arms[arm] for arm in labelled.arms.tolist()]

    def _evaluate(self, groups: Groups) -> tuple[Tensor, list[str | None]]:
        """Scores by what was learned, as those of ``_train``."""
        hidden = self._hidden(self._encoded(groups))
        best = self.selector.best(groups.prompts, groups.texts, hidden)
        return best.scores, [None if arm is None else self.selector.arms[arm] for arm in best.arms]

    def _encoded(self, groups: Groups) -> PromptBatch:
        ids = [self.rows.ids(prompt) for prompt in groups.prompts]
        return PromptBatch(tuple(groups.prompts), *pad_left(ids, 0, torch.device("cpu")))

    def _hidden(self, prompts: PromptBatch) -> Tensor:
        """What the bandit's contexts are made of: the policy's hidden states, or the features. Shape ``(B, d)``."""
        if self.features is not None:
            found = torch.as_tensor(self.features(prompts.prompts))
            if found.dim() != 2 or len(found) != len(prompts) or not found.isfinite().all():
                raise ConfigurationError(
                    f"features must return a row of finite numbers for each of {len(prompts)} prompts, got"
                    f" {tuple(found.shape)}{'' if found.isfinite().all() else ' with NaN or infinite ones'}."
                )
            return found.detach().float().cpu()
        assert self._policy is not None
        processes = self.selector.panel.processes
        return processes.together(self._policy.contexts(prompts.part(processes.rows(len(prompts)))), len(prompts))

    def _batch(self, groups: Groups, iteration: int) -> RolloutBatch:
        prompts, cpu = self._encoded(groups), torch.device("cpu")
        flat = [one for own in groups.ids for one in own]
        tokens, mask = pad_right([one or [self.rows.tokenizer.eos_token_id] for one in flat], 0, cpu)
        finished = torch.tensor([bool(one) and one[-1] in self._ends for one in flat])
        finished = finished.view(len(prompts), -1)
        shape = (*finished.shape, -1)
        responses = Responses(tokens.view(shape), mask.view(shape), finished, groups.texts)
        return RolloutBatch(prompts, responses, self._hidden(prompts), self._logprobs(prompts, responses), iteration)

    def _logprobs(self, prompts: PromptBatch, responses: Responses) -> Tensor:
        """Log-probabilities where the signal wants them, NaN elsewhere, since they cost a forward. Shape ``(B, n)``."""
        count, n = responses.finished.shape
        found = torch.full((count, n), torch.nan, dtype=torch.float64)
        if isinstance(self.selector.signal, Cooling):
            assert self._policy is not None
            processes, rows = self.selector.panel.processes, self.selector.signal.polled(prompts.prompts)
            own = [rows[place] for place in processes.rows(len(rows))]
            values = torch.zeros(0, n, dtype=torch.float64)
            if own:
                device = self._policy.device
                reading = ResponseBatch.of(prompts.part(own).to(device), responses.part(own).to(device))
                values = self._policy.logprobs(reading).double().cpu().view(-1, n)
            found[rows] = processes.together(values, len(rows))
        return found

    # -- learning ----------------------------------------------------------------------------------------------------

    def trained(self) -> None:
        """A micro-batch was trained; once all of a generation batch were, learn from it."""
        self._left -= 1
        if self._left == 0:
            self.learn()

    def learn(self) -> None:
        """Learn from the last generation batch, if that was not done."""
        if self._labelled is None:
            return
        assert self._policy is not None
        batch, self._labelled, self._before = self._labelled, None, None
        # Trained, with a loss that is not known by prompt, and that says nothing.
        losses = PromptLosses({LOSS: torch.zeros(len(batch))}, {LOSS: torch.zeros(len(batch))})
        policy = self._policy
        ask = Queries(logprobs=policy.logprobs, start_logprobs=policy.start_logprobs, grader=self.matcher)
        self.selector.learn(batch.to(policy.device), losses, ask)
        # Pairs only showed whether responses are distinguished.
        decisions = [replace(decision, loss=None, pairs=None) for decision in self.selector.decisions]
        self._learned.append(Learned(self.batches, replace(batch, pairs=NO_PAIRS), decisions, self.selector.polled))
        self.batches += 1

    def taken(self) -> list[Learned]:
        """What was learned from since this was last asked."""
        taken, self._learned = self._learned, []
        return taken

    def state_dict(self) -> dict[str, Any]:
        """What was learned, without the batch that is being trained: it is sampled again where training goes on."""
        within = self._labelled is not None and self._before is not None
        return {"batches": self.batches, "selector": self._before if within else self.selector.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned.

        Raises:
            ConfigurationError: If it was learned by other parts than these.
        """
        self.batches = state["batches"]
        self._before, self._labelled = None, None
        self.selector.load_state_dict(state["selector"])


def _arms(reward_models: Mapping[str, Any]) -> dict[str, RewardModel]:
    """Reward models as they are asked here.

    Raises:
        ConfigurationError: If there is none, or one is nothing that can be asked.
    """
    if not isinstance(reward_models, Mapping) or not reward_models:
        raise ConfigurationError(
            "reward_models must name at least one reward model: {'short': a_function, 'clear': another}, got"
            f" {reward_models!r}."
        )
    found = {}
    for name, model in reward_models.items():
        if isinstance(model, RewardModel):
            found[str(name)] = model
        elif callable(model) and not isinstance(model, nn.Module | type):
            found[str(name)] = FunctionReward(model)
        else:
            raise ConfigurationError(
                f"The reward model '{name}' must be a reward function of TRL's, or a reward model of laser_pl.rewards"
                f" (such as SequenceClassifier for a model's folder), got {model!r:.80}."
            )
    return found
