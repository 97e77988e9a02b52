"""How many bytes of tensors are alive while some code runs, and were so at most."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operators return, once each, until the last tensor that looks at one is gone.

    It sees tensors, not memory: an allocator rounds up and keeps what is freed, a kernel has scratch space of its own.
    On fake tensors it counts what real ones would hold.

    Args:
        known: Tensors that are there already and do not count, such as a model's weights.

    Attributes:
        now: Bytes alive.
        peak: The most so far.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: dict[int, Any] = {}  # by the storage's address, until it is gone
        for tensor in known:
            self._take(tensor.untyped_storage(), 0)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What the operator returns."""
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self._take(storage, storage.nbytes())
        return found

    def _take(self, storage: torch.UntypedStorage, size: int) -> None:
        address = storage._cdata
        if address in self._seen:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self._seen[address] = weakref.finalize(storage, self._gone, address, size)

    def _gone(self, address: int, size: int) -> None:
        self.now -= size
        del self._seen[address]
