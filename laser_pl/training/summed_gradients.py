"""A sum whose summands are differentiated one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor


def sum_with_gradients(
    losses: Iterable[Callable[[], Tensor]], parameters: Iterable[torch.nn.Parameter], scale: float = 1.0
) -> Tensor:
    """A sum of losses of which each is differentiated as soon as it is known, so one graph exists at a time.

    Args:
        losses: Functions that compute one summand each. Shape ``()``.
        parameters: What the losses depend on.
        scale: Factor on losses while they are differentiated, taken out afterwards; a loss scaler's, for float16.

    Returns:
        The sum. Its backward pass hands on the gradients that are known by then. Shape ``()``.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients: list[Tensor | None] = [None] * len(trained)
    total: Tensor | None = None
    for compute in losses:
        loss = compute()
        total = loss.detach() if total is None else total + loss.detach()
        with torch.autocast(loss.device.type, enabled=False):  # the forward pass has chosen the types
            parts = _gradients(loss * scale, trained)
        for number, part in enumerate(parts):
            if part is not None:
                known = gradients[number]
                gradients[number] = part / scale if known is None else known.add_(part, alpha=1 / scale)
        del loss, parts
    result: Tensor = _Known.apply(total, gradients, *trained)  # type: ignore[no-untyped-call]
    return result


def _gradients(loss: Tensor, parameters: Sequence[torch.nn.Parameter]) -> Sequence[Tensor | None]:
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return torch.autograd.grad(loss, parameters, allow_unused=True)
    # Gradients of weights that are shared out are made whole by hooks that know backward() alone.
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    loss.backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad for parameter in parameters]
    for parameter, gradient in zip(parameters, before, strict=True):
        parameter.grad = gradient
    return found


class _Known(torch.autograd.Function):
    """A number whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(None if known is None else upstream * known for known in ctx.gradients))
