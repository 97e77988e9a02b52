"""Each warning at its edge: what is said there, and what is not said a little before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from laser_pl.report.records import RunRecords
from laser_pl.report.warnings import (
    Caution,
    alike,
    collapsed,
    displaced,
    flat,
    longer,
    never_tried,
    noisy_rewards,
    opposed,
    truncated,
    warnings_of,
)
from laser_pl.run.folder import RunFolder

ARMS = ("a", "b", "c")


def records(
    decisions: Sequence[dict[str, Any]] = (),
    metrics: Sequence[tuple[int, dict[str, float]]] = (),
    bandit: str = "LinUCB",
    arms: Sequence[str] = ARMS,
    **lines: list[dict[str, Any]],
) -> RunRecords:
    config = {
        "selection": {"bandit": {"class_path": f"laser_pl.bandits.{bandit}"}, "reward_models": dict.fromkeys(arms)}
    }
    return RunRecords(RunFolder(Path("none")), config, metrics=list(metrics), decisions=list(decisions), **lines)


def decisions(
    judges: str,
    rewards: Sequence[float | None] | None = None,
    category: str = "sums",
    iteration: int = 0,
    arms: Sequence[str] = ARMS,
) -> list[dict[str, Any]]:
    """One decision about one prompt for each letter."""
    found = rewards or [None] * len(judges)
    zeros = dict.fromkeys(arms, 0.0)
    return [
        {
            "iteration": iteration, "step": step, "prompt_ids": [f"p{step}"], "category": category, "arm": arm,
            "mean": zeros, "bonus": zeros, "reward": None if reward is None else {arm: reward},
        }
        for step, (arm, reward) in enumerate(zip(judges, found, strict=True))
    ]  # fmt: skip


def logged(**metrics: Sequence[float]) -> list[tuple[int, dict[str, float]]]:
    """Values of metrics over steps; ``epoch`` is their iteration."""
    rows = [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]
    return [
        (step, {name if name == "epoch" else f"train/{name}": v for name, v in row.items()})
        for step, row in enumerate(rows)
    ]


def test_one_arm_for_19_of_20_prompts_is_a_collapse_and_for_18_none() -> None:
    found = collapsed(records(decisions("a" * 19 + "b")))
    assert found is not None
    assert found.what == "Selection collapsed: 'a' judged 95% of iteration 1's prompts."
    assert collapsed(records(decisions("a" * 18 + "bb"))) is None


def test_only_the_last_iteration_collapses_and_only_where_it_is_long_enough() -> None:
    mixed, alone = decisions("abc" * 4), decisions("b" * 10, iteration=1)
    assert collapsed(records([*mixed, *alone])) is not None
    assert collapsed(records([*mixed, *alone[:9]])) is None


@pytest.mark.parametrize(("bandit", "arms"), [("Fixed", ARMS), ("Oracle", ARMS), ("LinUCB", ("a",))])
def test_what_is_meant_to_use_one_arm_does_not_collapse(bandit: str, arms: Sequence[str]) -> None:
    assert collapsed(records(decisions("a" * 20, arms=arms), bandit=bandit, arms=arms)) is None


def test_an_arm_without_choice_or_reward_was_never_tried() -> None:
    found = never_tried(records(decisions("ababab")))
    assert found is not None
    assert found.what == "Never tried: 'c'."
    assert never_tried(records(decisions("ababa"))) is None  # fewer than two decisions for each arm
    assert never_tried(records(decisions("ababac"))) is None
    polled = decisions("ababab")
    polled[0]["reward"] = {"a": 0.1, "c": 0.2}  # a signal asked it, so it was learned about
    assert never_tried(records(polled)) is None


def test_an_arm_that_was_removed_is_not_missed() -> None:
    now = decisions("ababab", arms=("a", "b"))
    assert never_tried(records(now)) is None


def test_rewards_that_differ_by_chance_alone_are_noise() -> None:
    """Arms a and b, six rewards each, -1 and 1 within both: within, 12 / 10 = 1.2; between, 12 (d / 2)^2 for a distance
    d of the means. The ratio is 2 at d^2 = 0.8."""
    swing = [-1.0, 1.0] * 3

    def apart(distance: float) -> Caution | None:
        rewards = [*(value + distance for value in swing), *swing]
        return noisy_rewards(records(decisions("a" * 6 + "b" * 6, rewards)))

    found = apart(0.89)
    assert found is not None
    assert "arms differ by 2.0 times what chance makes them differ" in found.what
    assert "scatter by 1.10" in found.what
    assert apart(0.90) is None


def test_what_a_category_explains_is_no_difference_between_arms() -> None:
    """Both arms get 0 or 1 in one category and 5 or 6 in the other; a was used in the easy one."""
    easy = decisions("a" * 8 + "b" * 2, [5.0, 6.0] * 5)
    hard = decisions("a" * 2 + "b" * 8, [0.0, 1.0] * 5, category="words")
    assert noisy_rewards(records([*easy, *hard])) is not None


def test_few_rewards_or_one_arm_say_nothing_of_noise() -> None:
    assert noisy_rewards(records(decisions("a" * 6 + "b" * 5, [0.0, 1.0] * 5 + [0.0]))) is None
    assert noisy_rewards(records(decisions("a" * 20, [0.0, 1.0] * 10))) is None


def scored(prompts: int, wrong: int) -> list[dict[str, Any]]:
    """Prompts of two responses each, of which a and b order the first ``wrong`` unlike; c orders none."""
    return [
        {"scores": {"a": [0.0, 1.0], "b": [1.0, 0.0] if prompt < wrong else [0.0, 2.0], "c": [None, 1.0]}}
        for prompt in range(prompts)
    ]


def test_reward_models_that_order_19_of_20_pairs_alike_are_alike() -> None:
    found = alike(records(probed=scored(40, 2)))
    assert found is not None
    assert found.what == (
        "Reward models judge almost always alike: 'a' and 'b' order 95% of 40 pairs of responses alike."
    )
    assert alike(records(probed=scored(40, 3))) is None
    assert opposed(records(probed=scored(40, 2))) is None


def test_reward_models_that_order_1_of_20_pairs_alike_are_opposed() -> None:
    found = opposed(records(probed=scored(40, 38)))
    assert found is not None
    assert found.what == (
        "Reward models judge almost never alike: 'a' and 'b' order 5% of 40 pairs of responses alike."
    )
    assert opposed(records(probed=scored(40, 37))) is None


def test_what_signals_asked_and_what_was_probed_count_together_and_little_counts_not() -> None:
    assert alike(records(judged=scored(20, 0), probed=scored(10, 0))) is not None
    assert alike(records(judged=scored(20, 0), probed=scored(9, 0))) is None
    eight = list(range(8))  # 28 pairs on each prompt
    many = [{"scores": {"a": eight, "b": eight}} for _ in range(5)]
    assert alike(records(probed=many)) is not None
    assert alike(records(probed=many[:4])) is None


def test_three_pairs_of_reward_models_are_named_and_the_others_counted() -> None:
    lines = [{"scores": {arm: [1.0, 2.0] for arm in "abcd"}} for _ in range(30)]
    found = alike(records(probed=lines, arms="abcd"))
    assert found is not None
    assert found.what.count("order 100% of 30 pairs") == 3
    assert found.what.endswith("; and 3 more.")


def curves(chosen: float, per_token: float, margin: float) -> RunRecords:
    """Twenty steps; from the first half to the second two metrics change by so much, and the margin is so large."""
    swing = [-0.5, 0.5] * 5
    return records(metrics=logged(
        chosen_logprob=[*swing, *(value + chosen for value in swing)],
        nll=[*swing, *(value - per_token for value in swing)],
        margin=[margin + value for value in [*swing, *swing]],
    ))  # fmt: skip


def test_chosen_responses_that_become_less_likely_while_the_margin_grows_are_told() -> None:
    """Two standard errors of the halves' difference are 2 sqrt(2 (10/36) / 10) = 0.471."""
    found = displaced(curves(chosen=-0.48, per_token=-0.48, margin=1.0))
    assert found is not None
    assert "less likely by 0.48 nats" in found.what
    assert displaced(curves(chosen=-0.46, per_token=-0.48, margin=1.0)) is None
    assert displaced(curves(chosen=-0.48, per_token=-0.46, margin=1.0)) is None  # only longer
    assert displaced(curves(chosen=-0.48, per_token=-0.48, margin=0.0)) is None
    assert displaced(curves(chosen=0.48, per_token=0.48, margin=1.0)) is None


def test_responses_that_grew_by_more_than_a_fifth_are_longer() -> None:
    def grown(to: float) -> Caution | None:
        lengths = [9.9, 10.1, 9.9, 10.1, to - 0.1, to + 0.1, to - 0.1, to + 0.1]
        return longer(records(metrics=logged(epoch=[0] * 4 + [1] * 4, response_length=lengths)))

    found = grown(12.1)
    assert found is not None
    assert found.what == "Responses are getting longer: 10.0 tokens in iteration 1, 12.1 in iteration 2."
    assert grown(12.0) is None
    assert longer(records(metrics=logged(epoch=[0] * 3, response_length=[1.0, 5.0, 9.0]))) is None  # one iteration


def test_lengths_that_scatter_more_than_they_grew_are_not_longer() -> None:
    lengths = [2.0, 18.0, 2.0, 18.0, 4.0, 22.0, 4.0, 22.0]
    assert longer(records(metrics=logged(epoch=[0] * 4 + [1] * 4, response_length=lengths))) is None


def test_more_than_a_fifth_cut_in_the_last_iteration_is_told() -> None:
    def cut(*shares: float) -> Caution | None:
        return truncated(records(metrics=logged(epoch=range(len(shares)), truncated=shares)))

    found = cut(0.0, 0.25)
    assert found is not None
    assert found.what == "25% of iteration 2's responses were cut at the limit."
    assert cut(0.9, 0.2) is None


def test_accuracy_is_flat_once_three_iterations_gained_less_than_a_hundredth() -> None:
    def over(*values: float) -> Caution | None:
        name = "validation/accuracy/sampled/average"
        return flat(records(metrics=[(step, {name: value}) for step, value in enumerate(values)]))

    found = over(0.3, 0.5, 0.505, 0.509, 0.45)
    assert found is not None
    assert found.what == "Validation accuracy is flat: 0.500, 0.505, 0.509, 0.450 over the last four iterations."
    assert over(0.3, 0.5, 0.511, 0.5, 0.5) is None
    assert over(0.5, 0.5, 0.5) is None  # two iterations


def test_of_nothing_nothing_is_told() -> None:
    assert warnings_of(records()) == []


@pytest.mark.parametrize("check", [collapsed, never_tried, noisy_rewards])
def test_baselines_are_not_blamed(check: Callable[[RunRecords], Caution | None]) -> None:
    lines = decisions("a" * 12 + "b" * 12, [0.0, 1.0] * 12)
    assert check(records(lines, bandit="Fixed")) is None


def test_all_that_apply_are_told() -> None:
    lines = decisions("a" * 20)
    metrics = logged(epoch=[0, 0], truncated=[0.5, 0.5])
    told = [warning.what.split(":")[0] for warning in warnings_of(records(lines, metrics))]
    assert told == ["Selection collapsed", "Never tried", "50% of iteration 1's responses were cut at the limit."]
