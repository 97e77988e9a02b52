"""The picture of the live view: one moment of a real run of the quickstart, as a terminal of 98 columns shows it.

Run: python experiments/quickstart/live.py [--out experiments/quickstart/live.svg]     (as long as the quickstart)
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from laser_pl.callbacks.live_view import LiveView
from laser_pl.commands.cli import main
from laser_pl.view.picture import picture

HERE = Path(__file__).resolve().parent
COMMAND = "python -m laser_pl fit --config experiments/quickstart.yaml"


class Moment(Callback):
    """Keeps what the view shows when a batch has been trained.

    Args:
        out: The SVG to write.
        iteration: Counted from 0.
        batch: The batch of that iteration, counted from 0.
    """

    def __init__(self, out: str, iteration: int, batch: int) -> None:
        self.out = out
        self.place = (iteration, batch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw it; the view has seen the batch before."""
        if (trainer.current_epoch, batch_idx - 1) == self.place:
            (view,) = [callback for callback in trainer.callbacks if isinstance(callback, LiveView)]
            console = Console(record=True, file=io.StringIO(), width=98, force_terminal=True, color_system="truecolor")
            console.print(picture(view.state, time.monotonic(), width=98, height=30))
            svg = console.export_svg(title=COMMAND, unique_id="live")
            # Whoever shows it has a font of fixed width, and need not fetch one.
            svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
            Path(self.out).write_text(svg, encoding="utf-8")


def draw(out: Path, iteration: int = 2, batch: int = 25, *changes: str) -> None:
    """Run the quickstart and draw the moment.

    Args:
        out: The SVG to write.
        iteration: Counted from 0.
        batch: The batch of that iteration, counted from 0.
        *changes: Further arguments of the run.
    """
    moment = {
        "class_path": f"{Moment.__module__}.Moment",
        "init_args": {"out": str(out), "iteration": iteration, "batch": batch},
    }
    with tempfile.TemporaryDirectory() as runs:
        quickstart = [f"--config={HERE.parent / 'quickstart.yaml'}", f"--runs_dir={runs}"]
        main(["fit", *quickstart, f"--trainer.callbacks+={json.dumps(moment)}", *changes])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the live view of a run of the quickstart.")
    parser.add_argument("--out", type=Path, default=HERE / "live.svg")
    draw(parser.parse_args().out)
