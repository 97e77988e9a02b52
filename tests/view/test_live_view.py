"""A run as it is seen: on a pseudo-terminal, in a log, and not at all."""

from __future__ import annotations

import fcntl
import importlib
import json
import logging
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import laser_pl.view.screen
from laser_pl.callbacks.live_view import LiveView
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.run.folder import RunFolder
from laser_pl.run.state import digest, run_state
from laser_pl.view.above import Above
from laser_pl.view.lines import Lines
from laser_pl.view.state import State

Command = Callable[..., list[str]]
Plug = Callable[..., str]
QUICKSTART = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
WORLD = QUICKSTART / "reward_models"
HOSTILE = "a[/bold]\x1b[31m\r\n\u202e"
ESCAPED = r"a[/bold]\x1b[31m\r\n\u202e"


class Terminal:
    """A terminal of some width: what a program writes on it, and what then stands on it.

    It knows what is drawn with: carriage returns, line feeds, colours, going up and erasing a line.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.settings = termios.tcgetattr(self.slave)
        self.written = bytearray()
        self.ended: BaseException | None = None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.master, 65536)
            except OSError:  # nobody has it open any more
                return
            if not part:
                return
            self.written += part

    def close(self) -> None:
        """Read what is left."""
        os.close(self.slave)
        self._reader.join()
        os.close(self.master)

    @property
    def lines(self) -> list[str]:
        """What stands on it, from the first line on."""
        lines, row, column = [""], 0, 0
        for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|.|\n", self.written.decode(), re.S):
            if token == "\n":
                row, column = row + 1, 0
            elif token == "\r":
                column = 0
            elif token.startswith("\x1b["):
                amount, kind = token[2:-1], token[-1]
                assert kind in "AKm", token
                if kind == "A":
                    row -= int(amount)
                elif kind == "K":
                    lines[row] = ""
                continue
            else:
                if column == self.columns:
                    row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
                line = lines[row].ljust(column)
                lines[row] = line[:column] + token + line[column + 1 :]
                column += 1
            lines += [""] * (row + 1 - len(lines))
        return [line.rstrip() for line in lines if line.strip()]

    @property
    def frames(self) -> str:
        """All that was ever written on it, without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.written.decode())


def run_on_terminal(args: list[str], columns: int = 100) -> Terminal:
    """Run a command whose output goes to a terminal; it may end in any way. Drawn far more often than usual."""
    terminal = Terminal(columns)
    with os.fdopen(os.dup(terminal.slave), "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(laser_pl.view.screen, "REDRAWN_EVERY", 0.01)
        patch.setenv("TERM", "xterm-256color")
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            patch.delenv(name, raising=False)
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        handler = logging.StreamHandler(stream)
        logging.getLogger().addHandler(handler)
        try:
            main(args)
        except (SystemExit, RuntimeError) as error:
            terminal.ended = error
        finally:
            logging.getLogger().removeHandler(handler)
            after = sys.stdout, sys.stderr, handler.stream
    assert after == (stream, stream, stream)
    assert termios.tcgetattr(terminal.slave) == terminal.settings
    assert "laser_pl view" not in {thread.name for thread in threading.enumerate()}
    terminal.close()
    return terminal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the run that is shown."""
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def shown(fit_command: Command, folder: Path) -> Terminal:
    """A run of two iterations."""
    return run_on_terminal(fit_command(folder, "--trainer.max_epochs=2"))


def hostile_arms(*names: str) -> str:
    arms = {
        name: {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": {"weights": {"name": str(WORLD / of)}}}
        for name, of in zip(names, ("numbers", "sorter"), strict=True)
    }
    return f"--selection.reward_models={json.dumps(arms)}"


def test_a_terminal_shows_a_run_while_it_goes_on(shown: Terminal) -> None:
    frames = shown.frames
    for phase in ("loading the policy", "test before", "rollouts", "training", "validation", "test after"):
        assert f"\r\n{phase}" in frames or f"  {phase}: " in frames, phase
    assert re.search(r"run +small +iteration 2 of 2 +step \d +0:00:\d\d", frames)
    assert re.search(r"rollouts +━+ +\d+ of 96 responses, [\d.]+/s", frames)
    assert re.search(r"loss +\d\.\d+, mean of the iteration \d\.\d+", frames)
    assert re.search(r"accuracy +test before 0\.\d+, validation 0\.\d+", frames)
    assert re.search(r"scored by +\w+ +\d+% +━+", frames)
    assert re.search(r"last choice +a mixed batch: \w+, mean -?\d\.\d\d \+ bonus \d\.\d\d, next best", frames)
    assert "\x1b[?25" not in frames  # the cursor is never hidden, so that it cannot stay so


def test_what_came_of_it_stays_on_the_terminal_and_nothing_else(shown: Terminal, folder: Path) -> None:
    lines = shown.lines
    assert lines[0].startswith("Test before: accuracy 0.")
    starts = [f"Iteration {number} of 2: mean loss " for number in (1, 2)]
    assert [line[: len(starts[0])] for line in lines if line.startswith("Iteration")] == starts
    table = lines.index("Test accuracy of sampled responses")
    assert lines[table - 1].startswith("Test after: accuracy 0.")
    assert "".join(lines[table:]).endswith(f"Run: {folder / 'runs' / 'small'}")
    assert not [line for line in lines if line.startswith(("run  ", "last choice", "scored by", "rollouts"))]


def test_on_a_narrow_terminal_names_that_are_commands_to_it_or_markup_are_shown_escaped(
    fit_command: Command, tmp_path: Path
) -> None:
    terminal = run_on_terminal(fit_command(tmp_path, hostile_arms(HOSTILE, "[blink]b")), columns=24)
    assert terminal.ended is None
    assert ESCAPED in terminal.frames
    assert "[blink]b" in terminal.frames
    assert "\x1b[31m" not in terminal.written.decode()
    assert "\u202e" not in terminal.frames


def test_warnings_stand_above_the_picture_and_stay(fit_command: Command, tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(
        "import logging, sys, warnings\n"
        "def score(prompts, completions, **columns):\n"
        "    logging.getLogger('other').warning('a [/warning]')\n"
        "    warnings.warn('another [/one]')\n"
        "    print('pri', end='', flush=True); print('nted [/x]')\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    sys.path.insert(0, str(tmp_path))
    arm = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "talking.score"}}
    try:
        with pytest.warns(UserWarning, match="another"):
            terminal = run_on_terminal(
                fit_command(tmp_path, f"--selection.reward_models={json.dumps({'talking': arm})}")
            )
    finally:
        sys.path.remove(str(tmp_path))
    assert terminal.ended is None
    assert terminal.lines.count("a [/warning]") == terminal.lines.count("printed [/x]") == 4


def test_a_run_that_is_asked_to_end_leaves_the_terminal_clean(fit_command: Command, tmp_path: Path, plug: Plug) -> None:
    terminal = run_on_terminal(fit_command(tmp_path, plug("on_train_batch_start", 2, signal.SIGTERM)))
    assert isinstance(terminal.ended, SystemExit)
    assert terminal.ended.code == 128 + signal.SIGTERM
    first, *said = terminal.lines
    assert first.startswith("Test before: accuracy ")
    assert "".join(said).startswith("laser_pl: Interrupted by SIGTERM. Go on with: python -m laser_pl fit")


def test_a_run_that_fails_leaves_the_terminal_clean(fit_command: Command, tmp_path: Path, plug: Plug) -> None:
    terminal = run_on_terminal(fit_command(tmp_path, plug("on_train_batch_start", 2)))
    assert isinstance(terminal.ended, RuntimeError)
    assert len(terminal.lines) == 1


def test_a_mistake_in_the_picture_ends_the_view_and_not_the_run(
    fit_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(laser_pl.view.screen, "picture", broken)
    terminal = run_on_terminal(fit_command(tmp_path))
    assert terminal.ended is None
    told = [message for message in caplog.messages if "shown no longer" in message]
    assert told == ["The run is shown no longer, and goes on (ZeroDivisionError: oh)."]


def test_a_real_process_on_a_terminal_ends_at_ctrl_c(fit_command: Command, tmp_path: Path) -> None:
    terminal = Terminal(90)
    command = [sys.executable, "-m", "laser_pl", *fit_command(tmp_path, "--trainer.max_epochs=1000")]
    # Of the processes that torch 2.6 starts for its compiler, one that is interrupted writes on the terminal itself.
    own = {"TERM": "xterm", "TORCH_WARM_POOL": "0"}
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}} | own

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with subprocess.Popen(command, stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave,
                          env=environment, preexec_fn=take_terminal) as process:  # fmt: skip
        while "last choice" not in terminal.frames and process.poll() is None:
            time.sleep(0.05)
        os.write(terminal.master, b"\x03")
        assert process.wait(60) == 130
    terminal.close()
    assert "laser_pl: Interrupted by SIGINT. Go on with: python -m laser_pl fit" in "\n".join(terminal.lines)
    assert not [line for line in terminal.lines if line.startswith(("run  ", "last choice", "scored by"))]


def test_the_picture_in_the_documentation_is_drawn_from_a_run(
    tmp_path: Path, fit_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(QUICKSTART))
    live = importlib.import_module("live")
    # What makes the run small comes behind the quickstart's own configuration.
    live.draw(tmp_path / "drawn.svg", 0, 1, *[arg for arg in fit_command(tmp_path)[1:] if "runs_dir" not in arg])
    drawn, shipped = (path.read_text() for path in (tmp_path / "drawn.svg", QUICKSTART / "live.svg"))
    for text in (drawn, shipped):
        for label in ("run", "training", "loss", "accuracy", "scored", "choice", "numbers", "longer"):
            assert re.search(rf">{label}\b|&#160;{label}\b", text), label
        assert not re.search(r"@font-face|/(home|root|tmp|Users)/", text)
    assert "iteration&#160;3&#160;of&#160;4" in shipped


# -- where there is no terminal --------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was said on standard error, without the time."""
    return [re.sub(r"^\[\d+:\d\d:\d\d\] ", "", line) for line in capsys.readouterr().err.splitlines()]


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"(accuracy|loss) \d\.\d+", r"\1 x", line.split("; scored by")[0]) for line in lines]


def test_a_log_has_a_line_for_each_phase_and_result(
    fit_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(fit_command(tmp_path))
    lines = said(capsys)
    assert without_numbers(lines) == [
        "Reading prompts",
        "Loading the policy",
        "Test before, 8 responses",
        "Test before: accuracy x",
        "Iteration 1 of 1: rollouts, 96 responses",
        "Iteration 1 of 1: training, 4 steps",
        "Iteration 1 of 1: validation, 8 responses",
        "Iteration 1 of 1: mean loss x; validation accuracy x",
        "Test after, 8 responses",
        "Test after: accuracy x",
        "Writing the report",
    ]
    shares = [float(share) for share in re.findall(r"(\d+)%", lines[7])]
    assert sum(shares) == pytest.approx(100, abs=2)


def test_a_run_that_goes_on_within_an_iteration_shows_all_of_it(
    fit_command: Command, tmp_path: Path, plug: Plug, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError):
        main(fit_command(tmp_path, "--checkpoint_every=1", plug("on_train_batch_start", 3)))
    capsys.readouterr()
    run = main(fit_command(tmp_path, "--checkpoint_every=1", "--resume"))
    lines = without_numbers(said(capsys))
    assert lines[:4] == [
        "Reading prompts", "Loading the policy", "Iteration 1 of 1: rollouts, 96 responses",
        "Iteration 1 of 1: training, 4 steps",
    ]  # fmt: skip
    (view,) = [callback for callback in run.trainer.callbacks if isinstance(callback, LiveView)]
    assert view.state.step == 4
    assert sum(view.state.judged.values()) == 16  # prompts of all four steps, three of them before it was interrupted


def test_quiet_says_where_the_run_lies_and_nothing_else_and_the_run_is_the_same(
    fit_command: Command, tmp_path: Path, shown: Terminal, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    main(fit_command(tmp_path, "--trainer.max_epochs=2", "--quiet"))
    assert capfd.readouterr() == (f"Run: {tmp_path / 'runs' / 'small'}\n", "")
    states = [digest(run_state(RunFolder(one / "runs" / "small"))) for one in (folder, tmp_path)]
    assert states[0] == states[1]


def test_without_a_progress_bar_nothing_is_shown_but_the_closing_table(
    fit_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(fit_command(tmp_path, "--trainer.enable_progress_bar=false"))
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("Test accuracy of sampled responses")


def test_a_bar_of_the_users_takes_the_place_of_ours(
    fit_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = json.dumps({"class_path": "lightning.pytorch.callbacks.TQDMProgressBar"})
    run: LaserCLI = main(fit_command(tmp_path, f"--trainer.callbacks+={bar}"))
    assert type(run.trainer.progress_bar_callback).__name__ == "TQDMProgressBar"
    assert not [callback for callback in run.trainer.callbacks if isinstance(callback, LiveView)]
    assert "Epoch 0: 100%" in "".join(capsys.readouterr())


def test_test_and_validate_say_what_they_measured(
    fit_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("test", "validate"):
        main([command, *fit_command(tmp_path)[1:]])
    assert without_numbers(said(capsys)) == [
        "Reading prompts", "Loading the policy", "Test, 8 responses", "Test: accuracy x",
        "Reading prompts", "Loading the policy", "Validation, 8 responses", "Validation: accuracy x",
    ]  # fmt: skip


def test_whoever_stops_reading_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stderr", Gone())
    lines = Lines(State)
    lines.say("one")
    lines.say("two")


def test_lines_go_on_whole_and_as_they_are() -> None:
    lines: list[str] = []
    above = Above(sys.__stdout__, lines.append)  # type: ignore[arg-type]
    for text in ("10%\r20", "%\r\n", "[/x] a", " b\nc"):
        above.write(text)
        above.flush()
    assert lines == ["20%", "[/x] a b"]
    above.finish()
    assert lines[2:] == ["c"]
