"""What an installed wheel can do in an empty folder: its configurations are listed, copied, shown and used."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

from laser_pl.command_line.shipped import FOLDER, shipped

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_wheel_holds_every_configuration_and_nothing_else_of_the_experiments(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("laser_pl/configs/")}
    assert held == {f"laser_pl/configs/{path.relative_to(FOLDER).as_posix()}" for path in shipped().values()}


def test_ls_show_and_cp(command: Command, tmp_path: Path) -> None:
    listed, shown, copied = (
        command("config", "ls"),
        command("config", "show", "trusted"),
        command("config", "cp", "gap"),
    )
    assert "  rewards/judges " in listed.stdout
    assert "needs experiments/quickstart of a checkout" in " ".join(listed.stdout.split())
    assert "laser_pl.feedback.signals.Trusted" in shown.stdout
    assert (tmp_path / "gap.yaml").read_bytes() == (FOLDER / "presets/gap.yaml").read_bytes()
    assert listed.stderr + shown.stderr + copied.stderr == ""
    again = command("config", "cp", "gap")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "'gap.yaml' is there already" in again.stderr


def test_presets_over_one_another_where_no_checkout_is(command: Command) -> None:
    done = command("fit", "--config", "preset:quickstart", "--config=preset:trusted", "--print_config=skip_unset")
    assert done.returncode == 0, done.stderr
    assert "class_path: laser_pl.feedback.signals.Trusted" in done.stdout
    assert "name: experiments/quickstart/policy" in done.stdout
    unknown = command("plan", "--config", "preset:trustd")
    assert unknown.stderr == "laser_pl: There is no preset 'trustd'. Did you mean 'trusted'?\n"
    assert unknown.returncode == 2
