"""Reward functions as TRL has them work unchanged."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import FunctionReward
from laser_pl.rewards.asker import Asker

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
    assert reward.score(PROMPTS, RESPONSES) == [[1.0, 2.5, -3.0], [4.0, 0.0, 1.0]]


def test_none_is_no_opinion() -> None:
    reward, _ = recording([1.0, None, 2.0, None, None, None])
    assert reward.score(PROMPTS, RESPONSES) == [[1.0, None, 2.0], [None, None, None]]


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, tuple])
def test_values_may_come_in_any_sequence(make: Any) -> None:
    reward, _ = recording(make([1.0, 2.0, 3.0, 4.0, 5.0, math.nan]))
    first, second = reward.score(PROMPTS, RESPONSES)
    assert (first, second[:2]) == ([1.0, 2.0, 3.0], [4.0, 5.0])
    assert math.isnan(second[2])  # type: ignore[arg-type]


def test_a_function_as_trls_documentation_writes_them() -> None:
    def exact(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
        return [1.0 if completion == right else 0.0 for completion, right in zip(completions, answer, strict=True)]

    assert FunctionReward(exact).score(PROMPTS[:1], RESPONSES[:1]) == [[1.0, 0.0, 0.0]]


NAMES = ("prompts", "completions", "self", "function", "arguments", "responses", "answers", "kwargs", "columns", "name")
ODD = [Prompt("p", "1+1=", "unused", columns={name: f"column {name}" for name in NAMES})]


def test_columns_of_any_name_reach_a_function_but_for_what_it_is_asked_about() -> None:
    call: dict[str, Any] = {}

    def function(prompts: list[str], completions: list[str], self: list[str], **kwargs: Any) -> list[float]:
        call.update(kwargs, prompts=prompts, completions=completions, self=self)
        return [0.0] * 3

    assert FunctionReward(function).score(ODD, RESPONSES[:1]) == [[0.0] * 3]
    expected = {name: [f"column {name}"] * 3 for name in NAMES}
    assert call == expected | {"prompts": ["1+1="] * 3, "completions": RESPONSES[0]}


class Lengths:
    def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        assert "self" not in columns
        assert columns["answers"] == ["column answers"] * 3
        return [float(len(text)) for text in completions]

    def of(self, completions: list[str], **columns: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    @staticmethod
    def plainly(completions: list[str], self: list[str], **columns: Any) -> list[float]:
        return [float(len(text)) for text in completions]


def scaled(name: float, completions: list[str], **columns: Any) -> list[float]:
    return [name * len(text) for text in completions]


def only_what_it_names(completions: list[str], *, answers: list[str]) -> list[float]:
    return [float(len(text)) for text, _ in zip(completions, answers, strict=True)]


async def awaited(completions: list[str], self: Any = None, **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


@pytest.mark.parametrize(
    "function",
    [Lengths(), Lengths().of, Lengths.plainly, partial(scaled, 1.0), partial(scaled, name=1.0), only_what_it_names,
     awaited, lambda completions: map(len, completions)],
)  # fmt: skip
def test_methods_objects_and_functions_without_kwargs_are_given_what_they_take(function: Any) -> None:
    odd = [replace(ODD[0], columns={k: v for k, v in ODD[0].columns.items() if k != "name"})]
    assert FunctionReward(function).score(odd, RESPONSES[:1]) == [[1.0, 1.0, 0.0]]


def test_a_partials_own_argument_gives_no_way_to_a_column() -> None:
    assert FunctionReward(partial(scaled, 2.0)).score(ODD, RESPONSES[:1]) == [[2.0, 2.0, 0.0]]


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


def test_a_coroutine_function_is_awaited() -> None:
    async def slow_lengths(completions: list[str], **columns: Any) -> list[float]:
        async def one(text: str) -> float:
            await asyncio.sleep(0.001)
            return float(len(text))

        return await asyncio.gather(*map(one, completions))

    assert FunctionReward(slow_lengths).score(PROMPTS[:1], RESPONSES[:1]) == [[1.0, 1.0, 0.0]]


def test_a_coroutine_function_works_where_a_loop_runs_already() -> None:
    """As in a notebook."""

    async def zeros(completions: list[str], **columns: Any) -> list[float]:
        return [0.0] * len(completions)

    async def notebook() -> Any:
        return FunctionReward(zeros).score(PROMPTS, RESPONSES)

    assert asyncio.run(notebook()) == [[0.0] * 3] * 2


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_late_function_is_given_up(kind: str) -> None:
    release = threading.Event()

    def plain(**kwargs: Any) -> list[float]:
        release.wait(20)
        return [0.0] * 6

    async def coroutine(**kwargs: Any) -> list[float]:
        return plain()

    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 seconds"):
        FunctionReward(plain if kind == "plain" else coroutine, timeout=0.05).score(PROMPTS, RESPONSES)
    assert time.monotonic() - started < 10
    release.set()


def test_a_late_coroutine_is_stopped() -> None:
    """What it would have paid for is not."""
    ends: list[str] = []

    async def paid(completions: list[str], **columns: Any) -> list[float]:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            ends.append("stopped")
            raise
        ends.append("went on")
        return [0.0] * len(completions)

    with pytest.raises(TimeoutError, match=r"no answer within 0\.2 seconds"):
        FunctionReward(paid, timeout=0.2).score(PROMPTS, RESPONSES)
    assert ends == ["stopped"]


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_an_exception_of_the_function_comes_through(timeout: float | None) -> None:
    def broken(**kwargs: Any) -> list[float]:
        raise KeyError("answer")

    with pytest.raises(KeyError, match="answer"):
        FunctionReward(broken, timeout).score(PROMPTS, RESPONSES)


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_timeout_is_positive(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout must be > 0 seconds"):
        FunctionReward(lambda **kwargs: [], timeout)


def test_what_trl_passes_is_passed_and_metrics_are_told_once() -> None:
    def function(completions: Any, completion_ids: Any, trainer_state: Any, log_extra: Any, log_metric: Any) -> Any:
        log_extra("length", completions)
        log_metric("a", 1.0)
        log_metric("a", torch.tensor(4.0))
        return [len(ids) + trainer_state.global_step for ids in completion_ids]

    asker = Asker(lambda text: [7] * len(text))
    asker.state.global_step = 10
    reward = FunctionReward(function)
    reward.check_texts(PROMPTS, lambda: "")
    reward.asked_by(asker)
    assert reward.score(PROMPTS, RESPONSES) == [[11.0, 11.0, 10.0], [11.0, 12.0, 11.0]]
    assert (asker.told(), asker.told()) == ({"a": [1.0, 4.0]}, {})


def test_parameters_that_nobody_gives_are_named() -> None:
    def function(completions: Any, environments: Any, solution: Any, other: int = 1, **columns: Any) -> Any: ...

    with pytest.raises(ConfigurationError, match="nobody gives it environments, solution"):
        FunctionReward(function).check_texts(PROMPTS, lambda: "")


@pytest.mark.parametrize("values", [dict.fromkeys(range(6), 1.0), "123456", b"123456", set(range(6)), 10**400])
def test_what_has_no_order_of_numbers_is_refused(values: Any) -> None:
    with pytest.raises(ConfigurationError, match="must return a list of numbers: "):
        FunctionReward(lambda **kwargs: values).score(PROMPTS, RESPONSES)


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_function_that_ends_the_process_has_failed(timeout: float | None) -> None:
    def ends(**kwargs: Any) -> Any:
        raise SystemExit(0)

    with pytest.raises(RuntimeError, match="tried to end the process"):
        FunctionReward(ends, timeout).score(PROMPTS, RESPONSES)


def test_a_type_error_of_every_call_is_a_mistake_of_the_set_up() -> None:
    reward = FunctionReward(lambda **kwargs: kwargs + 1)
    with pytest.raises(TypeError):
        reward.score(PROMPTS, RESPONSES)
    with pytest.raises(ConfigurationError, match="failed at every call: TypeError"):
        reward.score(PROMPTS, RESPONSES)
