"""The pool asks the right reward model, loads it once, and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import Pool, RewardModel

ThroughDisk = Callable[[dict[str, Any]], dict[str, Any]]
CPU = torch.device("cpu")
PROMPTS = [Prompt(f"p{i}", "x" * i, "unused") for i in range(4)]
RESPONSES = [["a", "bb", "ccc"]] * 4


class Lengths(RewardModel):
    """Scores by the lengths of prompt and response, times a factor of its own."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.loads: list[torch.device] = []
        self.calls: list[list[str]] = []

    def load(self, device: torch.device) -> None:
        self.loads.append(device)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        self.calls.append([prompt.id for prompt in prompts])
        lengths = [[10 * len(p.prompt) + len(r) for r in row] for p, row in zip(prompts, responses, strict=True)]
        return self.factor * torch.tensor(lengths, dtype=torch.float32)


class Constant(RewardModel):
    """Answers with the same tensor whatever it is asked."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        return self.scores


def test_a_reward_model_is_loaded_once_and_only_when_asked() -> None:
    models = {"a": Lengths(1), "b": Lengths(2)}
    pool = Pool(models)
    assert pool.loaded == []
    for _ in range(3):
        pool.score(1, PROMPTS, RESPONSES, CPU)
    assert pool.loaded == ["b"]
    assert (models["a"].loads, models["b"].loads) == ([], [CPU])


@given(st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_every_prompt_is_scored_by_its_own_reward_model_in_one_call_each(arms: list[int]) -> None:
    models = [Lengths(1), Lengths(-2), Lengths(0.5)]
    pool = Pool(dict(zip("abc", models, strict=True)))
    found = pool.score_by_arm(torch.tensor(arms), PROMPTS, RESPONSES, CPU)
    assert found.dtype == torch.float64
    assert found.tolist() == [[models[arm].factor * (10 * row + n) for n in (1, 2, 3)] for row, arm in enumerate(arms)]
    for arm, model in enumerate(models):
        asked = [f"p{row}" for row in range(4) if arms[row] == arm]
        assert model.calls == ([asked] if asked else [])
        assert pool.forwards["abc"[arm]] == 3 * len(asked)


def test_infinite_scores_are_no_opinion() -> None:
    pool = Pool({"a": Constant(torch.tensor([[float("inf"), 1.0, -float("inf"), float("nan")]]))})
    found = pool.score(0, PROMPTS[:1], [["a", "b", "c", "d"]], CPU)
    assert found.isnan().tolist() == [[True, False, True, True]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_whole_numbers_are_scores(dtype: torch.dtype) -> None:
    pool = Pool({"a": Constant(torch.tensor([[1, 0, 1]], dtype=dtype))})
    assert pool.score(0, PROMPTS[:1], [["a", "b", "c"]], CPU).tolist() == [[1.0, 0.0, 1.0]]


def test_a_list_of_scores_names_the_reward_model() -> None:
    pool = Pool({"odd": Constant([[0.0] * 3] * 4)})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"'odd' returned list, expected a tensor of shape \(4, 3\)"):
        pool.score(0, PROMPTS, RESPONSES, CPU)


def test_scores_come_without_gradient() -> None:
    pool = Pool({"a": Constant(torch.ones(4, 3, requires_grad=True))})
    assert not pool.score(0, PROMPTS, RESPONSES, CPU).requires_grad


@pytest.mark.parametrize("shape", [(4,), (3, 4), (12, 1)])
def test_scores_of_another_shape_name_the_reward_model(shape: tuple[int, ...]) -> None:
    pool = Pool({"fine": Lengths(1), "odd": Constant(torch.zeros(shape))})
    with pytest.raises(ConfigurationError, match=r"'odd' returned scores of shape .*, expected \(4, 3\)"):
        pool.score(1, PROMPTS, RESPONSES, CPU)


def test_a_pool_needs_a_reward_model() -> None:
    with pytest.raises(ConfigurationError, match="reward_models is empty"):
        Pool({})


def test_counts_go_on_after_a_restart(through_disk: ThroughDisk) -> None:
    one = Pool({"a": Lengths(1), "retired": Lengths(2)})
    one.score(0, PROMPTS, RESPONSES, CPU)
    one.score(1, PROMPTS, RESPONSES, CPU)
    two = Pool({"a": Lengths(1), "new": Lengths(3)})
    two.load_state_dict(through_disk(one.state_dict()))
    two.score(0, PROMPTS[:1], RESPONSES[:1], CPU)
    assert two.forwards == {"a": 15, "new": 0}
    assert two.seconds >= one.seconds
    assert two.loaded == ["a"]
