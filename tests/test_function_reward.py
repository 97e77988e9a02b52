"""Reward functions as TRL has them work unchanged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import FunctionReward

CHAT = [{"role": "user", "content": "2+2?"}]
PROMPTS = [
    Prompt("p", "1+1=", "unused", answer="2", columns={"answer": "2", "level": 1}),
    Prompt("c", CHAT, "unused", answer="4", columns={"answer": "4", "source": "book"}),
]
RESPONSES = [["2", "3", ""], ["4", "44", "x"]]


def recording(values: Any) -> tuple[FunctionReward, list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def function(**kwargs: Any) -> Any:
        calls.append(kwargs)
        return values

    return FunctionReward(function), calls


def test_the_call_is_trls() -> None:
    """One entry per response; prompts and completions are messages where the prompt is a chat."""
    reward, calls = recording([0.0] * 6)
    reward.score(PROMPTS, RESPONSES)
    assert calls == [
        {
            "prompts": ["1+1=", "1+1=", "1+1=", CHAT, CHAT, CHAT],
            "completions": ["2", "3", "", *([{"role": "assistant", "content": text}] for text in RESPONSES[1])],
            "answer": ["2", "2", "2", "4", "4", "4"],
            "level": [1, 1, 1, None, None, None],
            "source": [None, None, None, "book", "book", "book"],
        }
    ]


def test_values_are_scores_row_by_row() -> None:
    reward, _ = recording([1, 2.5, -3, 4, 0, True])
    assert reward.score(PROMPTS, RESPONSES).tolist() == [[1.0, 2.5, -3.0], [4.0, 0.0, 1.0]]


def test_none_is_no_opinion() -> None:
    reward, _ = recording([1.0, None, 2.0, None, None, None])
    found = reward.score(PROMPTS, RESPONSES)
    assert found.isnan().tolist() == [[False, True, False], [True, True, True]]
    assert float(found[0, 2]) == 2.0


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, tuple])
def test_values_may_come_in_any_sequence(make: Any) -> None:
    reward, _ = recording(make([1.0, 2.0, 3.0, 4.0, 5.0, math.nan]))
    found = reward.score(PROMPTS, RESPONSES)
    assert found.nan_to_num(6.0).tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_a_function_as_trls_documentation_writes_them() -> None:
    def exact(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
        return [1.0 if completion == right else 0.0 for completion, right in zip(completions, answer, strict=True)]

    assert FunctionReward(exact).score(PROMPTS[:1], RESPONSES[:1]).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("count", [0, 2, 7])
def test_a_wrong_number_of_values_names_the_function(count: int) -> None:
    def short(**kwargs: Any) -> list[float]:
        return [0.0] * count

    with pytest.raises(ConfigurationError, match=rf"short returned {count} values for 6 responses"):
        FunctionReward(short).score(PROMPTS, RESPONSES)


@pytest.mark.parametrize("values", [None, 1.0, ["good"] * 6])
def test_what_is_no_list_of_numbers_names_the_function(values: Any) -> None:
    def odd(**kwargs: Any) -> Any:
        return values

    with pytest.raises(ConfigurationError, match=r"odd must return a list of numbers: "):
        FunctionReward(odd).score(PROMPTS, RESPONSES)
