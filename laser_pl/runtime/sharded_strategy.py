"""Lightning's strategy for weights that processes share out, with checkpoints that any number of them can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map  # documented beside torch's function modes

from laser_pl.runtime.sharding import shared_out_like, whole


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's, with the checkpoints of one process: whole tensors in one file, which any number of them can read.

    Lightning's own gathers the frozen base as well, or writes a folder that the same number of processes has to read.
    """

    @classmethod
    def of(cls, configured: ModelParallelStrategy) -> ShardedStrategy:
        """The same for all processes of a run, as many as they are."""
        return cls(
            data_parallel_size=configured._data_parallel_size,
            tensor_parallel_size=configured._tensor_parallel_size,
            save_distributed_checkpoint=False,
            process_group_backend=configured._process_group_backend,
            timeout=configured._timeout,
        )

    @property
    def lightning_restore_optimizer(self) -> bool:
        """By the methods below."""
        return True

    def setup_environment(self) -> None:
        """Lightning's, which takes nodes for the processes that share weights out where nothing is said."""
        if self._data_parallel_size == "auto":
            self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's state, gathered."""
        assert self.lightning_module is not None
        return {name: _kept(value) for name, value in self.lightning_module.state_dict().items()}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take pieces of it."""
        module = self.lightning_module
        assert isinstance(module, LightningModule)
        own = module.state_dict()
        state = {
            name: shared_out_like(value, own[name]) if name in own else value
            for name, value in checkpoint["state_dict"].items()
        }
        module.load_state_dict(state, strict=strict)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """An optimizer's state, gathered."""
        state: dict[str, Any] = tree_map(_kept, getattr(optimizer, "_optimizer", optimizer).state_dict())
        return state

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take pieces of it: of what has a parameter's shape, as of the parameter."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {
                    name: shared_out_like(value, parameters[number])
                    if isinstance(value, Tensor) and value.shape == parameters[number].shape
                    else value
                    for name, value in values.items()
                }
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Lightning's for whole states: the first process writes."""
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Lightning's for whole states: every process reads."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)


def _kept(value: Any) -> Any:
    return whole(value).cpu() if isinstance(value, DTensor) else value
