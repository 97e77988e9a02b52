"""A card that is none: tensors on it are the host's, but say they are elsewhere, and do not mix with the host's.

What a GPU would refuse is refused here: an operator whose tensors lie on two devices. Tensors on the card are a
subclass that holds the numbers in the host's memory. Torch knows such a kind of device for good once it was told of it,
so this is for processes of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class Backend(_DummyBackendModule):
    """What torch asks a kind of device about itself."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What it computes in under mixed precision."""
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("pretend", Backend())
CARD, HOST = torch.device("pretend:0"), torch.device("cpu")
aten = torch.ops.aten
MAY_MIX = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class OnCard(Tensor):
    """A tensor on the card.

    Attributes:
        held: Its numbers, in the host's memory.
    """

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> OnCard:
        """Look at numbers from the card."""
        found: OnCard = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=CARD, requires_grad=requires_grad,
        )  # fmt: skip
        found.held = held
        return found

    def __repr__(self, **kwargs: Any) -> str:
        """As it would be printed."""
        return f"OnCard({self.held!r})"

    def tolist(self) -> Any:
        """Its numbers, for which torch's own wants a tensor of its own."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute in the host's memory what the card would."""
        return compute(func, args, kwargs or {})


class PretendCard(TorchDispatchMode):
    """Sees to what is made on the card."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The same as for tensors that lie there."""
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operator, on one device.

    Raises:
        RuntimeError: If its tensors lie on two.
    """
    leaves = tree_leaves((args, kwargs))
    tensors = [value for value in leaves if isinstance(value, Tensor)]
    on_card = [isinstance(tensor, OnCard) for tensor in tensors]
    refuse_mixture(func, args, tensors, on_card)
    wanted = [torch.device(value) for value in leaves if isinstance(value, torch.device)]
    stays_there = on_card[0] if func in MAY_MIX else any(on_card)
    goes_to_card = wanted[0].type == CARD.type if wanted else stays_there
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if not goes_to_card:
        return found
    given = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OnCard)}
    # What is changed in place comes back as the very tensor that was given.
    return tree_map(lambda v: given[id(v)] if id(v) in given else OnCard(v) if isinstance(v, Tensor) else v, found)


def refuse_mixture(func: Any, args: Any, tensors: list[Tensor], on_card: list[bool]) -> None:
    """What CUDA lets pass: copies, numbers of the host's, and a card's tensor indexed from there."""
    if func in MAY_MIX or len(set(on_card)) < 2:
        return
    hosts = [tensor for tensor, there in zip(tensors, on_card, strict=True) if not there]
    if all(tensor.dim() == 0 for tensor in hosts):
        return
    if func in INDEXED and isinstance(args[0], OnCard):
        hosts = [tensor for tensor in hosts if not any(tensor is index for index in args[1])]
        if all(tensor.dim() == 0 for tensor in hosts):
            return
    shapes = [
        f"{tuple(t.shape)} on the {'card' if there else 'host'}" for t, there in zip(tensors, on_card, strict=True)
    ]
    raise RuntimeError(f"{func} expected all tensors on one device, got {', '.join(shapes)}.")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnCard) else HOST if isinstance(value, torch.device) else value


# Where torch makes tensors below all modes, as for an index that is a list of numbers.
LIBRARY = torch.library.Library("aten", "IMPL")


def _made(size: Any, stride: Any, dtype: Any = None, **options: Any) -> OnCard:
    return OnCard(torch.empty_strided(size, stride, dtype=dtype or torch.get_default_dtype()))


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _held(target).copy_(_held(source))
    return target


LIBRARY.impl("empty_strided", _made, "PrivateUse1")
LIBRARY.impl("_copy_from", _copied, "PrivateUse1")


@contextmanager
def pretend_card() -> Iterator[torch.device]:
    """Run a block in which there is a card, which Lightning takes for its CPU."""
    with ExitStack() as stack:
        one = mock.patch.object(_AcceleratorConnector, "_choose_strategy", return_value=SingleDeviceStrategy(CARD))
        stack.enter_context(one)
        stack.enter_context(mock.patch.object(CPUAccelerator, "setup_device"))
        stack.enter_context(PretendCard())
        yield CARD
