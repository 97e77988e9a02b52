"""What a run leaves behind apart from what the clock says, to tell whether two runs did the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from laser_pl.run.folder import RunFolder
from laser_pl.run.metrics_csv import read_cells


def run_state(folder: RunFolder) -> dict[str, Any]:
    """Everything a finished run leaves that does not depend on the clock or on where it lies."""
    checkpoint = torch.load(folder.checkpoint, weights_only=True)
    selection = checkpoint["callbacks"]["RewardSelection"]
    del selection["pool"]["seconds"]
    decisions = [json.loads(line) for line in folder.selection.read_text(encoding="utf-8").splitlines()]
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    return {
        "adapter": load_file(folder.adapter / "adapter_model.safetensors"),
        "trained": checkpoint["state_dict"],
        "optimizer": checkpoint["optimizer_states"],
        "schedule": checkpoint["lr_schedulers"],
        "selection": selection,
        "decisions": [{k: v for k, v in decision.items() if k != "reward_model_seconds"} for decision in decisions],
        "metrics": metrics_without_clock(folder),
        "pairs": folder.pairs.read_text(encoding="utf-8"),
        "judged": folder.judged.read_text(encoding="utf-8"),
        "agreement": folder.agreement.read_text(encoding="utf-8") if folder.agreement.exists() else "",
        "summary": {k: v for k, v in summary.items() if k not in {"seconds", "config"}},
    }


def metrics_without_clock(folder: RunFolder) -> list[dict[str, str]]:
    """Rows of ``metrics.csv`` but for the seconds in them."""
    return [{k: v for k, v in row.items() if k != "seconds/scoring"} for row in read_cells(folder.metrics)[1]]


def digest(state: Any) -> str:
    """SHA-256 of tensors and builtins, nested as they may be."""
    result = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, Tensor):
            result.update(f"{value.dtype}{tuple(value.shape)}".encode())
            result.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            result.update(f"dict {len(value)}".encode())
            for key, part in value.items():
                take(key)
                take(part)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            result.update(f"{type(value).__name__} {len(value)}".encode())
            for part in value:
                take(part)
        else:
            result.update(repr(value).encode())

    take(state)
    return result.hexdigest()
