"""The bandit and the reward models, wired into training."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from laser_pl.bandits.base import Bandit
from laser_pl.bandits.context import ContextPreparation
from laser_pl.batches import Preferences, PromptLosses, RolloutBatch
from laser_pl.data.datamodule import PreferenceData
from laser_pl.data.loaders import RolloutLoader
from laser_pl.data.pairs import Pairing
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.instruments import Instruments
from laser_pl.feedback.observations import Observations, mean_by_arm
from laser_pl.feedback.scales import Scale
from laser_pl.feedback.signals import Signal
from laser_pl.feedback.signals.loss import SAYS_NOTHING, says_nothing
from laser_pl.policy import Policy
from laser_pl.ranks import Ranks
from laser_pl.rewards.asker import Asker, means
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.characters import characters_of
from laser_pl.rewards.constraints import Constraint, Verdicts
from laser_pl.rewards.costs import Costs
from laser_pl.rewards.health import Health
from laser_pl.rewards.memory import Memory
from laser_pl.rewards.pool import Pool
from laser_pl.run.metrics_file import forget_last, last_logged
from laser_pl.seeds import derive_seed
from laser_pl.selection.agreement import probe
from laser_pl.selection.decision import Decision, category_of, conclude, decide
from laser_pl.selection.fallback import Judgement, Labels, judge
from laser_pl.selection.told_nothing import observed

log = logging.getLogger(__name__)


class RewardSelection(Callback):
    """Chooses a reward model before each training step and learns from the step's loss.

    Just before ``training_step`` it puts preferences into the batch; the module never calls it. The choice for step
    t + 1 has seen the result of step t. Where the chosen reward model tells no responses apart, the next best is asked.

    With several processes each holds the whole batch and the whole bandit, and scores the rows it trains; scores and
    losses are exchanged, so that all decide and learn the same.

    On resume it takes up what was learned (bandit, context mean, scales, counts); what it is configured with comes from
    the configuration alone. An arm is known by its name: a new name starts fresh, a name that is gone is forgotten.

    Args:
        reward_models: The reward models (arms), by names of your own.
        bandit: Chooses one of them.
        context: Prepares hidden states for the bandit.
        signal: What a trained batch says about its judges.
        scale: Turns that into rewards.
        pairs: Makes preference pairs from scores.
        granularity: What gets one arm. A ``batch``, each ``category`` in it, each ``prompt``, or what each process
            trains of the batch (``rank``); the context is the mean of the prompts'.
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
        stuck: Why training cannot go on, once no reward model is left that could judge.
        arm_changes: Which arms came and went when the run was continued.
        probed: What the agreement probe found before the last batch, as lines of ``agreement.jsonl``.
        polled: Every arm's scores ``(K, n)`` for those rows of the last batch for which the signal asked them.
    """

    def __init__(
        self,
        reward_models: dict[str, RewardModel],
        bandit: Bandit,
        context: ContextPreparation,
        signal: Signal,
        scale: Scale,
        pairs: Pairing,
        granularity: Literal["batch", "category", "prompt", "rank"] = "batch",
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
        _refuse_names(self.arms, list(self.constraints))
        models = {**reward_models, **{name: c.reward_model for name, c in self.constraints.items()}}
        health = Health(list(models), max_failures, cooldown)
        self.pool = Pool(models, Memory(models, memory_budget, spill), health)
        bandit.check(self.arms)
        self.bandit = bandit
        self.context = context
        self.signal = signal
        signal.follow(seed)
        self.scale = scale
        self.pairs = pairs
        self.granularity = granularity
        if agreement_probe < 0:
            raise ConfigurationError(
                f"agreement_probe must be >= 0, got {agreement_probe}. Set selection.agreement_probe in the config."
            )
        self.agreement_probe = agreement_probe
        self.check_ranks = check_ranks
        self.seed = seed
        self.ranks = Ranks()
        self.decisions: list[Decision] = []
        self.verdicts = Verdicts()
        self.stuck: str | None = None
        self.arm_changes: list[dict[str, Any]] = []
        self.probed: list[dict[str, Any]] = []
        self.polled: dict[int, Tensor] = {}
        self._rows: list[list[int]] = []  # of the batch, for each of the M decisions under way
        self._contexts = torch.empty(0)  # (M, d)
        self._judgement: Judgement | None = None  # of the batch
        self._measured = 0  # observations of the signal in this iteration
        self._before = Costs()  # what the pool had cost when the step began
        self._started = False
        self.asker: Asker | None = None

    # -- hooks -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that signal and objective fit, and that the reward models are there."""
        if stage != "fit":
            return
        self.ranks = Ranks.of(trainer)
        assert isinstance(pl_module, Policy)
        self.pool.grade_by(pl_module.matcher)
        self.asker = Asker.with_tokenizer(pl_module.tokenizer)
        self.pool.asked_by(self.asker)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PreferenceData)
        if not self.pool.checked:  # the command line does it before anything is measured
            self.pool.check(data.prompts["train"], partial(characters_of, pl_module.tokenizer))
        if says_nothing(self.signal, pl_module.nll_weight):
            log.warning(SAYS_NOTHING)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the iteration's contexts into the running mean; all of them are known by now."""
        loader = trainer.train_dataloader
        assert isinstance(loader, RolloutLoader)
        self.context.observe(torch.cat([batch.contexts for batch in loader.batches]))
        self._measured = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why, if the signal observed nothing in the whole iteration."""
        loader = trainer.train_dataloader
        assert isinstance(loader, RolloutLoader)
        if self._measured == 0 and self.ranks.rank == 0:
            why = self.signal.silence([prompt for batch in loader.batches for prompt in batch.prompts.prompts])
            log.warning("%s observed nothing in iteration %d, so that the bandit learned nothing from it: %s.",
                        type(self.signal).__name__, trainer.current_epoch + 1, why)  # fmt: skip

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Choose, score, forbid, pair."""
        self._start(self.context.size(batch.contexts.shape[-1]))
        self._before = self.pool.costs
        self.polled = {}
        self._show(trainer, batch)
        self.pool.health.step = step = trainer.fit_loop.epoch_loop.total_batch_idx
        self._rows = self._rows_of_decisions(batch)
        hidden, prompts = batch.contexts.cpu(), batch.prompts.prompts
        self._contexts = self.context.prepare(torch.stack([hidden[own].mean(0) for own in self._rows]))
        self.bandit.tell(batch.iteration, [category_of([prompts[row] for row in own]) for own in self._rows])
        explanation = self.bandit.explain(self._contexts)
        # The hook runs outside the precision plugin's context, in which the reward models are meant to run.
        with trainer.precision_plugin.forward_context():
            self.probed = self._probe(trainer, batch_idx, pl_module.device)
            allowed, forbidden = self._forbid(batch, pl_module.device)
            self._judgement = judgement = self._judge(batch, allowed, pl_module.device)
        arms = judgement.arms[self._decision_of_rows(len(batch))]
        batch.preferences = Preferences(arms, judgement.scores, judgement.pairs)
        costs = self.pool.costs - self._before
        self.decisions = decide(batch, self._rows, step, self.arms, explanation, judgement, forbidden, costs)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Let the bandit learn from the step, and from what it did not train: who was asked and told nothing apart.

        Of a step that was skipped the loss says nothing; what all arms were asked about is as true as ever.
        """
        assert isinstance(pl_module, Policy)
        assert self._judgement is not None
        losses: PromptLosses = outputs["prompt_losses"]
        if not pl_module.step.learned:
            losses = losses.unknown()
        ask = Instruments(
            lambda rows: self._poll(batch, rows, pl_module.device),
            pl_module.logprobs,
            pl_module.start_logprobs,
            pl_module.matcher,
        )
        with trainer.precision_plugin.forward_context():
            seen = self.signal.measure(batch, losses, ask)
        seen = self.ranks.gather(seen)[0]  # the same everywhere, but for the rounding of unlike devices
        seen = mean_by_arm(seen, self._decision_of_rows(len(batch)))
        self._measured += len(seen.arm)
        by_chance = self.signal.chance(batch, losses).to("cpu", torch.float64, copy=True)  # (B,)
        by_chance[list(self.polled)] = torch.nan  # there all were asked for the signal, which knows better
        seen, rivals = observed(
            seen, self._judgement, torch.stack([by_chance[own].nanmean() for own in self._rows]), len(self.arms)
        )
        contexts = self._contexts[seen.prompt]  # (O, d)
        rewards = self.scale.rewards(contexts, seen.arm, seen.value, seen.chance)
        self.bandit.learn(contexts, seen.arm, rewards, rivals)
        self._teach_judges(batch, seen, rewards)
        costs = self.pool.costs - self._before
        self.decisions = conclude(self.decisions, self._rows, self.arms, losses, seen, rewards, costs)
        assert self.asker is not None
        told = means(self.ranks.gather(self.asker.told()))
        forget_last(trainer, [name for name in last_logged(trainer) if name.startswith("reward/") and name not in told])
        pl_module.log_dict(told, on_step=True)
        if self.check_ranks:
            self.ranks.check_equal(self.state_dict(), "The selection")

    def _show(self, trainer: Trainer, batch: RolloutBatch) -> None:
        """What reward functions may see of the run."""
        assert self.asker is not None
        self.asker.shows(batch)
        state, batches = self.asker.state, int(trainer.num_training_batches)
        state.global_step = trainer.global_step
        state.epoch = trainer.fit_loop.epoch_loop.total_batch_idx / batches
        state.num_train_epochs = trainer.max_epochs or 0
        state.max_steps = state.num_train_epochs * batches // trainer.accumulate_grad_batches

    def _probe(self, trainer: Trainer, batch_idx: int, device: torch.device) -> list[dict[str, Any]]:
        """At an iteration's start, what all arms say of a few of its prompts."""
        if batch_idx > 0 or self.agreement_probe == 0:
            return []
        assert isinstance(trainer.train_dataloader, RolloutLoader)
        batches = trainer.train_dataloader.batches
        return probe(batches, self.agreement_probe, self.seed, self.pool, self.arms, device, self.ranks)

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge(self, batch: RolloutBatch, allowed: Tensor, device: torch.device) -> Judgement:
        """Ask the arms that the bandit chooses, or the next best."""
        health = self.pool.health
        may_be_asked = torch.tensor([health.may_be_asked(name) for name in self.arms])  # (K,)
        judgement = judge(
            self.bandit,
            self._contexts,
            self._rows,
            may_be_asked,
            lambda arm, rows: self._ask(self.arms[arm], batch, rows, device),
            lambda scores: self.pairs.pair(batch, scores, self.seed, allowed),
            self.pairs.can_pair(batch, allowed),
            batch.reference_logprobs.shape[1],
        )
        if not judgement.asked or not any(health.may_be_asked(name) for name in self.arms):
            self.stuck = f"No reward model is left that can judge; the last one that failed was {health.last_reason}."
        return judgement

    def _teach_judges(self, batch: RolloutBatch, seen: Observations, rewards: Tensor) -> None:
        """Tell the reward models what the bandit learned of their judgement, whoever among their members learns."""
        assert batch.preferences is not None
        arms, pairs = batch.preferences.arms, batch.preferences.pairs.to("cpu")
        decision = self._decision_of_rows(len(batch))
        learners, lessons = [], []
        for arm, name in enumerate(self.arms):
            own = seen.arm == arm
            of_decision = torch.full((len(self._rows),), torch.nan, dtype=torch.float64)
            of_decision[seen.prompt[own]] = rewards[own]
            judged = of_decision[decision].masked_fill(arms != arm, torch.nan)  # (B,)
            for learner in self.pool.reward_models[name].learners():
                learners.append(learner)
                lessons.append(learner.lessons(batch.prompts.prompts, pairs, judged, batch.responses.texts))
        every = self.ranks.gather(lessons)
        for number, learner in enumerate(learners):
            learner.learn(dict(sorted(lesson for one in every for lesson in one[number].items())))

    def _poll(self, batch: RolloutBatch, rows: list[int], device: torch.device) -> Tensor:
        """Every reward model's labels for some rows ``(K, len(rows), n)``."""
        scores = torch.stack([self._ask(name, batch, rows, device).scores for name in self.arms])
        self.polled |= dict(zip(rows, scores.unbind(1), strict=True))
        return scores

    def _ask(self, name: str, batch: RolloutBatch, rows: list[int], device: torch.device) -> Labels:
        """One reward model's labels for some rows, each asked where it is trained; none if it is aside."""
        n = batch.reference_logprobs.shape[1]
        labels = torch.full((len(batch), n), float("nan"), dtype=torch.float64)
        failed = False
        if self.pool.health.may_be_asked(name):
            own = [row for row in rows if self.ranks.rank_of(row) == self.ranks.rank]
            prompts = [batch.prompts.prompts[row] for row in own]
            responses = [batch.responses.texts[row] for row in own]
            answers = self.ranks.gather(self.pool.ask(name, prompts, responses, device))
            self.pool.note(name, answers)
            failed = any(answer.failure is not None for answer in answers)
            for rank, answer in enumerate(answers):
                theirs = [row for row in rows if self.ranks.rank_of(row) == rank]
                labels[theirs] = answer.labels.reshape(len(theirs), n)
        return Labels(labels[rows], failed)

    def _forbid(self, batch: RolloutBatch, device: torch.device) -> tuple[Tensor, dict[str, int]]:
        """Which responses every constraint allows to be chosen ``(B, n)``, and how many each forbids."""
        allowed = torch.ones(batch.reference_logprobs.shape, dtype=torch.bool)
        forbidden = {}
        for name, constraint in self.constraints.items():
            labels = self._ask(name, batch, list(range(len(batch))), device)
            passed = labels.scores >= constraint.threshold  # NaN is not
            self.verdicts.note(name, batch.prompts.prompts, passed)
            forbidden[name] = int((~passed).sum())
            allowed &= passed
            if not self.pool.health.may_be_asked(name):
                self.stuck = f"The constraint '{name}' cannot be checked; {self.pool.health.last_reason}."
        return allowed, forbidden

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
            "measured": self._measured,
            "stuck": self.stuck is not None,
            "verdicts": self.verdicts.as_dict(),
            "bandit": self.bandit.state_dict(),
            "context": self.context.state_dict(),
            "signal": self.signal.state_dict(),
            "scale": self.scale.state_dict(),
            "pool": self.pool.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was learned.

        Raises:
            ConfigurationError: If it was learned by other parts than these.
        """
        if not state_dict:
            return
        try:
            self._refuse_other_parts(state_dict["parts"])
            self._start(state_dict["context_size"])
            for part in ("bandit", "context", "signal", "scale", "pool"):
                getattr(self, part).load_state_dict(state_dict[part])
            self._measured = state_dict.get("measured", 0)
            self.verdicts.load(state_dict["verdicts"])
            self.arm_changes = list(state_dict["arm_changes"])
            self._note_arm_changes(state_dict["arms"])
            if state_dict["stuck"]:  # whoever goes on has mended something
                self.pool.health.clear()
        except KeyError as error:
            raise ConfigurationError(
                f"The checkpoint's selection has no {error}: it was written by another version of laser_pl, or with"
                " another bandit, signal or scale than selection names now. Go on with those, or start a new run."
            ) from error

    def _parts(self) -> dict[str, str]:
        """Which classes learn."""
        return {name: type(getattr(self, name)).__name__ for name in ("bandit", "context", "signal", "scale")}

    def _refuse_other_parts(self, before: dict[str, str]) -> None:
        for name, now in self._parts().items():
            if before[name] != now:
                raise ConfigurationError(
                    f"The checkpoint's {name} is {before[name]}, and selection.{name} is {now} now. Go on with"
                    f" {before[name]}, or start a new run."
                )

    def _note_arm_changes(self, before: list[str]) -> None:
        added = [name for name in self.arms if name not in before]
        removed = [name for name in before if name not in self.arms]
        if added or removed:
            self.arm_changes.append({"step": self.pool.health.step + 1, "added": added, "removed": removed})
            log.info("Arms that start fresh: %s. Arms that are gone: %s. The bandit keeps what it knew of the others.",
                     ", ".join(added) or "none", ", ".join(removed) or "none")  # fmt: skip

    def _start(self, context_size: int) -> None:
        if not self._started:
            self.bandit.start(self.arms, context_size, derive_seed(self.seed, "bandit"))
            self.signal.start(self.arms)
            self.scale.start(self.arms)
            self._started = True
        elif self.bandit.context_size != context_size:
            raise ConfigurationError(
                f"The checkpoint's bandit has contexts of size {self.bandit.context_size}, this configuration's have"
                f" {context_size}. Resume with the policy and the selection.context the run was started with."
            )

    def _rows_of_decisions(self, batch: RolloutBatch) -> list[list[int]]:
        """Which rows of the batch each decision is about."""
        groups: dict[Any, list[int]] = {}
        for row, prompt in enumerate(batch.prompts.prompts):
            of = {"batch": 0, "category": prompt.category, "prompt": row, "rank": self.ranks.rank_of(row)}
            group = of[self.granularity]
            groups.setdefault(group, []).append(row)
        return list(groups.values())

    def _decision_of_rows(self, prompts: int) -> Tensor:
        """Which decision each row of the batch belongs to. Shape ``(B,)``, int64."""
        decision = torch.empty(prompts, dtype=torch.long)
        for m, own in enumerate(self._rows):
            decision[own] = m
        return decision


def _refuse_names(arms: list[str], constraints: list[str]) -> None:
    if not arms:
        raise ConfigurationError("selection.reward_models is empty. Name at least one reward model.")
    both = sorted(set(arms) & set(constraints))
    if both:
        raise ConfigurationError(
            f"'{both[0]}' names a reward model and a constraint. Give one of them, under selection, another name."
        )
