"""What a trainer has logged and still needs, which Lightning leaves out of checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync

_KNOWN = ("callback", "logged", "progress_bar")
_META = (
    "fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "add_dataloader_idx", "dataloader_idx"
)  # fmt: skip
_VALUES = ("value", "cumulated_batch_size", "_forward_cache")


def logged_so_far(trainer: Trainer) -> dict[str, Any]:
    """The metrics that callbacks and schedules may look at, and sums of the iteration that is under way.

    Returns:
        ``metrics`` by kind and name, and ``results``: of each number that is logged in training what it is, and its sum
        so far. Those that are logged as a ``torchmetrics.Metric`` are left out; they are modules with a state of their
        own.
    """
    connector = trainer._logger_connector
    metrics = {kind: _copied(getattr(connector, f"_{kind}_metrics")) for kind in _KNOWN}
    results = {
        key: {
            "meta": {name: getattr(result.meta, name) for name in _META},
            "reduce": result.meta.reduce_fx.__name__,
            "sync": [result.meta.sync.should, result.meta.sync.rank_zero_only],
            "values": _copied({name: getattr(result, name) for name in _VALUES if hasattr(result, name)}),
            "update_count": result._update_count,
            "has_reset": result.has_reset,
        }
        for key, result in trainer.fit_loop.epoch_loop._results.items()
        if result.is_tensor and result.meta.sync.group is None
    }
    return {"metrics": metrics, "results": results}


def load_logged(trainer: Trainer, logged: dict[str, Any], of_iteration: bool) -> None:
    """Take them up.

    Args:
        trainer: Which goes on.
        logged: What ``logged_so_far`` gave.
        of_iteration: The sums, when the iteration is about to go on; otherwise the metrics.
    """
    connector = trainer._logger_connector
    if not of_iteration:
        for kind in _KNOWN:
            setattr(connector, f"_{kind}_metrics", _copied(logged["metrics"][kind]))
        return
    results = trainer.fit_loop.epoch_loop._results
    results.clear()
    for key, state in logged["results"].items():
        meta = _Metadata(**state["meta"], reduce_fx=state["reduce"])
        should, rank_zero_only = state["sync"]
        meta.sync = _Sync(fn=trainer.strategy.reduce, _should=should, rank_zero_only=rank_zero_only)
        results[key] = result = _ResultMetric(meta, is_tensor=True)
        for name, value in _copied(state["values"]).items():
            setattr(result, name, value)
        result._update_count, result.has_reset = state["update_count"], state["has_reset"]
    connector._first_loop_iter = False  # or the first batch would begin all sums anew


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else value for name, value in values.items()
    }
