"""Nothing reaches the network unless the configuration names something there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WATCHED = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise SystemExit(f"NETWORK {args}")

connect = socket.socket.connect
socket.socket.connect = lambda self, address: (
    refuse(address) if self.family in (socket.AF_INET, socket.AF_INET6) else connect(self, address)
)
socket.getaddrinfo = refuse
from laser_pl.commands.cli import main
quickstart, hub_name = map(json.loads, sys.argv[1:])
main(quickstart)
print("the quickstart is done", file=sys.stderr, flush=True)
main(hub_name)
"""


def test_the_quickstart_stays_here_and_a_hub_name_would_be_seen(tmp_path: Path) -> None:
    """In a process that ends when it opens a connection, without the settings that keep the tests offline."""
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "WANDB_MODE", "WANDB_API_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in offline}
    quickstart = ["fit", "--config=experiments/quickstart.yaml", f"--runs_dir={tmp_path}"]
    short = [
        "--trainer.max_epochs=1", "--data.prompts_per_iteration=32", "--model.evaluation.n=1",
        "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1",
    ]  # fmt: skip
    commands = [[*quickstart, *short], [*quickstart, "--model.weights.name=no/such"]]
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(json.dumps, commands)], capture_output=True, text=True, cwd=ROOT,
        env={**environment, "HF_HOME": str(tmp_path / "hub")},
    )  # fmt: skip
    assert run.returncode != 0
    assert (tmp_path / "quickstart" / "summary.json").exists(), run.stderr
    before, done, after = run.stderr.partition("the quickstart is done\n")
    assert done
    assert "NETWORK" not in before
    assert "NETWORK" in after
