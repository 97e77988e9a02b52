"""Prompts and their responses as one row of tokens without padding, each prompt once, and once what all begin with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Where sequences of different lengths lie in a flat row, and how to pad them.

    Attributes:
        index: Flat index of token t of each sequence; what pads points to the first token of all. Shape ``(S, T)``.
        real: Whether there is such a token. Shape ``(S, T)``, bool.
        dense: Whether all sequences have one length, so that padding them moves nothing.
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

    def padded(self, flat: Tensor) -> Tensor:
        """From the flat row to padded sequences. Shapes ``(N, ...)`` to ``(S, T, ...)``."""
        if self.dense:
            return flat.view(*self.index.shape, *flat.shape[1:])
        return flat.index_select(0, self.index.flatten()).view(*self.index.shape, *flat.shape[1:])

    def packed(self, padded: Tensor) -> Tensor:
        """The way back. Shapes ``(S, T, ...)`` to ``(N, ...)``."""
        flat = padded.flatten(0, 1)
        return flat if self.dense else flat.index_select(0, self.flat)


@dataclass(frozen=True)
class Packing:
    """The shared prefix, the rest of each prompt, then each response but its last token, which predicts nothing.

    Attributes:
        tokens: All of that without padding. Shape ``(N,)``.
        positions: Place of each token in its own text. Shape ``(N,)``.
        start: How many tokens all prompts begin with that are there once; may be 0.
        prompts: Places of the rest of the ``B`` prompts, counted from behind the shared prefix.
        responses: Places of the ``R`` responses, counted from behind the prompts.
        prompt: The prompt of each response. Shape ``(R,)``.
        prompt_lengths: Of whole prompts. Shape ``(B,)``.
        source: Which token of ``tokens`` predicts each response token. Shape ``(Y,)``.
        target: The response tokens. Shape ``(Y,)``.
        row: The response each of them belongs to. Shape ``(Y,)``.
    """

    tokens: Tensor
    positions: Tensor
    start: int
    prompts: Places
    responses: Places
    prompt: Tensor
    prompt_lengths: Tensor
    source: Tensor
    target: Tensor
    row: Tensor

    @property
    def pieces(self) -> list[int]:
        """Tokens of the shared prefix, of the prompts and of the responses."""
        return [self.start, len(self.prompts.flat), len(self.responses.flat)]


def pack(
    prompt_tokens: Tensor,
    prompt_mask: Tensor,
    prompt: Tensor,
    response_tokens: Tensor,
    response_mask: Tensor,
    start: int = 0,
) -> Packing:
    """Pack prompts and responses.

    Args:
        prompt_tokens: Prompts, padded on the left. Shape ``(B, Tp)``.
        prompt_mask: 1 for a real token. Shape ``(B, Tp)``.
        prompt: The prompt of each response. Shape ``(R,)``, int64.
        response_tokens: Responses including EOS, padded on the right. Shape ``(R, Tr)``.
        response_mask: 1 for a real token. Shape ``(R, Tr)``.
        start: How many tokens all prompts begin with; fewer than the shortest has.
    """
    prompt_mask, response_mask = prompt_mask.bool(), response_mask.bool()
    prompt_lengths, lengths = prompt_mask.sum(-1), response_mask.sum(-1)  # (B,), (R,)
    prompt_places = prompt_mask.cumsum(-1) - 1  # (B, Tp)
    rest = prompt_mask & (prompt_places >= start)  # (B, Tp)
    read = response_mask[:, :-1] & response_mask[:, 1:]  # (R, Tr - 1)  all but each last token
    prompts, responses = Places.of(prompt_lengths - start), Places.of(read.sum(-1))
    first = start + len(prompts.flat)  # flat index of the first response token
    row, step = response_mask.nonzero(as_tuple=True)  # (Y,), (Y,)
    read_lengths = (lengths - 1).clamp(min=0)
    begin = first + read_lengths.cumsum(0) - read_lengths  # (R,)
    last_of_prompt = start + (prompt_lengths - start).cumsum(0) - 1  # (B,)
    own, where = read.nonzero(as_tuple=True)
    common = prompt_mask[:1] & ~rest[:1]  # (1, Tp)
    return Packing(
        tokens=torch.cat([prompt_tokens[:1][common], prompt_tokens[rest], response_tokens[:, :-1][read]]),
        positions=torch.cat([prompt_places[:1][common], prompt_places[rest], prompt_lengths[prompt][own] + where]),
        start=start,
        prompts=prompts,
        responses=responses,
        prompt=prompt,
        prompt_lengths=prompt_lengths,
        source=torch.where(step == 0, last_of_prompt[prompt][row], begin[row] + step - 1),
        target=response_tokens[response_mask],
        row=row,
    )
