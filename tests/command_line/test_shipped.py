"""The configurations that come with the package: `config ls`, `show` and `cp`, and `--config preset:NAME`."""

from __future__ import annotations

from pathlib import Path

import pytest

from laser_pl.command_line.config_files import configs_of, refuse_broken_yaml, with_paths
from laser_pl.command_line.shipped import FOLDER, KINDS, kind_of, lacks, path_of, purpose_of, shipped
from laser_pl.commands.config import config, listed, main
from laser_pl.errors import ConfigurationError

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
PRESETS = sorted(path.stem for path in (EXPERIMENTS / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_kind_is_there_and_no_name_stands_for_two() -> None:
    found = shipped()
    assert {kind_of(path) for path in found.values()} == set(KINDS)
    assert len({*found.values()}) == len(found) == sum(len([*(FOLDER / kind).glob("*.yaml")]) for kind in KINDS)
    assert {*PRESETS, "quickstart", "rewards/judges", "paper/gsm8k", "objectives/grpo", "first/single"} <= set(found)


def test_ls_names_all_with_their_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    main(["ls"])
    text = " ".join(capsys.readouterr().out.split())
    for name, path in shipped().items():
        assert f" {name} " in text
        assert len(purpose_of(path)) > 20
        assert " ".join(purpose_of(path).split()[:3]) in text


@pytest.mark.parametrize("width", [30, 80, 200])
def test_ls_fits_the_terminal_where_one_is_wide_enough(width: int) -> None:
    indent = max(map(len, shipped())) + 4
    assert max(map(len, listed(width).splitlines()[1:])) <= max(width, indent + 60)


def test_ls_says_what_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = " ".join(listed(1000).split())
    assert "[needs experiments/quickstart of a checkout]" in elsewhere
    assert "[needs openai/gsm8k from the hub]" in elsewhere
    assert lacks(path_of("trusted")) == []
    monkeypatch.chdir(EXPERIMENTS.parent)
    assert lacks(path_of("quickstart")) == []


@pytest.mark.parametrize("name", ["gap", "preset:gap"])
def test_show_is_the_file(name: str) -> None:
    assert config(["show", name]) == (EXPERIMENTS / "presets/gap.yaml").read_text().rstrip()


@pytest.mark.parametrize(("dest", "out"), [([], "judges.yaml"), (["own.yaml"], "own.yaml"), (["."], "judges.yaml")])
def test_cp_copies_and_writes_over_nothing_without_being_told(dest: list[str], out: str) -> None:
    source = EXPERIMENTS / "rewards/judges.yaml"
    assert config(["cp", "rewards/judges", *dest]).startswith(f"{out} is rewards/judges; needs experiments/quickstart ")
    assert Path(out).read_bytes() == source.read_bytes()
    Path(out).write_text("mine")
    with pytest.raises(ConfigurationError, match=rf"'{out}' is there already"):
        config(["cp", "rewards/judges", *dest])
    assert Path(out).read_text() == "mine"
    config(["cp", "rewards/judges", *dest, "--force"])
    assert Path(out).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["show", "trsted"], r"There is no preset 'trsted'\. Did you mean 'trusted'\?"),
        (["show", "judges"], r"There is no preset 'judges'\. Did you mean 'rewards/judges'\?"),
        (["cp", "zzzz"], r"There is no preset 'zzzz'\. See python -m laser_pl config ls\."),
        (["cp"], r"config cp: name a configuration\."),
        (["ls", "gap"], r"Did you mean 'config show gap'\?"),
        (["cp", "gap", "no/folder/gap.yaml"], r"Nothing can be written to 'no/folder/gap\.yaml': No such file"),
        (["lst"], r"invalid choice: 'lst'.*Did you mean 'ls'\?"),
    ],
)
def test_what_there_is_not_is_said_in_one_sentence(args: list[str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        config(args)


FORMS = [["--config", "preset:gap"], ["--config=preset:gap"], ["-cpreset:gap"], ["-c", "preset:gap"]]


@pytest.mark.parametrize("form", FORMS)
def test_a_preset_is_a_configuration(form: list[str]) -> None:
    gap = str(FOLDER / "presets/gap.yaml")
    words = ["fit", *form, "--name", "preset:gap"]
    assert configs_of(words) == [gap]
    assert with_paths(words) == ["fit", *form[:-1], form[-1].replace("preset:gap", gap), "--name", "preset:gap"]
    refuse_broken_yaml(words)


def test_a_preset_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no preset 'coolin'\. Did you mean 'cooling'\?"):
        refuse_broken_yaml(["fit", "--config", "preset:coolin"])
