"""Which of torch's kernels for attention a run uses on a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kernels_for_any_shape() -> Iterator[None]:
    """A block in which attention is computed by kernels that take texts of every length as they come.

    On newer cards torch prefers cuDNN's, which are prepared anew for each shape: for 70 ms to over a second, as often
    as texts have another length (the row ``new shapes`` of ``experiments/gpu/check.py``).
    """
    preferred = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(preferred)
