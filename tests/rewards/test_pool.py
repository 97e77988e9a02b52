"""The pool asks the right reward model, loads it once, and counts what it cost and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards import Pool, RewardModel
from laser_pl.rewards.health import Health
from laser_pl.rewards.pool import Answer
from tests.runs import ThroughDisk

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
    """Answers with the same scores whatever it is asked."""

    def __init__(self, scores: Any) -> None:
        self.scores = scores

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Any:
        return self.scores


class Raising(RewardModel):
    """Raises what it is told to, as long as there is something."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        if self.errors:
            raise self.errors.pop(0)
        return torch.ones(len(prompts), len(responses[0]))


def test_a_reward_model_is_loaded_once_and_only_when_asked() -> None:
    models = {"a": Lengths(1), "b": Lengths(2)}
    pool = Pool(models)
    assert pool.memory.held == []
    for _ in range(3):
        pool.score("b", PROMPTS, RESPONSES, CPU)
    assert pool.memory.held == ["b"]
    assert (models["a"].loads, models["b"].loads) == ([], [CPU])


def test_what_is_no_finite_number_is_no_label_and_is_counted_by_kind(caplog: pytest.LogCaptureFixture) -> None:
    inf, nan = float("inf"), float("nan")
    pool = Pool({"list": Constant([[inf, 1.0, None, nan], [nan, None, None, 2]]),
                 "tensor": Constant(torch.tensor([[inf, -inf, nan, 0.0]] * 2))})  # fmt: skip
    four = [["a", "b", "c", "d"]] * 2
    labels = [[False, True, False, False], [False, False, False, True]]
    assert pool.score("list", PROMPTS[:2], four, CPU).isfinite().tolist() == labels
    assert pool.score("tensor", PROMPTS[:2], four, CPU).isfinite().tolist() == [[False, False, False, True]] * 2
    assert pool.missing == {
        "list": {"none": 3, "nan": 2, "infinite": 1},
        "tensor": {"nan": 2, "infinite": 4},
    }
    assert sum("for the first time" in message for message in caplog.messages) == 4  # not for None


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("boom"), "exception"), (TimeoutError("late"), "timeout"), (KeyError("x"), "exception")],
)
def test_an_exception_costs_the_labels_of_its_call_only(error: Exception, kind: str) -> None:
    pool = Pool({"a": Raising(error)})
    assert pool.score("a", PROMPTS, RESPONSES, CPU).isnan().all()
    assert pool.score("a", PROMPTS, RESPONSES, CPU).tolist() == [[1.0] * 3] * 4
    assert pool.missing == {"a": {kind: 12}}
    assert pool.forwards == {"a": 24}


def test_a_failure_to_load_is_an_exception_like_any_other() -> None:
    class Broken(Lengths):
        def load(self, device: torch.device) -> None:
            raise OSError("the disk is gone")

    pool = Pool({"a": Broken(1)})
    assert pool.score("a", PROMPTS, RESPONSES, CPU).isnan().all()
    assert (pool.missing, pool.memory.held) == ({"a": {"exception": 12}}, [])


@pytest.mark.parametrize("error", [ConfigurationError("mend me"), KeyboardInterrupt()])
def test_what_the_user_must_see_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        Pool({"a": Raising(error)}).score("a", PROMPTS, RESPONSES, CPU)


def test_calls_without_a_label_are_failures_and_abstention_is_none() -> None:
    models = {"nan": Constant([[float("nan")] * 3] * 4), "none": Constant([[None] * 3] * 4), "one": Raising(OSError())}
    pool = Pool(models, health=Health(list(models), max_failures=2, cooldown=1))
    for name in models:
        for _ in range(2):
            pool.score(name, PROMPTS, RESPONSES, CPU)
    assert [name for name in models if pool.health.may_be_asked(name)] == ["none", "one"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_whole_numbers_are_scores(dtype: torch.dtype) -> None:
    pool = Pool({"a": Constant(torch.tensor([[1, 0, 1]], dtype=dtype))})
    assert pool.score("a", PROMPTS[:1], [["a", "b", "c"]], CPU).tolist() == [[1.0, 0.0, 1.0]]


def test_scores_come_without_gradient() -> None:
    pool = Pool({"a": Constant(torch.ones(4, 3, requires_grad=True))})
    assert not pool.score("a", PROMPTS, RESPONSES, CPU).requires_grad


@pytest.mark.parametrize("shape", [(4,), (3, 4), (12, 1)])
def test_scores_of_another_shape_name_the_reward_model(shape: tuple[int, ...]) -> None:
    pool = Pool({"fine": Lengths(1), "odd": Constant(torch.zeros(shape))})
    with pytest.raises(ConfigurationError, match=r"'odd' returned scores of shape .*, expected \(4, 3\)"):
        pool.score("odd", PROMPTS, RESPONSES, CPU)


@pytest.mark.parametrize("scores", [None, 1.0, [1.0] * 4, [["good"] * 3] * 4, [[1.0], [1.0, 2.0]], [[10**400] * 3] * 4])
def test_what_is_no_table_of_numbers_names_the_reward_model(scores: object) -> None:
    with pytest.raises(ConfigurationError, match="'odd' must return a tensor or lists of numbers"):
        Pool({"odd": Constant(scores)}).score("odd", PROMPTS, RESPONSES, CPU)


def test_costs_between_two_moments() -> None:
    pool = Pool({"a": Lengths(1), "b": Constant([[None, 1.0, float("nan")]])})
    pool.score("a", PROMPTS, RESPONSES, CPU)
    before = pool.costs
    pool.score("b", PROMPTS[:1], RESPONSES[:1], CPU)
    since = pool.costs - before
    assert (since.forwards, since.missing) == ({"b": 3}, {"b": {"none": 1, "nan": 1}})
    assert 0 < since.seconds == pool.seconds - before.seconds


def test_counts_go_on_after_a_restart(through_disk: ThroughDisk) -> None:
    one = Pool({"a": Raising(OSError()), "retired": Lengths(2)})
    one.score("a", PROMPTS, RESPONSES, CPU)
    one.score("retired", PROMPTS, RESPONSES, CPU)
    two = Pool({"a": Lengths(1), "new": Lengths(3)})
    two.load_state_dict(through_disk(one.state_dict()))
    two.score("a", PROMPTS[:1], RESPONSES[:1], CPU)
    assert two.forwards == {"a": 15, "new": 0, "retired": 12}
    assert two.missing == {"a": {"exception": 12}, "new": {}, "retired": {}}
    assert two.seconds >= one.seconds
    assert two.memory.held == ["a"]


# -- a question dealt out to several processes -------------------------------------------------------------------------


def test_who_has_no_rows_loads_nothing() -> None:
    model = Lengths(1.0)
    answer = Pool({"a": model}).ask("a", [], [], CPU)
    assert (model.loads, model.calls, answer.labels.numel(), answer.forwards) == ([], [], 0, 0)


def test_answers_of_all_processes_are_one_question() -> None:
    """Labels anywhere are a success; forwards and missing labels add up; the slowest sets the time."""
    pool = Pool({"a": Lengths(1.0)}, health=Health(["a"], max_failures=1))
    good = pool.ask("a", PROMPTS, RESPONSES, CPU)
    bad = Answer(torch.full((1, 3), torch.nan), 3, Counter({"exception": 3}), "it broke", seconds=50.0)
    pool.note("a", [good, bad])
    assert pool.forwards == {"a": 15}
    assert pool.missing == {"a": Counter({"exception": 3})}
    assert pool.seconds == 50.0
    assert pool.health.may_be_asked("a")
    pool.note("a", [bad, Answer(torch.empty(0, 0))])
    assert not pool.health.may_be_asked("a")
    assert pool.health.last_reason == "a: it broke"
