"""Cooling by the likelihoods' ranks: by hand, against all pairs in loops, and in a run."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from laser_pl.batches import PromptLosses, RolloutBatch
from laser_pl.feedback.queries import Queries
from laser_pl.feedback.signals import Cooling
from laser_pl.feedback.signals.cooling import covariance, gain_of_the_likelier, standing
from tests.runs import Fit

Make = Callable[..., RolloutBatch]
NAN = math.nan


def by_ranks(arms: str = "ab", **kwargs: Any) -> Cooling:
    signal = Cooling(share=1.0, likelihoods="ranks", **kwargs)
    signal.start(list(arms))
    return signal


def measured(signal: Cooling, batch: RolloutBatch, scores: Tensor) -> dict[tuple[int, int], float]:
    """The value by prompt and arm."""

    def refuse(question: object) -> Tensor:
        raise AssertionError(f"asked about {question}")

    ones = torch.ones(len(batch.prompts.prompts))
    seen = signal.measure(
        batch, PromptLosses({"loss": 2 * ones}, {"loss": ones}), Queries(lambda _: scores, refuse, refuse)
    )
    assert seen.value.dtype == seen.chance.dtype == torch.float64
    assert not seen.chance.any()
    places = zip(seen.prompt.tolist(), seen.arm.tolist(), strict=True)
    return dict(zip(places, seen.value.tolist(), strict=True))


def sampled(make: Make, logprobs: list[list[float]]) -> RolloutBatch:
    """A batch with these log-likelihoods."""
    batch = make([[[3, 1]] * len(row) for row in logprobs])
    batch = replace(batch, reference_logprobs=torch.tensor(logprobs, dtype=torch.float64))
    return batch


def slow(scores: list[float], logprobs: list[float]) -> float:
    """All pairs in loops: the mean score of the likelier one, or of both where they tie, less that of all."""
    rated = [(s, p) for s, p in zip(scores, logprobs, strict=True) if not math.isnan(s)]
    if not rated:
        return NAN
    kept = [(s + t) / 2 if p == q else (s if p > q else t) for (s, p), (t, q) in itertools.combinations(rated, 2)] or [
        rated[0][0]
    ]
    return statistics.fmean(kept) - statistics.fmean(s for s, _ in rated)


@pytest.mark.parametrize("slip", [-3.0, -99.0])
def test_by_hand_and_whatever_the_slip_costs(rollouts: Make, slip: float) -> None:
    """Of scores 3, 1, 0 the likelier of two has 3, 3, 1: 7/3, where all have 4/3. Their deviation is sqrt(14)/3."""
    scores = torch.tensor([[[3.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    seen = measured(by_ranks(), sampled(rollouts, [[-1.0, -2.0, slip]]), scores)
    assert seen == pytest.approx({(0, 0): 3 / math.sqrt(14), (0, 1): 0.0}, abs=1e-12)


def test_a_slip_decides_by_values_and_not_by_ranks(rollouts: Make) -> None:
    """Arm a is right about what is plausible and mild about the slip, arm b the other way round."""
    scores = torch.tensor([[[2.0, 2.0, -1.0, -1.0, -1.0]], [[0.5, 0.5, 1.0, 1.0, -3.0]]], dtype=torch.float64)
    logprobs = [[-1.0, -1.0, -2.0, -2.0, -20.0]]
    ranks = measured(by_ranks(), sampled(rollouts, logprobs), scores)
    signal = Cooling(share=1.0)
    signal.start(["a", "b"])
    nats = measured(signal, sampled(rollouts, logprobs), scores)
    assert ranks[0, 0] > ranks[0, 1]
    assert nats[0, 0] < nats[0, 1]


# Few values, so that many tie.
SCORE = st.one_of(st.floats(-5, 5), st.sampled_from([-1.0, 0.0, 2.0, NAN]))
LOGPROB = st.one_of(st.floats(-30, 0), st.sampled_from([-4.0, -2.0, -0.5]))


@given(st.lists(st.tuples(SCORE, LOGPROB), min_size=1, max_size=7))
def test_the_gain_equals_loops_over_pairs(row: list[tuple[float, float]]) -> None:
    scores, logprobs = [s for s, _ in row], [p for _, p in row]
    found = gain_of_the_likelier(*(torch.tensor([v], dtype=torch.float64) for v in (scores, logprobs)))
    assert float(found) == pytest.approx(slow(scores, logprobs), abs=1e-10, nan_ok=True)


@given(st.lists(st.sampled_from([-4.0, -2.0, -0.5, NAN]), min_size=1, max_size=7))
def test_a_standing_counts_who_lies_below_and_above(values: list[float]) -> None:
    found = standing(torch.tensor([values], dtype=torch.float64))[0].tolist()
    for own, value in zip(found, values, strict=True):
        there = sum(not math.isnan(other) for other in values)
        below, above = sum(other < value for other in values), sum(other > value for other in values)
        expected = NAN if math.isnan(value) else (below - above) / max(there - 1, 1)
        assert own == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_only_the_order_of_likelihoods_matters(seed: int, factor: float, shift: float) -> None:
    """Any increasing function of them does as well, as another temperature of the same policy."""
    generator = torch.Generator().manual_seed(seed)
    scores, logprobs = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    expected = gain_of_the_likelier(scores, logprobs)
    for other in (factor * logprobs + shift, logprobs.exp()):
        assume(all(len(set(row)) == 5 for row in other.tolist()))
        assert torch.equal(gain_of_the_likelier(scores, other), expected)
    assert not torch.equal(covariance(scores, logprobs.exp()), covariance(scores, logprobs))


def test_who_says_nothing_is_not_observed_and_equals_say_nothing(rollouts: Make) -> None:
    """No score: no observation. One score, equal scores or equal likelihoods: the value of chance."""
    scores = torch.tensor([[[NAN, NAN], [NAN, 4.0], [2.0, 2.0], [3.0, 1.0]]], dtype=torch.float64)
    seen = measured(by_ranks("a"), sampled(rollouts, [[-1.0, -2.0]] * 3 + [[-1.0, -1.0]]), scores)
    assert seen == {(1, 0): 0.0, (2, 0): 0.0, (3, 0): 0.0}


def test_ranks_per_token_do_not_favour_the_short(rollouts: Make) -> None:
    """Who likes short responses is above chance by the sum; per token, where all tie, it is not."""
    batch = rollouts([[[3, 1], [3, 3, 3, 1], [3, 3, 3, 3, 3, 1]]])
    batch = replace(batch, reference_logprobs=torch.tensor([[-2.0, -4.0, -6.0]], dtype=torch.float64))
    scores = torch.tensor([[[2.0, 1.0, 0.0]]])
    assert measured(by_ranks("a"), batch, scores)[0, 0] == pytest.approx((5 / 3 - 1) / math.sqrt(2 / 3))
    assert measured(by_ranks("a", reduction="mean"), batch, scores)[0, 0] == pytest.approx(0.0, abs=1e-12)


def test_a_saved_one_goes_on_bit_by_bit(
    through_disk: Callable[[dict[str, Any]], dict[str, Any]], rollouts: Make
) -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = by_ranks(), by_ranks()
    steps = [torch.randn(2, 2, 3, generator=generator, dtype=torch.float64) for _ in range(4)]
    batch = sampled(rollouts, [[-3.0, -1.0, -2.0], [-1.0, -1.5, -4.0]])
    for scores in steps[:2]:
        measured(one, batch, scores)
    two.load_state_dict(through_disk(one.state_dict()))
    for scores in steps[2:]:
        assert measured(one, batch, scores) == measured(two, batch, scores)


def test_a_run_observes_what_its_rollouts_say(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recomputed from the files of the run, the spread of all batches so far included."""
    (tmp_path / "sums.py").write_text(
        "def all_of(prompts, completions, **columns):\n    return [sum(map(ord, text)) / 7 for text in completions]\n"
        "def some(prompts, completions, **columns):\n"
        "    sums = [sum(map(ord, text)) for text in completions]\n"
        "    return [float(total % 5) if total % 3 else None for total in sums]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own: dict[str, Callable[[int], float]] = {
        "all_of": lambda total: total / 7,
        "some": lambda total: float(total % 5) if total % 3 else NAN,
    }
    pool = {
        name: {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"sums.{name}"}}
        for name in own
    }
    run = fit(tmp_path, f"--selection.reward_models={json.dumps(pool)}", "--selection.granularity=prompt",
              "--selection.signal=Cooling", "--selection.signal.share=1",
              "--selection.signal.likelihoods=ranks")  # fmt: skip
    paths = sorted((run.folder.path / "rollouts").rglob("*.parquet"))
    rows = {
        (number, row["prompt_id"]): row
        for number, path in ((int(path.parent.name.split("-")[-1]), path) for path in paths)
        for row in pq.read_table(path).to_pylist()
    }
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    deviations: dict[str, list[float]] = {name: [] for name in own}
    compared = 0
    for _, step in itertools.groupby(decisions, lambda d: d["step"]):
        batch = list(step)
        if not any(d["observed"] for d in batch):
            continue
        found = [rows[d["iteration"], d["prompt_ids"][0]] for d in batch]
        for name, score in own.items():
            scores = [[score(sum(map(ord, text))) for text in row["responses"]] for row in found]
            for line in scores:
                rated = [s for s in line if not math.isnan(s)]
                deviations[name] += [s - statistics.fmean(rated) for s in rated]
            spread = math.sqrt(statistics.fmean(d * d for d in deviations[name]))
            for d, row, line in zip(batch, found, scores, strict=True):
                expected = slow(line, row["reference_logprobs"]) / spread
                assert d["observed"].get(name, NAN) == pytest.approx(expected, abs=1e-9, nan_ok=True)
                compared += not math.isnan(expected) and expected != 0
    assert compared > 10


def test_another_word_for_likelihoods_is_refused(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, "--selection.signal=Cooling", "--selection.signal.likelihoods=rank")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "rank" in told
    assert "Traceback" not in told
