"""A module that stays on its device between a trainer's stages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule

if TYPE_CHECKING:
    from typing_extensions import Self


class StayingModule(LightningModule):
    """A module that Lightning moves to the host's memory after a stage only where nobody asked it to stay.

    A run tests, trains and tests again. Between these Lightning moves the module away and back, which takes a model of
    8B parameters 15 s each time.
    """

    _stays = False

    @contextmanager
    def staying(self) -> Iterator[None]:
        """A block at whose end, and in which, the module is where its last stage needed it."""
        self._stays = True
        try:
            yield
        finally:
            self._stays = False

    def cpu(self) -> Self:
        """To the host's memory, outside of ``staying``."""
        return self if self._stays else super().cpu()
