"""From scores to preference pairs, one prompt at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from laser_pl.batches import PairIndices, RolloutBatch
from laser_pl.errors import ConfigurationError
from laser_pl.runtime.seeds import derive_seed

Pair = tuple[int, int]
"""Response indices ``(chosen, rejected)``."""
Truncated = Literal["keep", "mask", "drop"]
"""What a response that hit the length limit may be, see ``Pairing``."""


class Pairing(ABC):
    """Which responses of one prompt are compared.

    Identical responses count once; equal and missing scores make no pair.

    Args:
        per_prompt: At most this many pairs per prompt, >= 1 (the paper's P).
        min_margin: Smallest difference of scores that makes a pair.
        truncated: What a response that hit the length limit may be. ``keep`` treats it like any other, ``mask`` lets it
            be rejected but never chosen, ``drop`` leaves it out.
    """

    def __init__(
        self,
        per_prompt: int = 10,
        min_margin: float = 0.0,
        truncated: Truncated = "keep",
    ) -> None:
        if per_prompt < 1:
            raise ConfigurationError(f"per_prompt must be >= 1, got {per_prompt}. Set selection.pairs.per_prompt.")
        if not min_margin >= 0:
            raise ConfigurationError(f"min_margin must be >= 0, got {min_margin}. Set selection.pairs.min_margin.")
        self.per_prompt = per_prompt
        self.min_margin = min_margin
        self.truncated = truncated

    @abstractmethod
    def choose(self, ranked: np.ndarray, choosable: np.ndarray, generator: np.random.Generator) -> list[Pair]:
        """Pairs of one prompt.

        Args:
            ranked: Indices of the usable responses, best score first. Shape ``(m,)``.
            choosable: Those of them that may be chosen, in the same order. Shape ``(<= m,)``.
            generator: This prompt's own random numbers.

        Returns:
            Pairs in order of preference; those that are no preference after all are taken out afterwards.
        """

    def most_used(self, n: int) -> int:
        """How many of a prompt's ``n`` responses its pairs can use."""
        return min(n, 2 * self.per_prompt)

    def pair(self, batch: RolloutBatch, scores: Tensor, seed: int, allowed: Tensor | None = None) -> PairIndices:
        """Pairs of a whole batch, never across prompts.

        Every prompt's randomness follows from the seed, the iteration and the prompt, so that a batch and its
        micro-batches give the same pairs.

        Args:
            batch: What was sampled.
            scores: The chosen reward models' scores; NaN is no opinion. Shape ``(B, n)``.
            seed: Root of the pairs' randomness.
            allowed: Which responses may be chosen; the others, only rejected. Shape ``(B, n)``, bool; None: all.
        """
        found: list[tuple[int, int, int]] = []
        values, tokens = scores.double().cpu().numpy(), batch.responses.tokens.cpu().numpy()
        finished = batch.responses.finished.cpu().numpy()
        allows = np.ones_like(finished) if allowed is None else allowed.cpu().numpy()
        for row, prompt in enumerate(batch.prompts.prompts):
            generator = np.random.default_rng(derive_seed(seed, "pairs", batch.iteration, prompt.id))
            found += [
                (row, chosen, rejected)
                for chosen, rejected in self.pair_one(values[row], tokens[row], finished[row], allows[row], generator)
            ]
        prompt_rows, chosen_rows, rejected_rows = torch.tensor(found, dtype=torch.long).reshape(-1, 3).unbind(-1)
        return PairIndices(prompt_rows, chosen_rows, rejected_rows).to(batch.responses.tokens.device)

    def can_pair(self, batch: RolloutBatch, allowed: Tensor | None = None) -> Tensor:
        """For which prompts some scores would make a pair: two unlike responses, of which one may be chosen.

        Args:
            batch: What was sampled.
            allowed: As for ``pair``.

        Returns:
            On the CPU. Shape ``(B,)``, bool.
        """
        tokens, finished = batch.responses.tokens.cpu().numpy(), batch.responses.finished.cpu().numpy()
        allows = np.ones_like(finished) if allowed is None else allowed.cpu().numpy()
        found = []
        for row in range(len(batch)):
            candidates = self._candidates(np.ones(finished.shape[1], dtype=bool), tokens[row], finished[row])
            choosable = self._choosable(candidates, finished[row], allows[row])
            found.append(len(candidates) > 1 and len(choosable) > 0)
        return torch.tensor(found, dtype=torch.bool)

    def pair_one(
        self,
        scores: np.ndarray,
        tokens: np.ndarray,
        finished: np.ndarray,
        allowed: np.ndarray,
        generator: np.random.Generator,
    ) -> list[Pair]:
        """Pairs of one prompt.

        Args:
            scores: Shape ``(n,)``.
            tokens: Shape ``(n, T)``, padding included.
            finished: Whether each response ended by itself. Shape ``(n,)``, bool.
            allowed: Whether each response may be chosen. Shape ``(n,)``, bool.
            generator: This prompt's own random numbers.
        """
        candidates = self._candidates(np.isfinite(scores), tokens, finished)
        ranked = candidates[np.argsort(-scores[candidates], kind="stable")]
        choosable = self._choosable(ranked, finished, allowed)
        pairs = [
            (chosen, rejected)
            for chosen, rejected in self.choose(ranked, choosable, generator)
            if scores[chosen] > scores[rejected] and scores[chosen] - scores[rejected] >= self.min_margin
        ]
        return pairs[: self.per_prompt]

    def _candidates(self, labelled: np.ndarray, tokens: np.ndarray, finished: np.ndarray) -> np.ndarray:
        """Indices of the responses that may be in a pair, each text once. Shape ``(m,)``."""
        _, first = np.unique(tokens, axis=0, return_index=True)
        usable = labelled & (finished | (self.truncated != "drop"))
        return np.sort(first[usable[first]])

    def _choosable(self, candidates: np.ndarray, finished: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Those of some candidates that may be chosen, in the same order."""
        choosable: np.ndarray = candidates[allowed[candidates] & (finished[candidates] | (self.truncated == "keep"))]
        return choosable


class RandomPairs(Pairing):
    """The paper's choice: ``per_prompt`` pairs at random among all that differ in score."""

    def choose(self, ranked: np.ndarray, choosable: np.ndarray, generator: np.random.Generator) -> list[Pair]:
        """All pairs in random order."""
        better, worse = np.triu_indices(len(ranked), k=1)
        order = generator.permutation(len(better))
        pairs = zip(ranked[better[order]].tolist(), ranked[worse[order]].tolist(), strict=True)
        may_be_chosen = set(choosable.tolist())
        return [(chosen, rejected) for chosen, rejected in pairs if chosen in may_be_chosen]


class BestWorst(Pairing):
    """The best response against the worst, against the second worst, and so on.

    One response per prompt is chosen. What a reward model puts first says most about it, so the loss of these pairs
    distinguishes reward models better than that of random pairs, in which mediocre responses are chosen as well.
    """

    def most_used(self, n: int) -> int:
        """The best, and what it is compared with."""
        return min(n, self.per_prompt + 1)

    def choose(self, ranked: np.ndarray, choosable: np.ndarray, generator: np.random.Generator) -> list[Pair]:
        """The best that may be chosen with every other, from the bottom up."""
        return [(best, worse) for best in choosable[:1].tolist() for worse in ranked[::-1].tolist()]


class TopBottom(Pairing):
    """The best against the worst, the second best against the second worst, and so on."""

    def choose(self, ranked: np.ndarray, choosable: np.ndarray, generator: np.random.Generator) -> list[Pair]:
        """Pairs from the outside in."""
        half = len(ranked) // 2
        return list(zip(choosable[:half].tolist(), ranked[::-1][:half].tolist(), strict=False))
