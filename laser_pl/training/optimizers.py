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


def make_optimizers(
    optimizer: Make,
    schedule: MakeSchedule | None,
    parameters: Sequence[torch.nn.Parameter],
    validated_every: int = 1,
) -> Any:
    """The optimizer over some parameters, and its schedule where there is one, as Lightning takes them.

    Args:
        optimizer: Makes it.
        schedule: Makes the schedule, which steps with the optimizer, or at an iteration's end if it waits for a metric.
        parameters: What is trained.
        validated_every: Iterations from one validation to the next, for a schedule that waits for what it measures.

    Raises:
        ConfigurationError: If they cannot be made of what is configured.
    """
    with _naming("optimizer"):
        made = optimizer(parameters)
    if schedule is None:
        return made
    with _naming("lr_scheduler"):
        scheduler = schedule(made)
    if isinstance(scheduler, ReduceLROnPlateau):
        of_validation = scheduler.monitor.startswith("validation/")
        waits = {
            "scheduler": scheduler,
            "monitor": scheduler.monitor,
            "frequency": validated_every if of_validation else 1,
            "strict": not of_validation,  # where batches are counted an iteration may end before the first validation
        }
        return {"optimizer": made, "lr_scheduler": waits}
    return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_optimizers(
    optimizer: Make, schedule: MakeSchedule | None, steps: Callable[[], int | None] = lambda: None
) -> None:
    """Find mistakes before anything is loaded, those that show in the schedule's steps among them.

    Args:
        optimizer: Makes it.
        schedule: Makes the schedule.
        steps: How many the run has, where that is known; only schedules that have a length of their own ask.

    Raises:
        ConfigurationError: If there is one.
    """
    # A matrix, as all that an adapter trains; Muon takes nothing else.
    made = make_optimizers(optimizer, schedule, [torch.nn.Parameter(torch.zeros(1, 1))])
    if not isinstance(made, dict) or "monitor" in made["lr_scheduler"]:
        return
    scheduler = made["lr_scheduler"]["scheduler"]
    with warnings.catch_warnings(), _naming("lr_scheduler"):
        warnings.simplefilter("ignore")  # the optimizer takes no step first
        scheduler.step()
    length = getattr(scheduler, "total_steps", None)
    if isinstance(length, int) and (planned := steps()) is not None and planned > length:
        raise ConfigurationError(
            f"lr_scheduler: {type(scheduler).__name__} has {length} steps, and the run has {planned}. Set"
            f" lr_scheduler.init_args.total_steps to {planned}, or train for fewer."
        )


def monitored(schedule: MakeSchedule | None) -> str | None:
    """The metric that a schedule waits for, if it waits for one."""
    if schedule is None:
        return None
    with _naming("lr_scheduler"):
        scheduler = schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))
    return str(scheduler.monitor) if isinstance(scheduler, ReduceLROnPlateau) else None


@contextmanager
def _naming(section: str) -> Iterator[None]:
    """A block in which what is configured looks at its arguments, each in its own way."""
    try:
        yield
    except Exception as error:
        raise ConfigurationError(f"{section}: {error}. Set it in the config.") from error
