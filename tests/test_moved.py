"""Names of the release before, which go on for one more, each with a warning."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from laser_pl.batches import Prompt
from laser_pl.commands.cli import LaserCLI
from laser_pl.feedback.normalizers import Raw
from laser_pl.metrics.grader import Grader, majority_answer
from laser_pl.moved import MOVED, RENAMED, new_name


@pytest.mark.parametrize("old", ["laser_pl.reading.packing", *sorted(MOVED)])
def test_a_module_has_its_old_name_yet(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what the new one has, the same objects."""
    assert new_name(old)
    for name in [old, *(old.rsplit(".", depth)[0] for depth in range(1, old.count(".")))]:
        if new_name(name):
            monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(FutureWarning) as warned:
        former = import_module(old)
    assert any(str(one.message).startswith(f"{old} is laser_pl") for one in warned)
    new = import_module(new_name(old))
    shared = [name for name in vars(new) if name[:2] != "__"]
    assert all(getattr(former, name) is getattr(new, name) for name in shared)


@pytest.mark.filterwarnings("ignore:.*the old name goes:FutureWarning")
@pytest.mark.parametrize(
    ("module", "old"),
    [
        ("laser_pl.reading.reader", "ResponseReader"),
        ("laser_pl.reading.reader", "Reading"),
        ("laser_pl.reading.groups", "token_groups"),
        ("laser_pl.reading.common_start", "common_start"),
        ("laser_pl.runtime.ranks", "Ranks"),
        ("laser_pl.feedback.instruments", "Instruments"),
        ("laser_pl.feedback.scales", "Scale"),
        ("laser_pl.run.kept_lines", "kept_lines"),
    ],
)
def test_a_class_has_its_old_name_in_its_old_module(module: str, old: str) -> None:
    former = import_module(module)
    assert getattr(former, old) is getattr(former, RENAMED[old])


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("laser_pl.feedback.observations", "of_judges", "of_chosen_arms"),
        ("laser_pl.bandits.baselines", "Unlearning", "NonLearning"),
        ("laser_pl.metrics.grader", "most_said", "majority_answer"),
    ],
)
def test_a_function_has_its_old_name_in_its_module(module: str, old: str, new: str) -> None:
    with pytest.warns(FutureWarning, match=f"{old} is {new} now"):
        former = getattr(import_module(module), old)
    assert former is getattr(import_module(module), new)
    nothing = "nothing"
    with pytest.raises(AttributeError, match=nothing):
        getattr(import_module(module), nothing)


def test_what_was_never_there_is_missed() -> None:
    with pytest.warns(FutureWarning), pytest.raises(ModuleNotFoundError):
        import_module("laser_pl.reading.nothing")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, which the block below would raise again
def test_a_scale_is_a_normalizer(fit: Callable[..., LaserCLI], tmp_path: Path) -> None:
    """By its old setting and the old path of its class; what it learned goes on under the new name."""
    with pytest.warns(FutureWarning) as warned:
        run = fit(tmp_path, "--selection.scale=laser_pl.feedback.scales.Raw")
    assert any("selection.scale is selection.normalizer now" in str(one.message) for one in warned)
    assert type(run.selector.normalizer) is Raw
    state = torch.load(run.folder.checkpoint, weights_only=True)["callbacks"]["RewardSelection"]
    former = {"scale" if name == "normalizer" else name: value for name, value in state.items()}
    former["parts"] = {"scale" if name == "normalizer" else name: part for name, part in state["parts"].items()}
    run.selector.load_state_dict(former)
    assert run.selector.state_dict()["normalizer"] == state["normalizer"]


def test_a_graders_former_said_is_asked() -> None:
    class Own(Grader):
        def grade(self, response: str, prompt: Prompt) -> float:
            return 0.0

        def said(self, response: str, prompt: Prompt) -> str:
            return response[:1]

    with pytest.warns(FutureWarning, match=r"Own\.said is parsed_answer now"):
        assert majority_answer(Own(), ["ab", "cd", "ce"], Prompt("p", "?", "?")) == 1
