"""Online ridge regression with the width of its prediction: the model under every linear arm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laser_pl.bandits.aligned import aligned


class Ridge:
    r"""Ridge regression :math:`\theta = A^{-1} b` with :math:`A = \lambda I + \sum c c^\top`, :math:`b = \sum r c`.

    With :math:`g = A^{-1} c` and :math:`s = 1 + c^\top g`, an observation changes both by one term (Sherman, Morrison):

    .. math:: A^{-1} \leftarrow A^{-1} - u u^\top, \quad u = g / \sqrt{s}, \qquad
              \theta \leftarrow \theta + (r - c^\top\theta)\, g / s.

    While there are fewer terms than dimensions they are kept as they are, :math:`A^{-1} = I / \lambda - U^\top U`: a
    question costs :math:`O(t d)`, an update twice that, and a checkpoint holds as little. From then on :math:`A^{-1}`
    is a matrix, and both cost :math:`O(d^2)`. It is made from the contexts, which the terms still give by a triangular
    factor, :math:`c = \lambda (\sqrt{s}\, u + U^\top U c)`, since :math:`I / \lambda - U^\top U` has lost digits where
    contexts are large.

    Args:
        size: ``d``.
        penalty: lambda, > 0.

    Attributes:
        weights: :math:`\theta`. Shape ``(d,)``, float64.
        inverse: :math:`A^{-1}` as a matrix, None while its terms are kept. Shape ``(d, d)``.
    """

    def __init__(self, size: int, penalty: float = 1.0) -> None:
        self.size = size
        self.penalty = penalty
        self.weights = torch.zeros(size, dtype=torch.float64)
        self.inverse: Tensor | None = None
        self._room = torch.empty(0, size, dtype=torch.float64)  # (at least t, d)  grows by doubling
        self._count = 0  # t
        self._looked: tuple[Tensor, Tensor] | None = None  # the last context and what _look says of it
        self._factor: list[Tensor] = []  # row i, (i + 1,): U c and sqrt(s) of the i-th context

    @property
    def terms(self) -> Tensor:
        r"""The rows :math:`u` while they are kept. Shape ``(t, d)``."""
        return self._room[: self._count]

    @property
    def precision(self) -> Tensor:
        r"""The matrix :math:`A`. Shape ``(d, d)``."""
        if self.inverse is not None:
            precision: Tensor = torch.linalg.inv(self.inverse)
            return precision
        factor = torch.zeros(self._count, self._count, dtype=torch.float64)
        for i, row in enumerate(self._factor):
            factor[i, : i + 1] = row
        contexts = self.penalty * factor @ self.terms  # (t, d)
        return self.penalty * torch.eye(self.size, dtype=torch.float64) + contexts.T @ contexts

    @property
    def moment(self) -> Tensor:
        r"""The vector :math:`b = A \theta`. Shape ``(d,)``."""
        return self.precision @ self.weights

    def mean(self, contexts: Tensor) -> Tensor:
        r"""Predictions :math:`c^\top\theta`. Shapes ``(M, d)`` to ``(M,)``."""
        return aligned(contexts) @ self.weights

    def width(self, contexts: Tensor) -> Tensor:
        r"""How little is known there, :math:`\sqrt{c^\top A^{-1} c}`. Shapes ``(M, d)`` to ``(M,)``."""
        contexts = aligned(contexts)
        if len(contexts) == 1:
            known = self._look(contexts[0])
            if self.inverse is not None:
                square = contexts @ known  # (1,)
            else:
                square = contexts @ contexts[0] / self.penalty - known @ known  # (1,)
        elif self.inverse is not None:
            square = ((contexts @ self.inverse) * contexts).sum(-1)
        else:
            several = contexts @ self.terms.T  # (M, t)
            square = contexts.square().sum(-1) / self.penalty - several.square().sum(-1)
        return square.clamp(min=0).sqrt()

    def update(self, context: Tensor, reward: float) -> None:
        """Learn one observation.

        Args:
            context: Shape ``(d,)``.
            reward: Any finite number.
        """
        context = aligned(context)
        known = self._look(context)
        self._looked = None
        # g, (d,)
        gain = known if self.inverse is not None else context / self.penalty - known @ self.terms
        scale = 1 + float(context @ gain)  # s
        self.weights = self.weights + (reward - float(context @ self.weights)) / scale * gain
        term = gain / scale**0.5  # (d,)  u
        if self.inverse is not None:
            self.inverse.addcmul_(term[:, None], term[None], value=-1)  # stays symmetric to the bit
        else:
            self._keep(term, torch.cat([known, known.new_tensor([scale**0.5])]))

    def _look(self, context: Tensor) -> Tensor:
        r"""The pass over all that is known, :math:`A^{-1} c` ``(d,)`` or, while terms are kept, :math:`U c` ``(t,)``.

        A context is first asked about and then learned, so the last one is remembered.
        """
        if self._looked is None or not torch.equal(self._looked[0], context):
            self._looked = context, (self.terms if self.inverse is None else self.inverse) @ context
        return self._looked[1]

    def _keep(self, term: Tensor, row: Tensor) -> None:
        if self._count == len(self._room):
            room = torch.empty(min(max(8, 2 * self._count), self.size), self.size, dtype=torch.float64)
            room[: self._count] = self.terms
            self._room = room
        self._room[self._count] = term
        self._factor.append(row)
        self._count += 1
        if self._count == self.size:
            # LAPACK's columns become rows, as a state that was written and read has them.
            self.inverse = aligned(torch.cholesky_inverse(torch.linalg.cholesky(self.precision)))
            self._room, self._count, self._factor = self._room.new_empty(0, self.size), 0, []

    def state_dict(self) -> dict[str, Any]:
        """What was learned, in the form it is in."""
        return {
            "weights": self.weights,
            "terms": self.terms.clone(),
            "factor": torch.cat([self.weights[:0], *self._factor]),  # (t (t + 1) / 2,)
            "inverse": None if self.inverse is None else self.inverse.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was learned."""
        self._looked = None
        self.weights = aligned(state["weights"])
        self._room, self._count = aligned(state["terms"]), len(state["terms"])
        self._factor = list(state["factor"].split(list(range(1, self._count + 1))))
        self.inverse = None if state["inverse"] is None else aligned(state["inverse"])
