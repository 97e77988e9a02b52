"""The page of all settings has each of a whole configuration, and says something of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from laser_pl.bandits import LinUCB
from laser_pl.commands.cli import main
from laser_pl.docs import settings


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Type, default and text of each setting that has its whole name."""
    lines = settings.page().partition("## Classes for")[0].splitlines()
    cells = [[cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines
             if line.startswith("| `")]  # fmt: skip
    return {name.strip("`"): rest for name, *rest in cells}


def named(config: Any, prefix: str = "") -> Iterator[str]:
    """Every setting of a configuration, but for those of classes, which it names."""
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict) and "class_path" not in value and name not in {"reward_models", "constraints"}:
            yield from named(value, f"{prefix}{name}.")


def test_every_setting_of_a_whole_configuration_has_a_row(
    rows: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", "experiments/quickstart.yaml", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    elsewhere = {"trainer", "ckpt_path", "weights_only"}  # Lightning's
    wanted = set(named({name: value for name, value in config.items() if name not in elsewhere}))
    former = {"selection.scale"}
    assert wanted - {*rows, *settings.SECTIONS} == former


def test_every_row_says_something(rows: dict[str, list[str]]) -> None:
    assert [name for name, (_, _, text) in rows.items() if not text] == []
    assert rows["model.evaluation.n"][1] == "`4`"  # not that of `Sampling` itself
    assert rows["data.rollouts.n"][1] == "`30`"
    assert rows["data.train"][1] == ""
    assert "LinUCB" in rows["selection.bandit"][1]


def test_every_class_that_a_setting_may_name_has_its_settings() -> None:
    page = settings.page()
    assert "### `laser_pl.bandits.LinUCB`" in page
    (alpha,) = [one for one in settings.settings_of(LinUCB, "") if one.name == "alpha"]
    assert (alpha.default, bool(alpha.text)) == ("`1.0`", True)
    for base in settings.SLOTS.values():
        for cls in settings.classes_for(base).values():
            assert [one.name for one in settings.settings_of(cls, "") if not one.text] == [], cls
