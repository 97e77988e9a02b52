"""What the study says of signals before training: statistics by hand, and who is named."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "study"


@pytest.fixture(scope="module")
def study() -> dict[str, ModuleType]:
    """The modules; nothing runs when they are imported."""
    sys.path[:0] = [str(FOLDER), str(ROOT)]
    return {name: importlib.import_module(name) for name in ("worlds", "candidates", "signals")}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def sampled(study: dict[str, ModuleType], texts: list[list[str]], logprob: dict[str, float]) -> Any:
    logprobs = torch.tensor([[logprob[text] for text in row] for row in texts], dtype=torch.float64)
    return study["candidates"].Sampled(logprobs, torch.ones_like(logprobs) * 2, study["candidates"].same_texts(texts))


def test_repetitions_are_found(study: dict[str, ModuleType]) -> None:
    seen = sampled(study, [["a", "b", "a", "a"], ["c", "c", "b", "a"]], {"a": -1.0, "b": -2.0, "c": -3.0})
    assert seen.distinct.tolist() == [[True, True, False, False], [True, False, True, True]]
    assert seen.same.sum(-1).tolist() == [[3, 1, 3, 3], [2, 2, 1, 1]]


def test_statistics_by_hand(study: dict[str, ModuleType]) -> None:
    """Answer a (p 1/2) three times, b (p 1/4) once: scores 4 and 0, of spread sqrt(3); the runner-up is b."""
    seen = sampled(study, [["a", "b", "a", "a"]], {"a": math.log(1 / 2), "b": math.log(1 / 4)})
    scores = torch.tensor([[[4.0, 0.0, 4.0, 4.0]], [[0.0, 4.0, 0.0, 0.0]]], dtype=torch.float64)
    said = study["candidates"].signals(scores, seen) | study["candidates"].others(scores, seen)
    spread, nats = math.sqrt(3), math.log(2)
    expected = {
        "score gap": 1 / spread,  # of the mean of the four lowest, here of all: 3
        "cooling": 3 / 16 * 4 * nats / spread,
        "cooling by ranks": 1 / spread,  # the likelier of two is always an a
        "distinct responses": nats / spread,  # half of 4 times half the nats
        "distinct, by probability": 2 / 9 * 4 * nats / spread,  # weights 2/3 and 1/3
        "likeliest over runner-up": 4 / spread,
        "frequency of the first": 3 / 4,
        "likelihood of the first": nats / 4,
        "decisive about the plausible": 4 / spread,
    }
    assert {name: float(said[name][0, 0]) for name in expected} == pytest.approx(expected, abs=1e-12)
    assert float(said["cooling by ranks"][1, 0]) == pytest.approx(-expected["cooling by ranks"], abs=1e-12)
    assert float(said["frequency of the first"][1, 0]) == 1 / 4


def test_weights_count_as_repetitions_do(study: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64)
    logprobs = torch.randn(1, 3, generator=generator, dtype=torch.float64)
    often = torch.tensor([0, 0, 0, 1, 2, 2])
    found = study["candidates"].weighted(scores, logprobs, torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64))
    expected = [study["candidates"].covariance(own[:, often], logprobs[:, often]) for own in scores]
    torch.testing.assert_close(found, torch.stack(expected))


def test_only_one_text_has_no_runner_up(study: dict[str, ModuleType]) -> None:
    seen = sampled(study, [["a", "a"], ["b", "a"]], {"a": -1.0, "b": -2.0})
    scores = torch.tensor([[[1.0, 1.0], [0.0, 1.0]], [[5.0, 5.0], [7.0, 5.0]]], dtype=torch.float64)
    said = study["candidates"].others(scores, seen)["likeliest over runner-up"]
    assert said[:, 0].tolist() == [0.0, 0.0]
    assert said[:, 1].sign().tolist() == [1.0, -1.0]


def test_who_is_right_is_named_where_the_policy_is_mostly_right(study: dict[str, ModuleType]) -> None:
    """Arm 0 likes the right answer, which is likelier, and arm 1 the wrong one; in the other category they swap."""
    texts = [["a", "a", "b"], ["a", "b", "b"]] * 130
    seen = sampled(study, texts, {"a": -0.5, "b": -1.5})
    right = torch.tensor([[text == "a" for text in row] for row in texts])
    honest = right.double()
    swapped = torch.arange(260)[:, None] >= 130
    scores = torch.stack([honest.where(~swapped, -honest), (-honest).where(~swapped, honest)])
    found = study["signals"].measure(scores, right, seen, ["x"] * 130 + ["y"] * 130)
    by_count = {count: 1.0 for count in study["signals"].COUNTS}
    assert found["cooling by ranks"] == {"x": by_count, "y": by_count}
    assert found["cooling"] == {"x": by_count, "y": by_count}
    assert study["signals"].average(found, "cooling", 4) == 1.0
    line = study["signals"].by_signal({"base": found}, 64)
    assert line[0].startswith("| signal | 16 prompts | 64 prompts | 128 prompts | 1 pools, 64 | x, 64 | y, 64 |")
    assert "| cooling by ranks | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |" in line


@pytest.mark.parametrize("name", ["quickstart", "second"])
def test_both_worlds_are_measured(study: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A few real prompts, the whole way to the page."""
    signals = study["signals"]
    monkeypatch.setitem(signals.PROMPTS, name, 40)
    monkeypatch.setitem(signals.POOL_NAMES, name, ["base", "random_arm"])
    monkeypatch.setattr(signals, "COUNTS", [2, 64])
    results = {name: signals.measure_pools(name, seed=0)}
    assert list(results[name]) == ["base", "random_arm"]
    categories = set(study["worlds"].WORLDS[name].right)
    for found in results[name].values():
        assert all(set(by_category) == categories for by_category in found.values())
        assert all(0 <= found[s][c][n] <= 1 for s in found for c in found[s] for n in (2, 64))
    text = "\n".join(signals.page(results, 0))
    assert "| base | 64 |" in text
    assert "likeliest over runner-up" in text


def test_every_world_can_be_asked_in(study: dict[str, ModuleType]) -> None:
    signals = study["signals"]
    for by_world in (signals.PROMPTS, signals.POOL_NAMES, signals.TITLES, signals.NOTES):
        assert set(by_world) == set(study["worlds"].WORLDS)


@pytest.mark.parametrize("worlds", [[], ["third"]])
def test_the_command_asks_in_the_worlds_that_are_there_or_named_and_writes_its_section(
    study: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str], worlds: list[str]
) -> None:
    signals = study["signals"]
    page = tmp_path / "RESULTS.md"
    words = ["--seed", "3", "--results", str(page), *(["--worlds", *worlds] if worlds else [])]
    signals.write("signals", None, lambda world, seed: f"{world} {seed}", lambda found, seed: [*found.values()], words)
    for text in (page.read_text(encoding="utf-8"), capsys.readouterr().out):
        assert "\n".join(f"{world} 3" for world in worlds or ["quickstart", "second"]) + "\n" in text
        assert (
            f"`python experiments/study/signals.py --seed 3{''.join(f' --worlds {world}' for world in worlds)}`" in text
        )
        assert ("third" in text) == bool(worlds)
