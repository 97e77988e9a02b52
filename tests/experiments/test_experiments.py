"""Every YAML that is shipped works with the command in its own header."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from laser_pl.commands.cli import main

ROOT = Path(__file__).resolve().parents[2]
EVERY = sorted(path for ending in ("yaml", "yml") for path in (ROOT / "experiments").rglob(f"*.{ending}"))
# A sweep is W&B's file and no configuration; tests/experiments/test_sweeps.py runs what stands in it.
CONFIGS = [path for path in EVERY if path.parent.name not in {"sweeps", "resume"}]  # what scripts make runs of


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in shipped configs start at the repository's root."""
    monkeypatch.chdir(ROOT)


def command_of(config: Path) -> list[str]:
    """The arguments behind ``python -m laser_pl`` in a config's opening comment."""
    found = re.search(r"^# Run: +python -m laser_pl (.+)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{config} does not say how it is run"
    return shlex.split(found[1])


def test_none_is_missed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "experiments/*.yaml", "experiments/*.yml"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listed
    assert {ROOT / name for name in listed} <= set(EVERY)
    assert [path.name for path in EVERY if path not in CONFIGS] == ["base.yaml", "alpha.yaml"]
    assert {"cooling", "default", "paper", "gap", "trusted"} <= {
        path.stem for path in CONFIGS if path.parent.name == "presets"
    }


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_is_accepted(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the parser makes of the documented command holds every value of the file."""
    command = command_of(config)
    assert str(config.relative_to(ROOT)) in command
    with pytest.raises(SystemExit) as end:
        main([*command, "--print_config"])
    assert end.value.code == 0
    assert_within(yaml.safe_load(config.read_text(encoding="utf-8")), yaml.safe_load(capsys.readouterr().out), "")


def assert_within(given: object, parsed: object, where: str) -> None:
    if isinstance(given, dict):
        assert isinstance(parsed, dict), where
        for key, value in given.items():
            assert key in parsed, f"{where}.{key}"
            assert_within(value, parsed[key], f"{where}.{key}")
    else:
        assert parsed == given, where


def test_quickstart_runs(tmp_path: Path) -> None:
    """One short iteration of the real thing, which starts where the world's card says.

    Card and run draw other samples for the same prompts. The card's standard errors count the prompts as drawn anew, so
    four of them, times sqrt(2) for the difference, are more than enough.
    """
    config = next(path for path in CONFIGS if path.name == "quickstart.yaml")
    short = ["--trainer.max_epochs", "1", "--data.prompts_per_iteration", "32", "--runs_dir", str(tmp_path)]
    run = main([*command_of(config), *short])
    assert run.summary["steps"] == len(run.folder.selection.read_text().splitlines()) >= 32 / 16
    assert run.summary["iterations"] == 1
    card = json.loads((ROOT / "experiments/quickstart/world_card.json").read_text(encoding="utf-8"))["policy"]
    assert set(run.summary["accuracy"]["before"]) == set(run.summary["accuracy"]["after"]) == {*card, "average"}
    for category, measured in card.items():
        expected, error = measured["sampled"]["share"], measured["sampled"]["standard_error"]
        assert run.summary["accuracy"]["before"][category] == pytest.approx(expected, abs=4 * 2**0.5 * error)
