"""Each warning at its edge: what is said there, and what is not said a little before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from laser_pl.report.agreement_warnings import alike, opposed
from laser_pl.report.answer_warnings import misleading, without_answers
from laser_pl.report.caution import Caution
from laser_pl.report.data_warnings import too_long
from laser_pl.report.records import RunRecords
from laser_pl.report.selection_warnings import (
    collapsed,
    idle,
    never_judged,
    never_tried,
    noisy_rewards,
    nothing_observed,
    told_nothing_apart,
)
from laser_pl.report.training_warnings import displaced, flat, longer, mismatched, truncated
from laser_pl.report.warnings import warnings_of
from laser_pl.run.folder import RunFolder

ARMS = ("a", "b", "c")
FROZEN = {"objective": {"class_path": "laser_pl.objectives.Frozen", "init_args": {"of": None}}}


def records(
    decisions: Sequence[dict[str, Any]] = (),
    metrics: Sequence[tuple[int, dict[str, float]]] = (),
    bandit: str = "LinUCB",
    arms: Sequence[str] = ARMS,
    explores: str = "alpha",
    model: dict[str, Any] | None = None,
    selection: dict[str, Any] | None = None,
    **lines: list[dict[str, Any]],
) -> RunRecords:
    made = {"class_path": f"laser_pl.bandits.{bandit}", "init_args": {explores: 1.0} if explores else {}}
    config = {
        "model": model or {},
        "data": {"rollouts": {"n": 4}},
        "selection": {"bandit": made, "reward_models": dict.fromkeys(arms), **(selection or {})},
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


@pytest.mark.parametrize(
    ("setting", "advice"),
    [("alpha", "raise selection.bandit.alpha"), ("epsilon", "raise selection.bandit.epsilon"),
     ("gamma", "raise selection.bandit.gamma"), ("", "choose a bandit that explores")],
)  # fmt: skip
def test_who_explores_by_another_setting_is_not_told_to_raise_alpha(setting: str, advice: str) -> None:
    for check, lines in ((collapsed, decisions("a" * 20)), (never_tried, decisions("ababab"))):
        found = check(records(lines, explores=setting))
        assert found is not None
        assert advice in found.advice
        assert ("alpha" in str(found)) == (setting == "alpha")


def passed(judges: str, over: str, **changes: Any) -> list[dict[str, Any]]:
    """Decisions in which others came first, a letter for each, and none where there is a dot."""
    return [
        {**line, **({"passed_over": [arm], **changes} if arm != "." else {})}
        for line, arm in zip(decisions(judges), over, strict=True)
    ]


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"missing": {"c": {"exception": 4}}}, "put aside after failures; the log says why"),
        ({}, "put aside after failures"),  # it was aside, and not asked
        ({"missing": {"c": {"none": 4}}}, "leave out who has none on these prompts"),
        ({"tied": ["c"]}, "Scores tied there"),
        ({"tied": ["c"], "reward": {"c": 0.0}}, "Scores tied there"),  # which is something to learn
    ],
)
def test_an_arm_that_was_tried_and_failed_was_tried(changes: dict[str, Any], advice: str) -> None:
    lines = passed("ababab", "c..c..", **changes)
    assert never_tried(records(lines)) is None
    found = never_judged(records(lines))
    assert found is not None
    assert found.what == "Tried, but never judged: 'c' (its turn came 2 times)."
    assert advice in found.advice
    assert "alpha" not in str(found)
    assert never_judged(records(passed("ababac", "c....."))) is None


def test_an_arm_that_tied_in_half_of_five_decisions_tells_nothing_apart() -> None:
    def ties(judged: int, tied: int) -> RunRecords:
        return records(passed("c" * judged + "a" * tied, "." * judged + "c" * tied, tied=["c"]))

    found = told_nothing_apart(ties(3, 3))
    assert found is not None
    assert "in 3 of the 6 decisions for which 'c' was asked its scores tied" in found.what
    assert "More exploration does not help" in found.advice
    assert told_nothing_apart(ties(4, 3)) is None
    assert told_nothing_apart(ties(2, 2)) is None
    assert told_nothing_apart(ties(0, 5)) is not None
    assert never_judged(ties(0, 5)) is None  # which is said already
    assert never_judged(ties(0, 4)) is not None


@pytest.mark.parametrize(
    ("signal", "share", "advice"),
    [
        ("Trusted", 0.1, "no prompt that it asked about had an answer"),
        ("Loss", None, "no step had pairs and a finite loss"),
        ("Cooling", 0.1, "Raise selection.signal.share, the"),
    ],
)
def test_a_signal_that_observed_nothing_in_an_iteration_is_told(signal: str, share: float | None, advice: str) -> None:
    class_path = f"laser_pl.feedback.signals.{signal}"
    selection = {"signal": {"class_path": class_path, "init_args": {} if share is None else {"share": share}}}
    first = [{**line, "observed": {"a": 1.0}} for line in decisions("ab")]
    tie = {"passed_over": ["c"], "tied": ["c"], "observed": {"c": 0.0}}
    second = [{**line, **tie} for line in decisions("ab", iteration=1)]
    found = nothing_observed(records([*first, *second], selection=selection))
    assert found is not None
    assert found.what == f"The signal {signal} observed nothing in iteration 2."
    assert advice in found.advice
    assert nothing_observed(records(first, selection=selection)) is None
    assert nothing_observed(records(decisions("ab"), selection=selection)) is None  # killed before the first step's end


def test_who_judges_in_place_of_those_that_fail_is_no_collapse_of_choice() -> None:
    """Two of twenty in place of another leave 90 % that were chosen; one leaves 95 %."""
    ties = {"tied": ["b"]}
    found = collapsed(records(passed("a" * 20, "bb" + "." * 18, **ties)))
    assert found is not None
    assert found.what == (
        "Selection collapsed: 'a' judged 100% of iteration 1's prompts, 10% in place of others that came first ('b')."
    )
    assert "alpha" not in found.advice
    assert "Scores tied" in found.advice
    found = collapsed(records(passed("a" * 20, "b" + "." * 19, **ties)))
    assert found is not None
    assert "raise selection.bandit.alpha" in found.advice


def test_who_is_left_alone_after_others_were_removed_does_not_collapse() -> None:
    lines = [*decisions("abc" * 4), *decisions("a" * 12, iteration=1, arms="a")]
    assert collapsed(records(lines)) is None


def steps(empty: int, of: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        {**line, "pairs": 0, **changes} if line["step"] < empty else {**line, "pairs": 2}
        for line in decisions("a" * of)
    ]


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "Scores tied there, or responses were the same"),
        ({"forbidden": {"safe": 4}}, "Every response was forbidden: see the threshold of 'safe'"),
        ({"forbidden": {"safe": 3}}, "Scores tied there"),
        ({"missing": {"a": {"nan": 4}}}, "Labels were missing there"),
        ({"missing": {"a": {"none": 4}}}, "No opinion was given there"),
    ],
)
def test_more_than_a_fifth_of_the_steps_without_pairs_is_told(changes: dict[str, Any], advice: str) -> None:
    found = idle(records(steps(3, 12, **changes)))
    assert found is not None
    assert found.what == "No pair could be made in 3 of 12 steps, which trained nothing."
    assert advice in found.advice
    assert idle(records(steps(3, 15, **changes))) is None


def test_a_step_is_idle_if_none_of_its_decisions_has_a_pair() -> None:
    lines = [{**line, "step": line["step"] // 2, "pairs": line["step"] % 2} for line in decisions("a" * 12)]
    assert idle(records(lines)) is None
    assert idle(records([{**line, "pairs": 0} for line in lines])) is not None


def test_prompts_that_were_left_out_as_too_long_are_told() -> None:
    def found(counts: dict[str, int], overlong: str = "drop") -> Caution | None:
        splits = {"train": counts, "test": {"prompts": 0, "too_long": 0}}
        run = records(summary={"prompts_too_long": splits})
        run.config["data"]["overlong"] = overlong
        return too_long(run)

    caution = found({"prompts": 2000, "too_long": 1000})
    assert caution is not None
    assert caution.what == "1,000 of 2,000 train prompts were too long and were left out."
    assert "data.max_prompt_tokens" in caution.advice
    cut = found({"prompts": 20, "too_long": 3}, "cut")
    assert cut is not None
    assert cut.what == "3 of 20 train prompts were too long and were cut."
    assert found({"prompts": 20, "too_long": 2}) is None
    assert found({}) is None  # anybody's
    assert too_long(records()) is None  # as long as it is not finished


def test_an_engine_that_samples_from_another_policy_is_told() -> None:
    def found(*values: float) -> Caution | None:
        rows = [(step, {"epoch": step, "rollouts/mismatch": value}) for step, value in enumerate(values)]
        return mismatched(records(metrics=rows))

    caution = found(0.01, 0.3)
    assert caution is not None
    assert caution.what.startswith("The engine's log-probabilities of iteration 2's responses differ")
    assert "by 0.30 nats per token" in caution.what
    assert found(0.3, 0.01) is None
    assert found() is None


def test_pairs_that_lack_since_cut_responses_are_left_out_are_told_so() -> None:
    cut = logged(truncated=[0.9, 0.9])
    settings = {"pairs": {"init_args": {"truncated": "mask"}}}
    found = idle(records(steps(3, 12), cut, selection=settings))
    assert found is not None
    assert "selection.pairs.truncated is mask. Raise data.rollouts.max_new_tokens" in found.advice
    kept = idle(records(steps(3, 12), cut))
    assert kept is not None
    assert "truncated" not in kept.advice


@pytest.mark.parametrize(
    ("selection", "told", "not_told"),
    [
        ({}, "preset:cooling or preset:trusted", "share"),
        ({"signal": {"init_args": {"share": 0.125}}}, "a selection.signal.share above 0.125", "preset:cooling"),
        ({"signal": {"init_args": {"share": 1.0}}}, "more decisions", "share"),
        ({"granularity": "prompt"}, "more iterations", "granularity"),
    ],
)
def test_noise_is_not_answered_with_what_the_run_does_already(
    selection: dict[str, Any], told: str, not_told: str
) -> None:
    found = noisy_rewards(records(decisions("ab" * 10, [0.0, 0.0, 1.0, 1.0] * 5), selection=selection))
    assert found is not None
    assert told in found.advice
    assert not_told not in found.advice


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


def test_a_step_whose_loss_is_no_number_hides_nothing() -> None:
    whole = curves(chosen=-0.6, per_token=-0.6, margin=1.0)
    step, row = whole.metrics[5]
    whole.metrics[5] = (step, {name: math.nan if name.startswith("train/") else value for name, value in row.items()})
    assert displaced(whole) is not None


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


def test_who_had_answered_before_the_limit_needs_no_more_room() -> None:
    metrics = logged(epoch=[0], truncated=[0.5])

    def judged(right: int, of: int) -> list[dict[str, Any]]:
        one = {"right": [True] * right + [False] * (of - right), "finished": [False] * of, "scores": {}}
        return [
            one,
            {"right": None, "finished": [False], "scores": {}},
            {"right": [True], "finished": [True], "scores": {}},
        ]

    for right, of, advice in ((6, 10, "went on"), (5, 10, "Raise data"), (9, 9, "Raise data")):
        found = truncated(records(metrics=metrics, judged=judged(right, of)))
        assert found is not None
        assert advice in found.advice


def validated(*values: float, each: int = 1, model: dict[str, Any] | None = None) -> Caution | None:
    """Accuracies, ``each`` of them in an iteration."""
    name = "validation/accuracy/sampled/average"
    rows = [(step, {"epoch": step // each, name: value}) for step, value in enumerate(values)]
    return flat(records(metrics=rows, model=model))


def test_accuracy_is_flat_once_three_iterations_gained_less_than_a_hundredth() -> None:
    found = validated(0.3, 0.5, 0.505, 0.509, 0.495)
    assert found is not None
    assert found.what == "Validation accuracy is flat: 0.500, 0.505, 0.509, 0.495 after iterations 2, 3, 4, 5."
    assert validated(0.3, 0.5, 0.511, 0.5, 0.5) is None
    assert validated(0.5, 0.5, 0.5) is None  # two iterations


def test_of_several_validations_in_an_iteration_the_last_counts() -> None:
    assert validated(0.5, 0.5, 0.5, 0.5, each=2) is None  # two iterations
    found = validated(0.1, 0.5, 0.9, 0.5, 0.9, 0.5, 0.9, 0.5, each=2)
    assert found is not None
    assert found.what.endswith("0.500, 0.500, 0.500, 0.500 after iterations 1, 2, 3, 4.")


def test_accuracy_that_falls_is_not_flat() -> None:
    found = validated(0.5, 0.49, 0.48, 0.47)
    assert found is not None
    assert found.what == "Validation accuracy falls: 0.500, 0.490, 0.480, 0.470 after iterations 1, 2, 3, 4."
    assert "lower the learning rate" in found.advice


def test_accuracy_that_cannot_change_or_rise_is_not_blamed() -> None:
    assert validated(0.995, 0.995, 0.995, 0.995) is None
    assert validated(0.5, 0.5, 0.5, 0.5, model=FROZEN) is None


def test_written_responses_are_no_policys() -> None:
    lengths = logged(epoch=[0] * 4 + [1] * 4, response_length=[5.0, 5.1] * 2 + [9.0, 9.1] * 2, truncated=[0.5] * 8)
    model = {"objective": {"class_path": "laser_pl.objectives.Supervised"}}
    assert longer(records(metrics=lengths)) is not None
    assert longer(records(metrics=lengths, model=model)) is None
    assert longer(records(metrics=lengths, model=FROZEN)) is None
    found = truncated(records(metrics=lengths, model=model))
    assert found is not None
    assert "written responses were cut" in found.what
    assert "Reward models" not in found.advice


def test_responses_of_no_tokens_have_no_growth() -> None:
    assert longer(records(metrics=logged(epoch=[0, 0, 1, 1], response_length=[0.0, 0.0, 0.0, 0.0]))) is None


def answers(category: str, count: int, misled: float | None, iteration: int = 0) -> dict[str, Any]:
    shares = dict.fromkeys(ARMS, 0.5)
    return {"iteration": iteration, "step": iteration, "category": category, "answers": count, "without": shares,
            "by_answers": shares, "worth": shares, "misled": misled}  # fmt: skip


def test_where_likelihoods_misled_is_told_also_when_training_has_mended_it() -> None:
    lines = [answers("sums", 7, 0.0078), answers("words", 8, None), answers("sums", 7, None, iteration=1)]
    found = misleading(records(answers=lines))
    assert found is not None
    assert found.what == (
        "The policy's likelihoods mislead in 'sums': by 7 answers, p = .008, the reward models they favour are worse."
    )
    assert misleading(records(answers=lines[1:])) is None


def test_answers_that_tell_nothing_are_missed_where_some_were_asked_for() -> None:
    silent = [answers("sums", 0, None), answers("words", 0, None)]
    found = without_answers(records(answers=silent))
    assert found is not None
    assert "python -m laser_pl label" in found.advice
    assert without_answers(records(answers=[*silent, answers("lists", 1, None)])) is None
    none_wanted = {"signal": {"class_path": "laser_pl.feedback.signals.FewAnswers", "init_args": {"answers": 0}}}
    assert without_answers(records(answers=silent, selection=none_wanted)) is None


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
