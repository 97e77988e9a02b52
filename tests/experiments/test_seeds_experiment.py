"""The experiment over seeds counts rightly: its table on summaries made by hand."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "quickstart"
CATEGORIES = ("addition", "comparing", "sorting", "reversing")


@pytest.fixture(scope="module")
def seeds() -> ModuleType:
    """The script as a module; it runs nothing when it is imported."""
    spec = importlib.util.spec_from_file_location("seeds_experiment", FOLDER / "seeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summary(before: float, after: float, share: dict[str, float], done: int, avoided: int) -> dict[str, Any]:
    """The parts of a run's summary that the table reads; the same arms in every category."""
    return {
        "accuracy": {"before": {"average": before}, "after": {"average": after}},
        "arm_share": {category: share for category in CATEGORIES},
        "reward_model_forwards": {"numbers": done - 1, "sorter": 1},
        "reward_model_forwards_avoided": avoided,
    }


# -- numbers -----------------------------------------------------------------------------------------------------------


def sign_flips(differences: list[float]) -> float:
    """Two-sided p: twice the smaller share of sign patterns with a mean at least as extreme on one side."""
    observed = math.fsum(differences)
    sums = [
        math.fsum(sign * d for sign, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    above = sum(s >= observed - 1e-12 for s in sums)
    below = sum(s <= observed + 1e-12 for s in sums)
    return min(1.0, 2 * min(above, below) / len(sums))


@pytest.mark.parametrize(
    "differences",
    [
        [0.01, 0.02, 0.03, 0.04],
        [0.05, -0.02, 0.03, 0.01, -0.04],
        [-0.1, -0.2, 0.05, -0.03],
        [0.1, -0.1],
        [0.02, 0.011, 0.07, -0.004, 0.03, 0.052, -0.013, 0.041, 0.009, 0.025],
    ],
)
def test_advantage_flips_every_sign(seeds: ModuleType, differences: list[float]) -> None:
    theirs = [0.5 + 0.01 * seed for seed in range(len(differences))]
    ours = [base + difference for base, difference in zip(theirs, differences, strict=True)]
    mean = sum(differences) / len(differences)
    assert seeds.advantage(ours, theirs) == f"{mean:+.3f} (p {sign_flips(differences):.3f})"


def test_advantage_by_hand(seeds: ModuleType) -> None:
    """Of 16 sign patterns only one is as good as four pluses: 2 / 16. One seed has no p at all."""
    assert seeds.advantage([0.6, 0.7, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5]) == "+0.250 (p 0.125)"
    assert seeds.advantage([0.5], [0.75]) == "-0.250"


def test_right_share_counts_the_categorys_specialist(seeds: ModuleType) -> None:
    """By category: 0.5 (numbers), 0.25 (numbers), 1 (sorter), 0 (mirror); their mean whatever the categories' sizes."""
    arm_share = {
        "addition": {"numbers": 0.5, "sorter": 0.5, "mirror": 0.0},
        "comparing": {"numbers": 0.25, "sorter": 0.0, "mirror": 0.75},
        "sorting": {"numbers": 0.0, "sorter": 1.0, "mirror": 0.0},
        "reversing": {"numbers": 1.0, "sorter": 0.0, "mirror": 0.0},
    }
    assert seeds.right_share({"arm_share": arm_share}) == pytest.approx(1.75 / 4)


def test_routing_by_hand_is_always_right(seeds: ModuleType) -> None:
    assert seeds.right_share({"arm_share": {category: {"specialist": 1.0} for category in CATEGORIES}}) == 1.0


# -- table -------------------------------------------------------------------------------------------------------------


def test_table_by_hand(seeds: ModuleType) -> None:
    ours = {"numbers": 0.6, "sorter": 0.4, "mirror": 0.2}  # (0.6 + 0.6 + 0.4 + 0.2) / 4 = 45 %
    fifth = {"numbers": 0.2, "sorter": 0.2, "mirror": 0.2}
    results = {
        ("default", "batch"): [summary(0.45, 0.60, ours, 100, 400), summary(0.47, 0.52, ours, 100, 400)],
        ("trusted", "batch"): [summary(0.45, 0.62, ours, 150, 350), summary(0.47, 0.54, ours, 160, 340)],
        ("specialist", "batch"): [summary(0.45, 0.70, {"specialist": 1.0}, 100, 0)] * 2,
        ("default", "prompt"): [summary(0.45, 0.50, ours, 100, 400), summary(0.47, 0.50, ours, 100, 400)],
        ("random", "prompt"): [summary(0.45, 0.40, fifth, 100, 400), summary(0.47, 0.42, fifth, 100, 400)],
    }
    lines = seeds.table(results)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {8}
    assert set(cells[1]) == {"---"}
    # With two seeds the interval's half width is 12.706 times half their distance, and p can only be 0.5 or 1.
    assert cells[2:] == [
        ["start", "", "", "0.460 ± 0.127", "", "", "", ""],
        ["default", seeds.USES["default"], "batch", "0.560 ± 0.508", "2 of 2", "", "45%", "1.00x"],
        ["trusted", seeds.USES["trusted"], "batch", "0.580 ± 0.508", "2 of 2", "-0.020 (p 0.500)", "45%", "1.55x"],
        [
            "specialist",
            seeds.USES["specialist"],
            "batch",
            "0.700 ± 0.000",
            "2 of 2",
            "-0.140 (p 0.500)",
            "100%",
            "1.00x",
        ],
        ["default", seeds.USES["default"], "prompt", "0.500 ± 0.000", "1 of 2", "", "45%", "1.00x"],
        ["random", seeds.USES["random"], "prompt", "0.410 ± 0.127", "0 of 2", "+0.090 (p 0.500)", "20%", "1.00x"],
    ]


# -- what it names -----------------------------------------------------------------------------------------------------


def test_files_it_names_are_there(seeds: ModuleType) -> None:
    assert {path for path in seeds.OVERLAYS.values() if not (ROOT / path).is_file()} == set()
    paths = [word for words in seeds.GRANULARITIES.values() for word in words if word.endswith(".yaml")]
    assert paths == ["experiments/quickstart/per_prompt.yaml"]
    assert (ROOT / paths[0]).is_file()
    assert seeds.USES.keys() == seeds.OVERLAYS.keys()


def test_specialists_are_those_of_the_card(seeds: ModuleType) -> None:
    """The one that most often puts a right answer above a wrong one."""
    pairwise = json.loads((FOLDER / "world_card.json").read_text(encoding="utf-8"))["pairwise"]
    best = {c: max(pairwise, key=lambda name: pairwise[name][c]["share"]) for c in CATEGORIES}
    assert best == seeds.SPECIALISTS
