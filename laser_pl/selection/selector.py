"""Chooses reward models for batches, labels the batches by them, and learns from the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from laser_pl.bandits.base import Bandit
from laser_pl.bandits.context import ContextPreparation
from laser_pl.batches import LabelledBatch, Prompt, PromptLosses, RolloutBatch
from laser_pl.data.pairs import BestWorst, Pairing
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.normalizers import RewardNormalizer
from laser_pl.feedback.observations import mean_by_arm
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals.base import Signal
from laser_pl.metrics.grader import Grader
from laser_pl.objectives.base import Needs
from laser_pl.rewards.asker import Asker
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.characters import characters_of
from laser_pl.rewards.constraints import Constraint
from laser_pl.rewards.health import Health
from laser_pl.rewards.memory import Memory
from laser_pl.rewards.pool import Pool
from laser_pl.runtime.seeds import derive_seed
from laser_pl.selection.accuracies import Accuracies
from laser_pl.selection.agreement import count_of_probes, probe
from laser_pl.selection.best import Best
from laser_pl.selection.constraints import Verdicts, allowed_by, refuse_shared_names
from laser_pl.selection.continued import changes_of_arms, in_new_words, refuse_other_parts
from laser_pl.selection.decision import Decision, Labelling, category_of, conclude, decide
from laser_pl.selection.fallback import Judgement, first_open, judge, none_paired
from laser_pl.selection.granularity import Granularity, decision_of_rows, rows_of_decisions
from laser_pl.selection.labelled import Labels
from laser_pl.selection.lessons import teach
from laser_pl.selection.panel import Panel
from laser_pl.selection.scores import NO_PAIRS, every_pair, scores_to_train
from laser_pl.selection.told_nothing import observed


class Selector:
    """A bandit over reward models: ``label`` a batch, train on it, and let it ``learn`` from the loss of each prompt.

    What it chooses next follows from what it learned last. Where the chosen reward model distinguishes no responses,
    the next best is asked. It needs neither trainer nor policy. ``laser_pl.callbacks.RewardSelection`` trains by it:

    >>> from laser_pl import bandits, batches, rewards
    >>> from laser_pl.data.pairs import BestWorst
    >>> from laser_pl.feedback.normalizers import PooledQuantiles
    >>> from laser_pl.feedback.signals.loss import Loss
    >>> from laser_pl.objectives import Dpo
    >>> class Short(rewards.RewardModel):
    ...     def score(self, prompts, responses):
    ...         return [[-float(len(text)) for text in texts] for texts in responses]
    >>> selector = Selector({"short": Short()}, bandits.LinUCB(), ContextPreparation(), Loss(), PooledQuantiles(),
    ...                     BestWorst(per_prompt=1))
    >>> read, ids, texts = torch.ones(1, 3, dtype=torch.long), torch.arange(8).view(1, 4, 2), ["four", "4", "2+2", "IV"]
    >>> prompts = batches.PromptBatch((Prompt("sum", "2+2=", "2+2="),), tokens=read, mask=read)
    >>> responses = batches.Responses(ids, torch.ones_like(ids), torch.ones(1, 4, dtype=torch.bool), [texts])
    >>> batch = RolloutBatch(prompts, responses, torch.ones(1, 2), reference_logprobs=-torch.ones(1, 4), iteration=0)
    >>> labelled = selector.label(batch, step=0)
    >>> [(texts[chosen], texts[rejected]) for chosen, rejected in labelled.pairs.of(0)]
    [('4', 'four')]
    >>> selector.learn(labelled, PromptLosses({"loss": torch.tensor([1.6])}, by_chance=Dpo().by_chance(batch)))
    >>> selector.decisions[0].reward
    {'short': 0.5}

    With several processes each holds the whole batch and the whole bandit, and scores the rows it trains; scores and
    losses are exchanged, so that all decide and learn the same.

    On resume it takes up what was learned (bandit, context mean, normalizer, counts); its settings come from
    the configuration alone. An arm is known by its name: a new name starts fresh, a name that is gone is forgotten.

    Args:
        reward_models: The reward models (arms), by names of your own.
        bandit: Chooses one of them.
        context: Prepares hidden states for the bandit.
        signal: What a trained batch says about the arms that scored it.
        normalizer: Turns that into rewards.
        pairs: Makes preference pairs from scores. For an objective of scores its ``truncated`` alone counts.
        granularity: What gets one arm. A ``batch``, each ``category`` in it, each ``prompt``, or what each process
            trains of the batch (``rank``); the context is the mean of the prompts'.
        labels: A file of compared responses, see ``Labels``; null: none.
        constraints: Reward models that only forbid, by names of your own. Whichever arm judges, a response is chosen
            only if each of them gives it its threshold.
        memory_budget: Bytes of their weights on a device, or ``24GiB``; null: no limit. The least recently used gives
            way.
        spill: Where weights that give way go. ``cpu`` keeps them in the host's memory, ``disk`` loads them anew.
        max_failures: Failures in a row after which a reward model is put aside.
        cooldown: Training steps for which it is.
        agreement_probe: Prompts an iteration that all are asked about; 0: none. Only to see how alike they judge;
            signals that ask all of them on some prompts make that known as well.
        check_ranks: Compare what processes learned after every step, to debug.
        seed: Root of the bandit's, the signal's and the pairs' randomness.

    Attributes:
        needs: What the objective is given, pairs or scores; whoever runs the selector says it.
        panel: Asks the reward models; whoever runs the selector says on which device, and among which processes.
        decisions: Those of the last batch, and what came of them once it was learned from.
        accuracies: How often each arm orders responses rightly, where the signal measures that.
        verdicts: What the constraints found so far.
        compared: What people have compared; whoever runs the selector has it read.
        stuck: Why training cannot go on, once no reward model is left that could judge.
        arm_changes: Which arms came and went when the run was continued.
        measured: Observations of the signal in this iteration.
        probed: What the agreement probe found before the last batch, as lines of ``agreement.jsonl``.
        polled: Every arm's scores ``(K, n)`` for those rows of the last batch for which the signal asked them.
    """

    def __init__(
        self,
        reward_models: dict[str, RewardModel],
        bandit: Bandit,
        context: ContextPreparation,
        signal: Signal,
        normalizer: RewardNormalizer,
        pairs: Pairing,
        granularity: Granularity = "batch",
        labels: str | None = None,
        constraints: dict[str, Constraint] = {},  # noqa: B006 - nobody changes it
        memory_budget: str | int | None = None,
        spill: Literal["cpu", "disk"] = "disk",
        max_failures: int = 3,
        cooldown: int = 20,
        agreement_probe: int = 0,
        check_ranks: bool = False,
        seed: int = 0,
    ) -> None:
        self.arms = list(reward_models)
        self.constraints = constraints
        refuse_shared_names(self.arms, list(self.constraints))
        models = {**reward_models, **{name: c.reward_model for name, c in self.constraints.items()}}
        health = Health(list(models), max_failures, cooldown)
        self.pool = Pool(models, Memory(models, memory_budget, spill), health)
        bandit.check(self.arms)
        self.bandit = bandit
        self.context = context
        self.signal = signal
        signal.follow(seed)
        self.normalizer = normalizer
        self.pairs = pairs
        self.granularity = granularity
        self.compared = Labels(labels, signal, bandit)
        self.agreement_probe = count_of_probes(agreement_probe)
        self.check_ranks = check_ranks
        self.seed = seed
        self.needs: Needs = "pairs"
        self.panel = Panel(self.pool)
        self.decisions: list[Decision] = []
        self.accuracies = Accuracies()
        self.verdicts = Verdicts()
        self.stuck: str | None = None
        self.arm_changes: list[dict[str, Any]] = []
        self.measured = 0
        self.probed: list[dict[str, Any]] = []
        self.polled: dict[int, Tensor] = {}
        self._to_probe: Sequence[RolloutBatch] = ()
        self._labelling: Labelling | None = None
        self._started = False

    # -- a run -------------------------------------------------------------------------------------------------------

    def prepare(self, grader: Grader, tokenizer: Any, prompts: Sequence[Prompt]) -> Asker:
        """See that the reward models are there and can read what they will be asked about, before any is loaded.

        Args:
            grader: What says how right a response is.
            tokenizer: The policy's.
            prompts: All that will be asked about.

        Returns:
            What reward functions see of the run, and log to it.

        Raises:
            ConfigurationError: If one is not, or cannot.
        """
        asker = Asker.with_tokenizer(tokenizer)
        self.pool.grade_by(grader)
        self.pool.asked_by(asker)
        if not self.pool.checked:  # the command line does it before anything is measured
            self.pool.check(prompts, partial(characters_of, tokenizer))
        return asker

    def begin_iteration(self, batches: Sequence[RolloutBatch]) -> None:
        """Take the contexts of all of an iteration's batches into the running mean; they are known by now."""
        self.context.observe(torch.cat([batch.contexts for batch in batches]))
        self.measured = 0
        self._to_probe = batches if self.agreement_probe else ()

    @torch.no_grad()
    def label(self, batch: RolloutBatch, step: int) -> LabelledBatch:
        """Choose, score, forbid, and pair where pairs are needed.

        Args:
            batch: What was sampled.
            step: The training step, counted from 0 over the run; who was put aside comes back by it.
        """
        self._start(self.context.size(batch.contexts.shape[-1]))
        self.compared.teach(self.arms, self.panel)
        before, self.polled = self.pool.costs, {}
        self.pool.health.step = step
        prompts, hidden = batch.prompts.prompts, batch.contexts.cpu()
        rows = rows_of_decisions(prompts, self.granularity, self.panel.processes)
        contexts = self.context.prepare(torch.stack([hidden[own].mean(0) for own in rows]))  # (M, d)
        self.bandit.tell(batch.iteration, [category_of([prompts[row] for row in own]) for own in rows])
        why = self.bandit.explain(contexts)
        to_probe, self._to_probe = self._to_probe, ()
        self.probed = probe(to_probe, self.agreement_probe, self.seed, self.arms, self.panel) if to_probe else []
        allowed = allowed_by(self.constraints, self.panel, prompts, batch.responses.texts, self.verdicts)
        self.stuck = allowed.unchecked or self.stuck
        judgement = self._judge(batch, rows, contexts, allowed.responses)
        scores, pairs = judgement.scores, judgement.pairs
        if self.needs == "scores":
            scores, pairs = scores_to_train(batch, scores, self.pairs.truncated, allowed.responses), NO_PAIRS
        judges = judgement.arms[decision_of_rows(rows)]  # (B,)
        accuracy = self.accuracies.of(self.arms, judges)
        labelled = batch.labelled(judges, scores, pairs.to(batch.contexts.device), accuracy)
        costs = self.pool.costs - before
        self.decisions = decide(
            labelled, rows, step, self.arms, why, judgement, allowed.forbidden, costs, self.needs == "pairs"
        )
        self._labelling = Labelling(rows, contexts, judgement, before)
        return labelled

    @torch.no_grad()
    def learn(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries = Queries()) -> None:  # noqa: B008
        """Let the bandit learn from the step, and from what it did not train: who was asked and distinguished nothing.

        Args:
            batch: The one that ``label`` gave last, on whatever device.
            losses: The training loss of each prompt; NaN where there is none.
            ask: What the signal may ask of the policy; of the reward models it asks them.

        Raises:
            RuntimeError: If no batch was labelled.
        """
        if self._labelling is None:
            raise RuntimeError("Nothing to learn from: label() a batch first.")
        rows, judgement = self._labelling.rows, self._labelling.judgement
        decision = decision_of_rows(rows)
        seen = self.signal.measure(batch, losses, replace(ask, scores=partial(self._poll, batch)))
        seen = self.panel.processes.gather(seen)[0]  # the same everywhere, but for the rounding of unlike devices
        if self.signal.measures_accuracy:
            self.accuracies.note(self.arms, seen)
        seen = mean_by_arm(seen, decision)
        self.measured += len(seen.arm)
        by_chance = self.signal.chance(batch, losses).to("cpu", torch.float64, copy=True)  # (B,)
        by_chance[list(self.polled)] = torch.nan  # there all were asked for the signal, which knows better
        chance = torch.stack([by_chance[own].nanmean() for own in rows])
        seen, rivals = observed(seen, judgement, chance, len(self.arms))
        contexts = self._labelling.contexts[seen.prompt]  # (O, d)
        rewards = self.normalizer.rewards(contexts, seen.arm, seen.value, seen.chance)
        self.bandit.learn(contexts, seen.arm, rewards, rivals)
        pairs = batch.pairs.to("cpu") if self.needs == "pairs" else every_pair(batch.scores)
        teach(self.panel, self.arms, batch, pairs, decision, seen, rewards)
        costs = self.pool.costs - self._labelling.before
        self.decisions = conclude(self.decisions, rows, self.arms, losses, seen, rewards, costs)
        if self.check_ranks:
            self.panel.processes.check_equal(self.state_dict(), "The selection")

    @torch.no_grad()
    def best(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], hidden: Tensor) -> Best:
        """Score responses by what was learned, each prompt's by the arm of the largest expected reward.

        Where that one has no opinion, the next best is asked. Nothing is learned by it.

        Args:
            prompts: ``B`` prompts.
            texts: ``n`` responses to each.
            hidden: Hidden state of each prompt's last token. Shape ``(B, hidden size)``.

        Raises:
            ConfigurationError: If what was learned is about contexts of another size.
        """
        size = self.context.size(hidden.shape[-1])
        if not self._started:  # all arms are expected to be equal then
            self._start(size)
        if size != self.bandit.context_size:
            raise ConfigurationError(
                f"The checkpoint's bandit has contexts of size {self.bandit.context_size}, this policy's have {size}."
                " Predict with the policy and the selection.context of the run."
            )
        contexts = self.context.prepare(hidden.cpu())
        self.bandit.tell(0, [prompt.category for prompt in prompts])
        order = self.bandit.without_exploring(contexts)  # (B, 1 to K)
        means, health = self.bandit.explain(contexts).mean, self.pool.health
        judgement = judge(
            order[:, 0],
            lambda waiting, open_: first_open(order[waiting], open_),
            [[row] for row in range(len(prompts))],
            health.open(self.arms),
            lambda arm, rows: self.panel.ask(self.arms[arm], prompts, texts, rows),
            none_paired,  # an opinion is enough
            torch.zeros(len(prompts), dtype=torch.bool),
            len(texts[0]),
        )
        allowed = allowed_by(self.constraints, self.panel, prompts, texts, self.verdicts)
        stuck = allowed.unchecked or (None if health.open(self.arms).any() else health.nobody_left)
        scores = judgement.scores.masked_fill(~allowed.responses, torch.nan)
        return Best(judgement.judges, means, scores, judgement.lost | allowed.lost, stuck)

    def _judge(self, batch: RolloutBatch, rows: list[list[int]], contexts: Tensor, allowed: Tensor) -> Judgement:
        """Ask the arms that the bandit chooses, or the next best."""
        # A pair of each prompt's shows that its scores distinguish responses.
        pairing = self.pairs if self.needs == "pairs" else BestWorst(per_prompt=1, truncated=self.pairs.truncated)
        judgement = judge(
            self.bandit.select(contexts),
            lambda waiting, open_: self.bandit.next_best(contexts[waiting], open_),
            rows,
            self.pool.health.open(self.arms),
            lambda arm, own: self.panel.ask(self.arms[arm], batch.prompts.prompts, batch.responses.texts, own),
            lambda scores: pairing.pair(batch, scores, self.seed, allowed),
            pairing.can_pair(batch, allowed),
            batch.reference_logprobs.shape[1],
        )
        if not judgement.asked or not self.pool.health.open(self.arms).any():
            self.stuck = self.pool.health.nobody_left
        return judgement

    def _poll(self, batch: RolloutBatch, rows: list[int]) -> Tensor:
        """Every reward model's labels for some rows ``(K, len(rows), n)``."""
        scores = self.panel.ask_all(self.arms, batch.prompts.prompts, batch.responses.texts, rows)
        self.polled |= dict(zip(rows, scores.unbind(1), strict=True))
        return scores

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What was learned so far; empty before the first decision."""
        if not self._started:
            return {}
        return {
            "context_size": self.bandit.context_size,
            "arms": list(self.arms),
            "parts": self._parts(),
            "arm_changes": list(self.arm_changes),
            "measured": self.measured,
            "stuck": self.stuck is not None,
            "verdicts": self.verdicts.as_dict(),
            "accuracies": self.accuracies.state_dict(),
            "bandit": self.bandit.state_dict(),
            "context": self.context.state_dict(),
            "signal": self.signal.state_dict(),
            "normalizer": self.normalizer.state_dict(),
            "labels": self.compared.taught,
            "pool": self.pool.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was learned.

        Raises:
            ConfigurationError: If it was learned by other parts than these.
        """
        if not state_dict:
            return
        state_dict = in_new_words(state_dict)
        try:
            refuse_other_parts(state_dict["parts"], self._parts())
            self._start(state_dict["context_size"])
            self.compared.go_on(state_dict.get("labels", self.compared.digest))
            for part in ("bandit", "context", "signal", "normalizer", "pool"):
                getattr(self, part).load_state_dict(state_dict[part])
            self.measured = state_dict.get("measured", 0)
            self.verdicts.load(state_dict["verdicts"])
            self.accuracies.load_state_dict(state_dict.get("accuracies", {}))
            changes = changes_of_arms(state_dict["arms"], self.arms, self.pool.health.step + 1)
            self.arm_changes = [*state_dict["arm_changes"], *changes]
            if state_dict["stuck"]:  # whoever goes on has mended something
                self.pool.health.clear()
        except KeyError as error:
            raise ConfigurationError(
                f"The checkpoint's selection has no {error}: it was written by another version of laser_pl, or with"
                " another bandit, signal or normalizer than selection names now. Go on with those, or start a new run."
            ) from error

    def _parts(self) -> dict[str, str]:
        """Which classes learn."""
        return {name: type(getattr(self, name)).__name__ for name in ("bandit", "context", "signal", "normalizer")}

    def _start(self, context_size: int) -> None:
        if not self._started:
            self.bandit.start(self.arms, context_size, derive_seed(self.seed, "bandit"))
            self.signal.start(self.arms)
            self.normalizer.start(self.arms)
            self._started = True
        elif self.bandit.context_size != context_size:
            raise ConfigurationError(
                f"The checkpoint's bandit has contexts of size {self.bandit.context_size}, this configuration's have"
                f" {context_size}. Resume with the policy and the selection.context the run was started with."
            )
