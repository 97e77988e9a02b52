"""How Lightning starts a run's processes, numbers them and ends them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import lightning.pytorch.callbacks
import torch.distributed
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.torch_version import TorchVersion

from laser_pl.errors import ConfigurationError
from laser_pl.runtime.interruption import Interrupted
from laser_pl.runtime.sharded_strategy import ShardedStrategy

_OTHERWISE_SHARDED = re.compile(r"fsdp|deepspeed", re.IGNORECASE)
_AVERAGING = ("StochasticWeightAveraging", "WeightAveraging")  # the second is in Lightning from 2.6 on


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
        ConfigurationError: If the strategy is one that shares weights out in a way of its own.
    """
    if _OTHERWISE_SHARDED.match(name := _name_of(settings.get("strategy"))):  # some are not even made without a card
        raise ConfigurationError(_not_sharded_so(name))
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
    """Responses are sampled in step, by processes that run the whole command.

    Raises:
        ConfigurationError: If the strategy shares weights out in another way, or starts its processes otherwise.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy | ShardedStrategy):
        raise ConfigurationError(_not_sharded_so(type(strategy).__name__))
    if isinstance(strategy, ShardedStrategy):
        _refuse_otherwise_sharded(trainer, strategy)
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise ConfigurationError(
            "trainer.strategy starts copies of this process, whose training would be lost at their end. Set it to ddp."
        )


def sharing_weights_out(strategy: Any) -> Any:
    """A trainer's setting, with our strategy in the place of Lightning's that shares weights out."""
    return ShardedStrategy.of(strategy) if type(strategy) is ModelParallelStrategy else strategy


def _name_of(strategy: Any) -> str:
    return strategy if isinstance(strategy, str) else type(strategy).__name__


def _not_sharded_so(name: str) -> str:
    return (
        f"trainer.strategy is {name}, under which no process can sample responses. To share the weights out among"
        " processes write: strategy: {class_path: lightning.pytorch.strategies.ModelParallelStrategy, init_args:"
        " {tensor_parallel_size: 1}}, as experiments/scale/fsdp.yaml does; where they fit each card, set it to ddp."
    )


def _refuse_otherwise_sharded(trainer: Trainer, strategy: ShardedStrategy) -> None:
    if TorchVersion(torch.__version__) < "2.7":  # whose shares of a tensor come from one process alone
        raise ConfigurationError(
            f"trainer.strategy shares weights out, which needs torch 2.7; this is {torch.__version__}. Install a newer"
            " torch, or set trainer.strategy to ddp."
        )
    parts, processes = strategy._tensor_parallel_size, trainer.world_size
    if parts != 1:
        raise ConfigurationError(
            f"trainer.strategy has the tensor_parallel_size {parts}, and here each process reads texts of its own. Set"
            " its init_args.tensor_parallel_size to 1."
        )
    if strategy._data_parallel_size not in ("auto", processes):
        raise ConfigurationError(
            f"trainer.strategy has the data_parallel_size {strategy._data_parallel_size}, and there are {processes}"
            " processes. Leave it out, or set it to their number."
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if any(isinstance(callback, getattr(lightning.pytorch.callbacks, name, ())) for name in _AVERAGING):
            raise ConfigurationError(
                f"{type(callback).__name__} copies the policy, whose weights processes share out. Take it out of"
                " trainer.callbacks, or set trainer.strategy to ddp."
            )
    if trainer.precision == "16-mixed":
        raise ConfigurationError(
            "trainer.precision is 16-mixed, whose scale of the loss each process would find by its own piece of the"
            " gradient. Set it to bf16-mixed, or model.weights.dtype to bfloat16."
        )
