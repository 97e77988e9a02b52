"""Prompts and their responses as one row of tokens without padding, each prompt once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Where sequences of different lengths lie in a flat row, and how to lay them side by side.

    Attributes:
        index: Flat index of token t of each sequence; what pads points to the first token of all. Shape ``(S, T)``.
        real: Whether there is such a token. Shape ``(S, T)``, bool.
        dense: Whether all sequences have one length, so that laying them side by side moves nothing.
        flat: Where in ``(S * T)`` each token of the flat row lies. Shape ``(N,)``.
    """

    index: Tensor
    real: Tensor
    dense: bool
    flat: Tensor

    @staticmethod
    def of(lengths: Tensor) -> Places:
        """Places of sequences that follow one another without a gap; ``lengths`` has the shape ``(S,)``."""
        width = int(lengths.max()) if len(lengths) else 0
        steps = torch.arange(width, device=lengths.device)
        real = steps < lengths[:, None]  # (S, T)
        start = lengths.cumsum(0) - lengths  # (S,)
        index = (start[:, None] + steps).masked_fill(~real, 0)
        return Places(index, real, bool(real.all()), real.flatten().nonzero().squeeze(-1))

    def side_by_side(self, flat: Tensor) -> Tensor:
        """From the flat row to padded sequences. Shapes ``(N, ...)`` to ``(S, T, ...)``."""
        if self.dense:
            return flat.view(*self.index.shape, *flat.shape[1:])
        return flat.index_select(0, self.index.flatten()).view(*self.index.shape, *flat.shape[1:])

    def in_a_row(self, padded: Tensor) -> Tensor:
        """The way back. Shapes ``(S, T, ...)`` to ``(N, ...)``."""
        flat = padded.flatten(0, 1)
        return flat if self.dense else flat.index_select(0, self.flat)


@dataclass(frozen=True)
class Packing:
    """Each prompt once, then each response but its last token, which predicts nothing.

    Attributes:
        tokens: All prompts, then all responses, without padding. Shape ``(N,)``.
        positions: Place of each token in its own text. Shape ``(N,)``.
        prompts: Places of the ``B`` prompts in the first ``prompt_tokens`` tokens.
        responses: Places of the ``R`` responses in the rest.
        prompt: The prompt of each response. Shape ``(R,)``.
        prompt_lengths: Shape ``(B,)``.
        source: Which token of ``tokens`` predicts each response token. Shape ``(Y,)``.
        target: The response tokens. Shape ``(Y,)``.
        row: The response each of them belongs to. Shape ``(Y,)``.
    """

    tokens: Tensor
    positions: Tensor
    prompts: Places
    responses: Places
    prompt: Tensor
    prompt_lengths: Tensor
    source: Tensor
    target: Tensor
    row: Tensor

    @property
    def prompt_tokens(self) -> int:
        """How many of the tokens are the prompts'."""
        return len(self.prompts.flat)


def pack(
    prompt_tokens: Tensor, prompt_mask: Tensor, prompt: Tensor, response_tokens: Tensor, response_mask: Tensor
) -> Packing:
    """Lay prompts and responses in a row.

    Args:
        prompt_tokens: Prompts, padded on the left. Shape ``(B, Tp)``.
        prompt_mask: 1 for a real token. Shape ``(B, Tp)``.
        prompt: The prompt of each response. Shape ``(R,)``, int64.
        response_tokens: Responses including EOS, padded on the right. Shape ``(R, Tr)``.
        response_mask: 1 for a real token. Shape ``(R, Tr)``.
    """
    prompt_mask, response_mask = prompt_mask.bool(), response_mask.bool()
    prompt_lengths, lengths = prompt_mask.sum(-1), response_mask.sum(-1)  # (B,), (R,)
    read = response_mask[:, :-1] & response_mask[:, 1:]  # (R, Tr - 1)  all but each last token
    prompts, responses = Places.of(prompt_lengths), Places.of(read.sum(-1))
    first = len(prompts.flat)  # flat index of the first response token
    row, step = response_mask.nonzero(as_tuple=True)  # (Y,), (Y,)
    read_lengths = (lengths - 1).clamp(min=0)
    start = first + read_lengths.cumsum(0) - read_lengths  # (R,)
    last_of_prompt = prompt_lengths.cumsum(0) - 1  # (B,)
    own, where = read.nonzero(as_tuple=True)
    prompt_positions = (prompt_mask.cumsum(-1) - 1)[prompt_mask]
    return Packing(
        tokens=torch.cat([prompt_tokens[prompt_mask], response_tokens[:, :-1][read]]),
        positions=torch.cat([prompt_positions, prompt_lengths[prompt][own] + where]),
        prompts=prompts,
        responses=responses,
        prompt=prompt,
        prompt_lengths=prompt_lengths,
        source=torch.where(step == 0, last_of_prompt[prompt][row], start[row] + step - 1),
        target=response_tokens[response_mask],
        row=row,
    )
