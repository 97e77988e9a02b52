"""Small things around Lightning's loggers."""

from __future__ import annotations

import os

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from laser_pl.metrics_csv import MetricsRow


def go_offline_without_key() -> None:
    """Let W&B write to disk where nobody is logged in, instead of asking; ``WANDB_MODE`` overrules."""
    if "WANDB_API_KEY" not in os.environ and not _has_netrc():
        os.environ.setdefault("WANDB_MODE", "offline")


def _has_netrc() -> bool:
    return any(os.path.exists(os.path.expanduser(path)) for path in ("~/.netrc", "~/_netrc"))


def continue_metrics(trainer: Trainer, rows: list[MetricsRow]) -> None:
    """Give a resumed run's CSV logger the rows up to its checkpoint, since Lightning's begins by deleting the file.

    Args:
        trainer: Whose loggers go on, at the checkpoint's step.
        rows: What the interrupted run had written.
    """
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            for step, metrics in rows:
                if step < trainer.global_step:
                    logger.log_metrics({**metrics}, step)
            logger.save()
