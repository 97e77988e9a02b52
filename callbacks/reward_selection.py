"""The bandit and the reward models, wired into training."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from laser_pl.bandits.base import Bandit, Explanation
from laser_pl.bandits.context import ContextPreparation
from laser_pl.batches import Preferences, PromptLosses, RolloutBatch
from laser_pl.data.loaders import RolloutLoader
from laser_pl.data.pairs import Pairing
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.scales import Scale
from laser_pl.feedback.signals import Loss, Observations, Signal
from laser_pl.policy import Policy
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.pool import Pool
from laser_pl.seeds import derive_seed

log = logging.getLogger(__name__)


@dataclass
class Decision:
    """One line of ``selection.jsonl``: which arm for which prompts, why, and what came of it.

    Attributes:
        iteration: Counted from 0.
        step: The training step, counted from 0 over the run.
        prompt_ids: The prompts it was made for: a batch's, or one.
        category: Their category; null for a mixed batch.
        arm: The chosen reward model.
        mean: The bandit's expected reward of each arm.
        bonus: Its exploration bonus of each arm.
        pairs: Preference pairs made.
        prompts_without_pairs: Prompts for which none could be made.
        reward_model_seconds: Time for loading and scoring, of the whole batch.
        loss: Mean training loss over the prompts with pairs; null if there were none.
        dpo: Its DPO part.
        nll: Its NLL part, unweighted.
        observed: What the signal said of each arm, unscaled.
        reward: What the bandit learned of each arm.
    """

    iteration: int
    step: int
    prompt_ids: list[str]
    category: str | None
    arm: str
    mean: dict[str, float]
    bonus: dict[str, float]
    pairs: int
    prompts_without_pairs: int
    reward_model_seconds: float
    loss: float | None = None
    dpo: float | None = None
    nll: float | None = None
    observed: dict[str, float] | None = None
    reward: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Builtins only, for JSON."""
        return asdict(self)


class RewardSelection(Callback):
    """Chooses a reward model before each training step and learns from the step's loss.

    Just before ``training_step`` it puts preferences into the batch; the module never calls it. The choice for step
    t + 1 has seen the result of step t.

    On resume it takes up what was learned (bandit, context mean, scales, counts); what it is configured with comes from
    the configuration alone.

    Args:
        reward_models: The arms, by name.
        bandit: Chooses among them.
        context: Prepares hidden states for the bandit.
        signal: What a trained batch says about its judges.
        scale: Turns that into rewards.
        pairs: Makes preference pairs from scores.
        granularity: One arm for a ``batch``, whose context is the mean of its prompts', or one for each ``prompt``.
        seed: Root of the bandit's and the pairs' randomness.
    """

    def __init__(
        self,
        reward_models: dict[str, RewardModel],
        bandit: Bandit,
        context: ContextPreparation,
        signal: Signal,
        scale: Scale,
        pairs: Pairing,
        granularity: Literal["batch", "prompt"] = "batch",
        seed: int = 0,
    ) -> None:
        self.pool = Pool(reward_models)
        bandit.check(self.pool.names)
        self.bandit = bandit
        self.context = context
        self.signal = signal
        self.scale = scale
        self.pairs = pairs
        self.granularity = granularity
        self.seed = seed
        self.decisions: list[Decision] = []
        self._contexts: Tensor | None = None  # (M, d) of the decisions under way
        self._started = False

    # -- hooks -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that signal and objective fit, and that the reward models are there."""
        if stage != "fit":
            return
        for reward_model in self.pool.reward_models.values():
            reward_model.check()
        if isinstance(self.signal, Loss) and isinstance(pl_module, Policy) and pl_module.nll_weight == 0:
            log.warning(
                "The bandit learns from the loss, and the loss is DPO alone, which says nothing about which reward"
                " model is right: its first value is ln 2 whoever judged. Train with model.nll_weight > 0, or set"
                " selection.signal to laser_pl.feedback.signals.Gap, Nll or Trusted."
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the iteration's contexts into the running mean; all of them are known by now."""
        loader = trainer.train_dataloader
        assert isinstance(loader, RolloutLoader)
        self.context.observe(torch.cat([batch.contexts for batch in loader.batches]))

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Choose, score, pair."""
        self._start(self.context.size(batch.contexts.shape[-1]))
        hidden = batch.contexts.cpu()
        self._contexts = self.context.prepare(hidden if self.granularity == "prompt" else hidden.mean(0, keepdim=True))
        explanation = self.bandit.explain(self._contexts)
        chosen = self.bandit.select(self._contexts)  # (M,)
        arms = chosen if self.granularity == "prompt" else chosen.expand(len(batch))  # (B,)
        seconds = self.pool.seconds
        # The hook runs outside the precision plugin's context, in which the reward models are meant to run.
        with trainer.precision_plugin.forward_context():
            scores = self.pool.score_by_arm(arms, batch.prompts.prompts, batch.responses.texts, pl_module.device)
        batch.preferences = Preferences(arms, scores, self.pairs.pair(batch, scores, self.seed))
        self.decisions = self._decide(batch, explanation, trainer, self.pool.seconds - seconds)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RolloutBatch, batch_idx: int
    ) -> None:
        """Let the bandit learn from the step. A batch without pairs teaches nothing."""
        if not outputs:
            return
        losses: PromptLosses = outputs["prompt_losses"]

        def score_all(rows: list[int]) -> Tensor:
            prompts = [batch.prompts.prompts[row] for row in rows]
            responses = [batch.responses.texts[row] for row in rows]
            with trainer.precision_plugin.forward_context():
                arms = range(len(self.pool.names))
                return torch.stack([self.pool.score(arm, prompts, responses, pl_module.device) for arm in arms])

        seen = self.signal.measure(batch, losses, score_all)
        if self.granularity == "batch":
            seen = _mean_by_arm(seen)
        assert self._contexts is not None
        contexts = self._contexts[seen.prompt]  # (O, d)
        rewards = self.scale.rewards(contexts, seen.value, seen.chance)
        self.bandit.update(contexts, seen.arm, rewards)
        self._conclude(batch, losses, seen, rewards)

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What was learned so far; empty before the first decision."""
        if not self._started:
            return {}
        return {
            "context_size": self.bandit.context_size,
            "bandit": self.bandit.state_dict(),
            "context": self.context.state_dict(),
            "signal": self.signal.state_dict(),
            "scale": self.scale.state_dict(),
            "pool": self.pool.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was learned."""
        if state_dict:
            self._start(state_dict["context_size"])
            for part in ("bandit", "context", "signal", "scale", "pool"):
                getattr(self, part).load_state_dict(state_dict[part])

    def _start(self, context_size: int) -> None:
        if not self._started:
            self.bandit.start(self.pool.names, context_size, derive_seed(self.seed, "bandit"))
            self.signal.start(self.pool.names)
            self._started = True
        elif self.bandit.context_size != context_size:
            raise ConfigurationError(
                f"The checkpoint's bandit has contexts of size {self.bandit.context_size}, this configuration's have"
                f" {context_size}. Resume with the policy and the selection.context the run was started with."
            )

    # -- records -----------------------------------------------------------------------------------------------------

    def _decide(self, batch: RolloutBatch, why: Explanation, trainer: Trainer, seconds: float) -> list[Decision]:
        assert batch.preferences is not None
        count = torch.bincount(batch.preferences.pairs.prompt.cpu(), minlength=len(batch))  # (B,)
        decisions = []
        for row, rows in enumerate(self._rows_of_decisions(len(batch))):
            prompts = [batch.prompts.prompts[r] for r in rows]
            categories = {prompt.category for prompt in prompts}
            decisions.append(
                Decision(
                    iteration=batch.iteration,
                    step=trainer.fit_loop.epoch_loop.total_batch_idx,
                    prompt_ids=[prompt.id for prompt in prompts],
                    category=categories.pop() if len(categories) == 1 else None,
                    arm=self.pool.names[int(batch.preferences.arms[rows[0]])],
                    mean=dict(zip(self.pool.names, why.mean[row].tolist(), strict=True)),
                    bonus=dict(zip(self.pool.names, why.bonus[row].tolist(), strict=True)),
                    pairs=int(count[rows].sum()),
                    prompts_without_pairs=int((count[rows] == 0).sum()),
                    reward_model_seconds=seconds,
                )
            )
        return decisions

    def _conclude(self, batch: RolloutBatch, losses: PromptLosses, seen: Observations, rewards: Tensor) -> None:
        concluded = []
        for row, rows in enumerate(self._rows_of_decisions(len(batch))):
            own = torch.nonzero(seen.prompt == row).squeeze(-1).tolist()
            names = [self.pool.names[int(seen.arm[o])] for o in own]
            concluded.append(
                replace(
                    self.decisions[row],
                    loss=_mean(losses.total[rows]),
                    dpo=_mean(losses.dpo[rows]),
                    nll=_mean(losses.nll[rows]),
                    observed=dict(zip(names, seen.value[own].tolist(), strict=True)),
                    reward=dict(zip(names, rewards[own].tolist(), strict=True)),
                )
            )
        self.decisions = concluded

    def _rows_of_decisions(self, prompts: int) -> list[list[int]]:
        """Which rows of the batch each decision is about."""
        return [[row] for row in range(prompts)] if self.granularity == "prompt" else [list(range(prompts))]


def _mean_by_arm(seen: Observations) -> Observations:
    """One observation per arm for the whole batch, whose only context is row 0."""
    arms = torch.tensor(sorted(set(seen.arm.tolist())), dtype=torch.long)  # (O,)
    of_arm = (seen.arm == arms[:, None]).double()  # (O, observations)
    of_arm = of_arm / of_arm.sum(-1, keepdim=True)
    return Observations(torch.zeros_like(arms), arms, of_arm @ seen.value, of_arm @ seen.chance)


def _mean(values: Tensor) -> float | None:
    values = values[~values.isnan()]
    return float(values.mean()) if len(values) else None
