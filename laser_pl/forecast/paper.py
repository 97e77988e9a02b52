"""Models on paper: their own code runs on tensors that have a shape and a type and hold nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode  # documented as torch's fake tensor, beside torch.compiler

from laser_pl.forecast.live_bytes import LiveBytes

T = TypeVar("T")


class Paper:
    """One model on paper, as if it lay in the host's memory.

    Running it shows what a formula per architecture would need for each: which activations its layers keep
    for the backward pass, adapter and mixed precision included.

    Args:
        skeleton: The model on torch's meta device; it is filled with fake tensors and must not be used elsewhere.
        autocast: The type that ``trainer.precision`` computes in, where it is a mixed one.
    """

    def __init__(self, skeleton: Any, autocast: torch.dtype | None = None) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.autocast = autocast
        self.model = skeleton
        with self.mode:
            _fill(skeleton)

    def peak(self, call: Callable[[Any], object]) -> int:
        """Bytes of tensors that are alive at most while ``call(model)`` runs, the model's own not counted.

        Raises:
            Exception: Whatever the model's code raises that wants to see numbers.
        """
        known = [*self.model.parameters(), *self.model.buffers()]
        with self.running(), LiveBytes(known) as live:
            call(self.model)
        return int(live.peak)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block in which new tensors are fake."""
        mixed = nullcontext() if self.autocast is None else torch.autocast("cpu", self.autocast)
        with self.mode, mixed:
            yield

    def copy(self, value: T) -> T:
        """A tensor, or a dataclass of them, on this paper."""
        if isinstance(value, Tensor):
            return self.mode.from_tensor(value)  # type: ignore[return-value]
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: self.copy(getattr(value, field.name)) for field in fields(value)})
        return value


def _fill(model: torch.nn.Module) -> None:
    """Put fake tensors in the place of those on the meta device; what is tied stays so."""
    filled: dict[int, Tensor] = {}
    kept = []  # so that no id is used twice
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in filled:
                    kept.append(tensor)
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    filled[id(tensor)] = (
                        torch.nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
                    )
                tensors[name] = filled[id(tensor)]  # type: ignore[assignment]
