"""What a step gained on a few fixed questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from laser_pl.batches import LabelledBatch, Prompt, PromptBatch, PromptLosses, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.feedback.observations import Observations, of_chosen_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals.base import Signal
from laser_pl.logprobs.logprob_model import ResponseBatch
from laser_pl.logprobs.padding import pad_left, pad_right
from laser_pl.metrics.grader import Grader, divided

Probe = tuple[list[int], list[int], list[int]]
"""Token ids of a prompt, of a right response and of a wrong one."""


class ProbeGain(Signal):
    """How much a step raised the log-odds of right over wrong responses to prompts with answers.

    It measures what we want, and nothing else that a reward model might please; but one step moves few questions, so
    it is noisy, and all arms that scored in a step share its gain. It costs two forwards of the policy per probe and
    step.

    Args:
        size: Probes, >= 1. They are the first prompts of the run that have right and wrong responses.
        matcher: Decides whether a response is right; null: ``model.matcher``.
    """

    def __init__(
        self,
        size: int = 32,
        matcher: Grader | None = None,
    ) -> None:
        if size < 1:
            raise ConfigurationError(f"size must be >= 1, got {size}. Set selection.signal.size in the config.")
        self.size = size
        self.matcher = matcher
        self.probes: list[Probe] = []
        self.margins: list[float] = []  # of each probe after the last step

    def check(self, categories: Sequence[str]) -> None:
        """See that its own matcher, if it has one, can grade them all."""
        if self.matcher is not None:
            self.matcher.check(categories)

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """The mean gain of all probes, about every arm that scored in the step."""
        known = len(self.probes)
        self._collect(batch, self.matcher or ask.grader)
        values = torch.full((len(batch),), torch.nan, dtype=torch.float64)
        if self.probes and (len(self.margins) < len(self.probes) or bool(losses.loss.isfinite().any())):
            right, wrong = ask.logprobs(_reading(self.probes, batch.prompts.tokens.device)).double().cpu().view(2, -1)
            margins = (right - wrong).tolist()
            gains = [after - before for after, before in zip(margins, self.margins, strict=False)]
            if known:
                values[losses.loss.isfinite().cpu()] = sum(gains) / known
            self.margins = margins
        return of_chosen_arms(batch, values, torch.zeros_like(values))

    def _collect(self, batch: RolloutBatch, grader: Grader) -> None:
        prompts, responses = batch.prompts, batch.responses
        for row, prompt in enumerate(prompts.prompts):
            if len(self.probes) >= self.size:
                return
            right = divided(grader, responses.texts[row], prompt)
            if right is not None:
                head = prompts.tokens[row][prompts.mask[row].bool()].tolist()
                first_right, first_wrong = (
                    responses.tokens[row, i][responses.mask[row, i].bool()].tolist()
                    for i in (right.index(True), right.index(False))
                )
                self.probes.append((head, first_right, first_wrong))

    def state_dict(self) -> dict[str, Any]:
        """The probes, and where the policy stood on them."""
        return {"probes": list(self.probes), "margins": list(self.margins)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.probes = [(head, right, wrong) for head, right, wrong in state["probes"]]
        self.margins = list(state["margins"])


def _reading(probes: list[Probe], device: torch.device) -> ResponseBatch:
    """All right responses, then all wrong ones."""
    heads = [head for head, _, _ in probes]
    tails = [right for _, right, _ in probes] + [wrong for _, _, wrong in probes]
    prompts = tuple(Prompt(str(i), "", "") for i in range(len(probes)))
    of = torch.arange(len(probes), device=device).repeat(2)
    return ResponseBatch(PromptBatch(prompts, *pad_left(heads, 0, device)), of, *pad_right(tails, 0, device))
