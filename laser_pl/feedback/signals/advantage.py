"""What the policy that training started from thinks of the pairs."""

from __future__ import annotations

import torch

from laser_pl.batches import LabelledBatch, PromptLosses
from laser_pl.feedback.observations import Observations, of_chosen_arms
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals.base import Signal
from laser_pl.logprobs.logprob_model import ResponseBatch


class Advantage(Signal):
    """How much likelier the frozen start policy finds chosen than rejected responses, in nats.

    The start policy cannot be talked round: what training has made likely since does not count. It costs one forward of
    the policy for every response in a pair.
    """

    of_pairs = True

    def measure(self, batch: LabelledBatch, losses: PromptLosses, ask: Queries) -> Observations:
        """The mean over each prompt's pairs."""
        pairs, n = batch.pairs, batch.responses.tokens.shape[1]
        if len(pairs) == 0:
            nothing = torch.full((len(batch),), torch.nan)
            return of_chosen_arms(batch, nothing, nothing)
        both = torch.stack([pairs.prompt * n + pairs.chosen, pairs.prompt * n + pairs.rejected])  # (2, M)
        distinct, place = torch.unique(both, return_inverse=True)  # (R,), (2, M)
        tokens, mask = batch.responses.tokens.flatten(0, 1), batch.responses.mask.flatten(0, 1)  # (B n, T)
        logprobs = ask.start_logprobs(ResponseBatch(batch.prompts, distinct // n, tokens[distinct], mask[distinct]))
        chosen, rejected = logprobs.double()[place]  # (M,) each
        count = torch.bincount(pairs.prompt, minlength=len(batch))
        total = torch.zeros(len(batch), dtype=torch.float64, device=chosen.device)
        values = total.index_add(0, pairs.prompt, chosen - rejected) / count  # (B,) NaN: no pair
        return of_chosen_arms(batch, values, torch.zeros_like(values))
