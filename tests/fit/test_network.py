"""Nothing reaches the network unless the configuration names something there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WATCHED = """
import socket

def refuse(*args, **kwargs):
    raise SystemExit(f"NETWORK {args}")

connect = socket.socket.connect
socket.socket.connect = lambda self, address: (
    refuse(address) if self.family in (socket.AF_INET, socket.AF_INET6) else connect(self, address)
)
socket.getaddrinfo = refuse
from laser_pl.commands.cli import main
main(__import__("sys").argv[1:])
"""


def watched(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that ends when it opens a connection, without the settings that keep the tests offline."""
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "WANDB_MODE", "WANDB_API_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in offline}
    return subprocess.run(
        [sys.executable, "-c", WATCHED, *args], capture_output=True, text=True, cwd=ROOT, env={**environment, **env}
    )


def test_the_quickstart_stays_here(tmp_path: Path) -> None:
    run = watched(
        "fit", "--config=experiments/quickstart.yaml", f"--runs_dir={tmp_path}", "--trainer.max_epochs=1",
        "--data.prompts_per_iteration=32", "--model.evaluation.n=1", "--trainer.limit_val_batches=1",
        "--trainer.limit_test_batches=1",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "NETWORK" not in run.stderr
    assert (tmp_path / "quickstart" / "summary.json").exists()


def test_the_watch_sees_a_hub_name(tmp_path: Path) -> None:
    run = watched(
        "fit", "--config=experiments/quickstart.yaml", f"--runs_dir={tmp_path}", "--model.weights.name=no/such",
        HF_HOME=str(tmp_path),
    )  # fmt: skip
    assert run.returncode != 0
    assert "NETWORK" in run.stderr
