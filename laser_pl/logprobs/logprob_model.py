"""How a policy's responses are read: prompts shared where the model allows it, in groups under a token budget."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from laser_pl.batches import PromptBatch, Responses
from laser_pl.logprobs.contexts import prompt_contexts
from laser_pl.logprobs.manner import manner_of
from laser_pl.logprobs.micro_batches import MicroBatch, micro_batches
from laser_pl.logprobs.packed import shared_logprobs, why_not_shared
from laser_pl.logprobs.padded import response_logprobs
from laser_pl.logprobs.shared_prefix import shared_prefix
from laser_pl.logprobs.text_decoder import without_wrapper
from laser_pl.runtime.lockstep import as_many_everywhere, one_token
from laser_pl.runtime.sharding import is_sharded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResponseBatch:
    """Prompts and the responses to read.

    Attributes:
        prompts: The ``B`` prompts.
        prompt: The prompt of each response. Shape ``(R,)``, int64.
        tokens: Responses including EOS, padded on the right. Shape ``(R, T)``.
        mask: 1 for a real token. Shape ``(R, T)``.
    """

    prompts: PromptBatch
    prompt: Tensor
    tokens: Tensor
    mask: Tensor

    @staticmethod
    def of(prompts: PromptBatch, responses: Responses) -> ResponseBatch:
        """All responses to all prompts, in order."""
        prompt = torch.arange(len(prompts), device=responses.tokens.device).repeat_interleave(responses.tokens.shape[1])
        return ResponseBatch(prompts, prompt, responses.tokens.flatten(0, 1), responses.mask.flatten(0, 1))


class LogprobModel:
    """Log-probabilities of responses under a model, and what it makes of prompts.

    Args:
        model: A Hugging Face causal language model, inside PEFT's wrapper or not.
        budget: Tokens in one forward.
        share: Read a prompt once for all its responses, where the model allows it.

    Attributes:
        shares: Whether it is done so.
    """

    def __init__(self, model: Any, budget: int, share: bool = True) -> None:
        manner_of(without_wrapper(model))  # which refuses what is no causal language model
        self.model = model
        self.budget = budget
        reason = why_not_shared(model) if share else None
        self.shares = share and reason is None
        if reason is not None:
            log.warning("Each response is read with a prompt of its own, which is slower than sharing one: %s.", reason)

    def groups(self, responses: ResponseBatch) -> list[list[MicroBatch]]:
        """Which responses go through the model together."""
        heads, tails = responses.prompts.mask.sum(-1), responses.mask.sum(-1)
        start = shared_prefix(responses.prompts.tokens, responses.prompts.mask) if self.shares else 0
        return micro_batches(heads - start, responses.prompt, tails, self.budget - start, self.shares)

    def groups_to_train(self, responses: ResponseBatch) -> list[list[MicroBatch]]:
        """The same; where weights are shared out, as many as every other process has. Empty ones may be among them."""
        groups = self.groups(responses)
        return as_many_everywhere(groups) if self.sharded else groups

    @property
    def sharded(self) -> bool:
        """Whether processes share the model's weights out, so that all have to make equally many forwards."""
        return is_sharded(without_wrapper(self.model))

    def logprobs(self, responses: ResponseBatch, part: MicroBatch) -> Tensor:
        """Log-probability of some of the responses in nats, by one forward. Shape ``(len(part),)``."""
        if not part:  # others have one
            return one_token(without_wrapper(self.model)).flatten()[:0].float()
        rows = torch.tensor(part, device=responses.prompt.device)
        tokens, mask = responses.tokens[rows], responses.mask[rows]
        if not self.shares:
            prompt = responses.prompt[rows]
            prompts = responses.prompts.tokens[prompt], responses.prompts.mask[prompt]
            return response_logprobs(self.model, *prompts, tokens, mask)
        used, prompt = torch.unique(responses.prompt[rows], return_inverse=True)
        prompts = responses.prompts.tokens[used], responses.prompts.mask[used]
        return shared_logprobs(self.model, *prompts, prompt, tokens, mask)

    def group_logprobs(self, responses: ResponseBatch, group: list[MicroBatch], recompute: bool) -> Tensor:
        """The same for a group, part after part.

        Args:
            responses: What is read.
            group: Its parts.
            recompute: Forget activations and compute them again in the backward pass, dropout included. So is it done
                with a group of several parts, whatever is asked for. Not where weights are shared out: going backward
                all of them would have to be there at once.
        """
        if torch.is_grad_enabled() and (recompute or len(group) > 1) and not self.sharded:
            return torch.cat([checkpoint(self.logprobs, responses, part, use_reentrant=False) for part in group])
        return torch.cat([self.logprobs(responses, part) for part in group])

    def all_logprobs(self, responses: ResponseBatch) -> Tensor:
        """Log-probability of every response in nats, without gradient. Shape ``(R,)``."""
        parts = [part for group in self.groups(responses) for part in group]
        with torch.no_grad():
            logprobs = torch.cat([self.logprobs(responses, part) for part in parts])
        rows = torch.tensor([row for part in parts for row in part], device=logprobs.device)
        return torch.empty_like(logprobs).index_copy(0, rows, logprobs)

    def contexts(self, prompts: PromptBatch) -> Tensor:
        """The hidden state of each prompt's last token after the final norm, without gradient.

        Returns:
            In float32. Shape ``(B, d)``.
        """
        lengths, every = prompts.mask.sum(-1), torch.arange(len(prompts), device=prompts.mask.device)
        groups = micro_batches(lengths, every, torch.zeros_like(lengths), self.budget, shared=True)
        parts = [part for group in groups for part in group]
        batches = map(prompts.part, parts)
        with torch.no_grad():
            found = [prompt_contexts(self.model, batch.tokens, batch.mask, self.shares) for batch in batches]
        return torch.cat(found)[torch.tensor([row for part in parts for row in part]).argsort()]
