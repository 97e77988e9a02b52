"""An arm that is a member of an ensemble as well is one reward model: found by name, loaded and held once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.commands.cli import LaserCLI
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import Arm, ByCategory, MeanEnsemble, Pool, RewardModel
from laser_pl.rewards.memory import Memory
from tests.runs import decisions_of

CPU = torch.device("cpu")
PROMPTS = [Prompt("p", "?", "unused", category="a"), Prompt("q", "?", "unused", category="b")]
RESPONSES = [["a", "bb", "ccc"]] * 2


class Weighty(RewardModel):
    """Prefers long responses, or short ones; notes what becomes of its weights."""

    def __init__(self, sign: int, size: int = 10) -> None:
        self.sign, self.bytes = sign, size
        self.diary: list[str] = []
        self.tokens = 0

    def size(self) -> int:
        return self.bytes

    def load(self, device: torch.device) -> None:
        self.diary.append("load")

    def unload(self) -> None:
        self.diary.append("unload")

    def spent(self) -> dict[str, float]:
        return {"tokens": self.tokens}

    def learners(self) -> list[RewardModel]:
        return [self]

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        assert self.diary[-1] == "load"
        self.tokens += sum(map(len, responses))
        return torch.tensor([[float(self.sign * len(text)) for text in row] for row in responses])


def both() -> MeanEnsemble:
    return MeanEnsemble({"one": Arm("long"), "other": Arm("short")})


def test_an_ensemble_of_arms_scores_as_one_of_its_own_members() -> None:
    own = MeanEnsemble({"one": Weighty(1), "other": Weighty(2)})
    own.load(CPU)
    pool = Pool({"long": Weighty(1), "short": Weighty(2), "both": both()})
    assert pool.score("both", PROMPTS, RESPONSES, CPU).tolist() == own.score(PROMPTS, RESPONSES)


def test_weights_are_loaded_once_whoever_asks_first() -> None:
    models: dict[str, Any] = {"long": Weighty(1), "both": both(), "short": Weighty(-1)}
    pool = Pool(models)
    for name in ("both", "long", "both", "short"):
        pool.score(name, PROMPTS, RESPONSES, CPU)
    assert models["long"].diary == models["short"].diary == ["load"]
    assert set(pool.memory.held) == set(models)
    assert pool.forwards == {"long": 6, "short": 6, "both": 24}
    assert pool.spent == {"both": {"tokens": 24}, "long": {"tokens": 6}, "short": {"tokens": 6}}
    assert models["both"].size() == 0
    assert models["both"].learners() == [models["both"]]  # arms take lessons of their own


def test_arms_that_are_asked_together_are_held_together() -> None:
    models: dict[str, Any] = {"third": Weighty(1), "long": Weighty(1), "short": Weighty(-1), "both": both()}
    pool = Pool(models, Memory(models, "20B"))
    pool.memory.check()
    for name in ("long", "third", "both", "third", "both"):
        pool.score(name, PROMPTS, RESPONSES, CPU)
    # Of two that fit: long, third; then both arms in place of third; third in place of the older; that one again.
    assert models["third"].diary == ["load", "unload", "load", "unload"]
    assert models["short"].diary[-1] == models["long"].diary[-1] == "load"


def test_arms_that_do_not_fit_together_are_refused() -> None:
    models: dict[str, RewardModel] = {"long": Weighty(1), "short": Weighty(-1), "both": both()}
    pool = Pool(models, Memory(models, "15B"))
    with pytest.raises(ConfigurationError, match="'both' has 20 B of weights, more than"):
        pool.memory.check()


def test_a_category_can_be_an_arms() -> None:
    routed = ByCategory({"a": Arm("long"), "b": Arm("short")})
    pool = Pool({"long": Weighty(1), "short": Weighty(-1), "routed": routed})
    pool.check(PROMPTS, lambda: "abc")
    assert pool.score("routed", PROMPTS, RESPONSES, CPU).tolist() == [[1, 2, 3], [-1, -2, -3]]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ({"general": Weighty(1), "both": MeanEnsemble({"x": Arm("genral")})},
         r"'both' cannot be used\. An Arm names 'genral', .* Did you mean 'general'\?"),
        ({"long": Weighty(1), "it": Arm("it")}, r"in a circle: it -> it\."),
        ({"a": MeanEnsemble({"x": Arm("b")}), "b": MeanEnsemble({"x": Arm("c")}), "c": ByCategory({"x": Arm("b")})},
         r"in a circle: b -> c -> b\."),
    ],
)  # fmt: skip
def test_an_arm_that_cannot_be_is_refused(models: dict[str, RewardModel], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Pool(models)


def test_where_there_are_no_arms_it_stands_for_nothing() -> None:
    with pytest.raises(ConfigurationError, match="stands for 'long' of"):
        Arm("long").check()


def test_a_run_asks_an_ensemble_of_its_arms(fit: Callable[..., LaserCLI], tmp_path: Path) -> None:
    function = "tests.rewards.test_arm.brevity"
    arms = {
        "brief": {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": function}},
        "both": {
            "class_path": "laser_pl.rewards.MeanEnsemble",
            "init_args": {
                "reward_models": {"x": {"class_path": "laser_pl.rewards.Arm", "init_args": {"name": "brief"}}}
            },
        },
    }
    (tmp_path / "arms.yaml").write_text(json.dumps({"selection": {"reward_models": arms}}))
    run = fit(tmp_path, f"--config={tmp_path}/arms.yaml", "--selection.bandit=laser_pl.bandits.RoundRobin")
    assert {decision["arm"] for decision in decisions_of(run)} == {"brief", "both"}


def brevity(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    return [-float(len(text)) for text in completions]
