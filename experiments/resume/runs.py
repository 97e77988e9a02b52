"""One setting: run without interruption, killed at four moments, resumed, compared."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lightning.pytorch import Callback
from resume_parts import Moments

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.generation import way
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import digest, run_state

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = ("within an iteration", "at its end", "in validation", "in the last test")


def command(folder: Path, arguments: Sequence[str], *more: str) -> list[str]:
    """The run's command line; ``{folder}`` in its arguments is where it may write."""
    own = [argument.replace("{folder}", str(folder)) for argument in arguments]
    return ["fit", "--config=experiments/resume/base.yaml", f"--runs_dir={folder / 'runs'}", *own, *more]


def state_of(folder: Path, without: Sequence[str]) -> dict[str, str]:
    """A digest of each part of what a run left.

    Args:
        folder: Where it wrote.
        without: How the names of metrics begin that the clock or the machine says.
    """
    state = run_state(RunFolder(folder / "runs" / "run"))
    state["metrics"] = [
        {name: value for name, value in row.items() if not name.startswith(tuple(without))} if without else row
        for row in state["metrics"]
    ]
    logs = folder / "logs"
    state["logs"] = sorted(
        {str(path.parent.relative_to(logs)) for path in logs.rglob("events.out.*")}
        | {path.name for path in logs.rglob("run-*.wandb")}
        | {str(path.parent.relative_to(logs)) for path in logs.rglob("meta.yaml")}  # of MLflow's runs
    )
    return {part: digest(value) for part, value in state.items()}


def said(arguments: list[str], watcher: Callback | None = None) -> str:
    """Nothing if the command ended well, otherwise the sentence, or the error, that it ended with.

    Args:
        arguments: The command line.
        watcher: A callback that is there once all that is checked before training has been.
    """
    check = LaserCLI._check

    def check_then_watch(cli: LaserCLI) -> None:
        check(cli)
        cli.trainer.callbacks += [] if watcher is None else [watcher]  # type: ignore[attr-defined]

    with patch("laser_pl.commands.cli._say") as say, patch.object(LaserCLI, "_check", check_then_watch):
        try:
            main(arguments)
        except SystemExit as end:
            return str(say.call_args.args[0]) if say.called else f"exit code {end.code}"
        except Exception as error:  # which is a fault, and stands in the table as one
            return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """The project's folder is the current one, no report is made, and how the policy writes is known."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        with patch("laser_pl.commands.cli.report_after_fit"), patch.object(way, "_find_out", lambda base: way.FASTEST):
            yield
    finally:
        os.chdir(before)


def outcome(
    arguments: Sequence[str], scratch: Path, without: Sequence[str] = (), moments: Sequence[str] = MOMENTS
) -> dict[str, str]:
    """What became of the setting.

    Args:
        arguments: Its command line.
        scratch: A new folder for its runs.
        without: How the names of metrics begin that the clock or the machine says.
        moments: At which of them it is killed.

    Returns:
        By ``runs`` and by moment: ``equal``, ``none`` where the moment did not come, the sentence with which it was
        refused, or the parts that differ.
    """
    with in_a_hurry():
        whole, copies = scratch / "whole", scratch / "killed"
        whole.mkdir(parents=True)
        sentence = said(command(whole, arguments), Moments(str(whole), str(copies)))
        if sentence:
            return {"runs": sentence.replace(str(whole), "...")}
        if not (whole / "runs" / "run" / "checkpoints").exists():
            return {"runs": "yes, and saves nothing"}
        result, expected = {"runs": "yes"}, state_of(whole, without)
        for moment in moments:
            folder = copies / moment
            if not folder.exists():
                result[moment] = "none"
                continue
            sentence = said(command(folder, arguments, "--resume"))
            if not sentence:
                state = state_of(folder, without)
                differ = [part for part in expected if state[part] != expected[part]]
                sentence = f"other {', '.join(differ)}" if differ else "equal"
            result[moment] = sentence
        shutil.rmtree(scratch)
        return result
