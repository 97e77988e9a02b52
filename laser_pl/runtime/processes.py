"""How Lightning starts a run's processes, numbers them and ends them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch.distributed
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning_utilities.core.rank_zero import rank_zero_only

from laser_pl.errors import ConfigurationError
from laser_pl.runtime.interruption import Interrupted


@contextmanager
def ending_those_started(trainer: Trainer) -> Iterator[None]:
    """When this process alone is interrupted, interrupt those that it has started, which would else work on."""
    try:
        yield
    except Interrupted as end:
        if not end.everywhere and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
            trainer.strategy.launcher.kill(signal.SIGTERM)
        raise


def is_loss_of_a_process(error: RuntimeError) -> bool:
    """Whether torch says that another process ended or did not answer in time."""
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)


def process_number() -> int:
    """This process's number, as ``settle_processes`` found it; before that, a launcher's variables say it."""
    return int(rank_zero_only.rank)  # type: ignore[attr-defined]


def settle_processes(settings: Mapping[str, Any]) -> list[Any]:
    """Let the trainer that is to be made say which process this is, before anything is written.

    A single process has the number 0, also where a job's ``RANK`` or SLURM's variables, which Lightning would believe,
    stand in its environment. Where ``srun`` or ``torchrun`` started several, Lightning compares them with the settings.

    Args:
        settings: The trainer's.

    Returns:
        Plugins for the trainer: those of the settings, and for a single process one that looks at no job.

    Raises:
        ValueError: If no trainer can be made of the settings. So do RuntimeError and MisconfigurationException.
    """
    given = settings.get("plugins")
    plugins = list(given) if isinstance(given, list | tuple) else [given] * (given is not None)

    def trainer_with(plugins: list[Any]) -> Trainer:
        of_processes = {name: settings[name] for name in ("accelerator", "devices", "num_nodes") if name in settings}
        strategy = copy(settings.get("strategy", "auto"))  # a trainer writes into it
        return Trainer(
            **of_processes,
            strategy=strategy,
            plugins=plugins,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    several = TorchElasticEnvironment.detect() or (tasks.isdecimal() and int(tasks) > 1)
    if not several and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        alone = [*plugins, LightningEnvironment()]
        trainer = trainer_with(alone)
        if isinstance(trainer.strategy, SingleDeviceStrategy):
            rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
            return alone
    rank_zero_only.rank = trainer_with(plugins).global_rank  # type: ignore[attr-defined]
    return plugins


def refuse_other_processes(trainer: Trainer) -> None:
    """Responses are sampled from whole weights, by processes that run the whole command.

    Raises:
        ConfigurationError: If the strategy splits the weights, or starts its processes otherwise.
    """
    strategy = trainer.strategy
    name = type(strategy).__name__
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise ConfigurationError(
            f"trainer.strategy is {name}, under which no process can sample responses by itself. Set it to ddp; nf4"
            " weights (model.weights.quantization) save memory."
        )
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise ConfigurationError(
            "trainer.strategy starts copies of this process, whose training would be lost at their end. Set it to ddp."
        )
