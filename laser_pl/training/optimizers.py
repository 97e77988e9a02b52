"""The optimizer and its schedule, as they are configured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.cli import ReduceLROnPlateau

from laser_pl.errors import ConfigurationError

Make = Callable[[Any], torch.optim.Optimizer]
MakeSchedule = Callable[[torch.optim.Optimizer], Any]


def make_optimizers(optimizer: Make, schedule: MakeSchedule | None, parameters: Sequence[torch.nn.Parameter]) -> Any:
    """The optimizer over some parameters, and its schedule where there is one, as Lightning takes them.

    Raises:
        ConfigurationError: If they cannot be made of what is configured.
    """
    with _naming("optimizer"):
        made = optimizer(parameters)
    if schedule is None:
        return made
    with _naming("lr_scheduler"):
        scheduler = schedule(made)
    if isinstance(scheduler, ReduceLROnPlateau):  # it waits for a metric, which comes once an iteration
        return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "monitor": scheduler.monitor}}
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_optimizers(optimizer: Make, schedule: MakeSchedule | None) -> None:
    """Find mistakes before anything is loaded, those that show in the schedule's first step among them.

    Raises:
        ConfigurationError: If there is one.
    """
    made = make_optimizers(optimizer, schedule, [torch.nn.Parameter(torch.zeros(1))])
    if isinstance(made, dict) and "interval" in made["lr_scheduler"]:
        with warnings.catch_warnings(), _naming("lr_scheduler"):
            warnings.simplefilter("ignore")  # the optimizer takes no step first
            made["lr_scheduler"]["scheduler"].step()


@contextmanager
def _naming(section: str) -> Iterator[None]:
    """A block in which what is configured looks at its arguments, each in its own way."""
    try:
        yield
    except Exception as error:
        raise ConfigurationError(f"{section}: {error}. Set it in the config.") from error
