"""A few answers: the stand-in for a person, and what they say before training."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from laser_pl.feedback.evidence import Evidence

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(scope="module")
def answers() -> Iterator[ModuleType]:
    """``experiments/study/answers.py``, whose imports lie beside it."""
    sys.path.insert(0, str(EXPERIMENTS / "study"))
    try:
        import answers

        yield answers
    finally:
        sys.path.remove(str(EXPERIMENTS / "study"))
        for name in ("answers", "signals", "candidates", "worlds"):
            sys.modules.pop(name, None)


def test_the_stand_in_knows_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS / "few"))
    import person

    rows = (EXPERIMENTS / "quickstart" / "prompts" / "train.jsonl").read_text().splitlines()[:3]
    known = [json.loads(row) for row in rows]
    shown = [["no", known[0]["answer"], "nor"], ["no", "nor"], [known[2]["answer"]] * 2]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"prompt": row["prompt"], "responses": responses}) + "\n"
                            for row, responses in zip(known, shown, strict=True)))  # fmt: skip
    assert person.answer(path) == 1
    assert [json.loads(line)["better"] for line in path.read_text().splitlines()] == [[2], "neither", "both"]


def test_the_worth_is_the_signals(answers: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    gains = torch.rand(3, 9, generator=generator, dtype=torch.float64) - 0.5
    shares = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0, 0.5, 0.25, 1.0, 0.75, 0.0, 1.0, 1.0], dtype=torch.float64)
    known = answers.Answers(gains, shares, weights, torch.ones(3), torch.ones(9), torch.ones(9))
    free, asked = torch.tensor([0, 3, 4, 8]), torch.tensor([1, 2, 4, 5])
    for worth in (0.0, 4.0):
        evidence = Evidence(worth)
        for row in free.tolist():
            for arm in range(3):
                evidence.gain(str(arm), float(gains[arm, row]))
        for row in asked.tolist():
            told = {str(arm): float(shares[arm, row]) for arm in range(3)} if weights[row] else {}
            evidence.answer(str(row), told, round(4 * float(weights[row])))
        expected = [evidence.value(str(arm)) for arm in range(3)]
        assert answers.worth_of(known, free, asked, worth).tolist() == pytest.approx(expected, abs=1e-12)
    corrected = answers.prediction_powered(known, free, asked)
    rated = math.sqrt(math.pi) / 2 * gains + 0.5
    told = torch.tensor([2, 4, 5])
    assert answers.telling(known, torch.tensor([6, 3, 1, 0])).tolist() == [3, 0]
    assert torch.allclose(corrected, rated[:, free].mean(-1) + (shares - rated)[:, told].mean(-1))


def test_equal_arms_share_the_quality_and_a_table_names_both_means(
    answers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "DRAWS", 3)
    knows = torch.stack([torch.full((70,), value, dtype=torch.float64) for value in (0.3, -0.3)])
    right = torch.stack([torch.zeros(70), torch.ones(70)]).double()
    quality = torch.tensor([0.2, 1.0], dtype=torch.float64)
    ones = torch.ones(70, dtype=torch.float64)
    known = answers.Answers(knows, right, ones, quality, 2 * ones, ones)
    assert answers.quality(known, lambda order: torch.zeros(2)) == pytest.approx(0.6)
    assert answers.alarm(known, 4) == 0.0  # a sixteenth is not below .05
    assert answers.alarm(known, 5) == 1.0
    lines = answers.page({"second": {"base": {"rounding": (known, known)}, "other": {"rounding": (known, known)}}}, 0)
    alone = next(line for line in lines if line.startswith("| nothing: answers alone"))
    assert alone.split(" | ")[1:3] == ["0.600 / 0.600", "1.000 / 1.000"]
    by_both = next(line for line in lines if line.startswith("| 4 answers"))
    assert by_both.split(" | ")[1] == "0.200 / 0.200"
    assert next(line for line in lines if line.startswith("| rounding")).endswith("| 0.200 | 0% | 100% |")
