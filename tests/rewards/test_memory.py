"""Reward models take turns in a memory that does not hold them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import FunctionReward, MeanEnsemble, RewardModel, SequenceClassifier
from laser_pl.rewards.memory import Memory, parse_bytes, show_bytes

CPU, GPU = torch.device("cpu"), torch.device("meta")  # a device that is not the host's


class Weighty(RewardModel):
    """Says what it weighs and writes down what happens to it."""

    def __init__(self, name: str, size: int, diary: list[tuple[str, str]]) -> None:
        self.name, self.bytes, self.diary = name, size, diary

    def size(self) -> int:
        return self.bytes

    def load(self, device: torch.device) -> None:
        self.diary.append(("load", self.name))

    def offload(self) -> None:
        self.diary.append(("offload", self.name))

    def unload(self) -> None:
        self.diary.append(("unload", self.name))

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        raise AssertionError("not asked here")


def memory(sizes: dict[str, int], budget: str | int | None, **kwargs: Any) -> tuple[Memory, list[tuple[str, str]]]:
    diary: list[tuple[str, str]] = []
    return Memory({name: Weighty(name, size, diary) for name, size in sizes.items()}, budget, **kwargs), diary


def use(held: Memory, names: str, device: torch.device = CPU) -> None:
    for name in names:
        held.hold(name, device)


def test_without_a_budget_all_stay() -> None:
    held, diary = memory({"a": 10, "b": 10**15}, None)
    use(held, "abab")
    assert diary == [("load", "a"), ("load", "b")]


def test_the_least_recently_used_gives_way_before_the_next_is_loaded() -> None:
    held, diary = memory(dict.fromkeys("abc", 10), "20B")
    use(held, "abac")
    assert diary == [("load", "a"), ("load", "b"), ("unload", "b"), ("load", "c")]
    assert held.held == ["a", "c"]


def test_as_many_give_way_as_must() -> None:
    held, diary = memory({"a": 5, "b": 5, "c": 5, "large": 12}, "16B")
    use(held, ["a", "b", "c", "large"])  # type: ignore[arg-type]
    assert diary[3:] == [("unload", "a"), ("unload", "b"), ("unload", "c"), ("load", "large")]


def test_what_weighs_nothing_never_gives_way() -> None:
    held, diary = memory({"f": 0, "a": 10, "b": 10}, "10B")
    use(held, "fabfa")
    assert [what for what, name in diary if name == "f"] == ["load"]


@pytest.mark.parametrize(
    ("spill", "device", "done"), [("cpu", GPU, "offload"), ("disk", GPU, "unload"), ("cpu", CPU, "unload")]
)
def test_where_weights_go(spill: Any, device: torch.device, done: str) -> None:
    held, diary = memory({"a": 10, "b": 10}, "10B", spill=spill)
    use(held, "ab", device)
    assert diary == [("load", "a"), (done, "a"), ("load", "b")]


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    calls=st.lists(st.integers(0, 5), max_size=30),
    budget=st.integers(9, 30),
)
def test_the_budget_is_kept_and_nobody_is_loaded_twice(sizes: list[int], calls: list[int], budget: int) -> None:
    """At every moment, in the order in which things happen; and what was used last is there."""
    names = "abcdef"[: len(sizes)]
    held, diary = memory(dict(zip(names, sizes, strict=True)), f"{budget}B")
    weight = dict(zip(names, sizes, strict=True))
    for call in calls:
        name = names[call % len(names)]
        held.hold(name, CPU)
        there: set[str] = set()
        for what, who in diary:
            assert (who in there) == (what == "unload")
            there ^= {who}
            assert sum(weight[one] for one in there) <= budget
        assert there == set(held.held)
        assert held.held[-1] == name


def test_a_reward_model_that_never_fits_is_named_before_anything_is_loaded() -> None:
    held, diary = memory({"small": 2**20, "big": 3 * 2**29}, "1GiB")
    with pytest.raises(ConfigurationError, match=r"'big' has 1\.5 GiB of weights, more than .* = 1 GiB\. Raise"):
        held.check()
    assert diary == []


def test_a_failed_load_holds_nothing() -> None:
    class Broken(Weighty):
        def load(self, device: torch.device) -> None:
            raise OSError("no")

    held = Memory({"a": Broken("a", 10, [])}, "10B")
    with pytest.raises(OSError, match="no"):
        held.hold("a", CPU)
    assert held.held == []


def test_an_ensemble_weighs_what_its_members_weigh(classifier_folders: dict[str, Path]) -> None:
    one, two = (SequenceClassifier(Weights(str(classifier_folders[name]))) for name in "ab")
    ensemble = MeanEnsemble({"one": one, "two": two, "f": FunctionReward(lambda **kwargs: [])})
    assert ensemble.size() == one.size() + two.size() > 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("7B", 7), ("2 kB", 2000), ("2KiB", 2048), ("1.5MiB", 3 * 2**19), ("24GiB", 24 * 2**30), ("1GB", 10**9)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_a_budget_may_be_a_bare_number_of_bytes() -> None:
    held, _ = memory({"a": 10}, 10)
    assert held.budget == 10


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "24 GiB left", "1TiB", "1e9"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no size\. Set selection\.memory_budget"):
        parse_bytes(text)


@given(st.integers(0, 2**43))
def test_a_shown_size_is_nearly_the_size(size: int) -> None:
    assert parse_bytes(show_bytes(size)) == pytest.approx(size, rel=1e-3)
