"""Every objective: its numbers against TRL's and a slow twin's, its promises, and whole runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.batches import LabelledBatch, PairIndices, RolloutBatch
from laser_pl.commands.cli import LaserCLI
from laser_pl.errors import ConfigurationError
from laser_pl.feedback import signals
from laser_pl.feedback.observations import Observations
from laser_pl.objectives import (
    Dpo,
    Hinge,
    Ipo,
    LengthNormalisedDpo,
    LossInputs,
    LossOutputs,
    Objective,
    PairObjective,
    RobustDpo,
    SimPo,
)
from laser_pl.run.folder import RunFolder
from laser_pl.selection.accuracies import Accuracies
from laser_pl.selection.teaching import what_is_wrong
from laser_pl.testing import check_objective
from laser_pl.testing.objectives import PROMISES
from tests.runs import ThroughDisk

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TRL = json.loads((EXPERIMENTS / "objectives" / "trl.json").read_text())
"""Log-probabilities of four pairs and the losses that TRL makes of them: see ``peers.py`` beside it."""
BETA, EPSILON, GAMMA = TRL["beta"], TRL["epsilon"], TRL["gamma"]
WITHOUT_NLL = {
    "Dpo": Dpo(BETA, 0.0),
    "Hinge": Hinge(BETA, 0.0),
    "Ipo": Ipo(BETA, 0.0),
    "LengthNormalisedDpo": LengthNormalisedDpo(BETA, 0.0),
    "RobustDpo": RobustDpo(BETA, EPSILON, 0.0),
    "SimPo": SimPo(BETA, GAMMA, 0.0),
}


def of_trl() -> LossInputs:
    """Its four pairs, each of a prompt of its own."""
    pairs = PairIndices(torch.arange(4), torch.arange(4), torch.arange(4) + 4)
    logprobs, reference = (torch.tensor(TRL[name], dtype=torch.float64) for name in ("logprobs", "reference"))
    lengths, prompt = torch.tensor(TRL["lengths"]), torch.arange(4).repeat(2)
    return LossInputs(
        pairs, logprobs, reference, lengths, 4, prompt, torch.full((8,), math.nan), torch.full((4,), math.nan)
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(name: str, chosen: int, rejected: int) -> float:
    """A pair's loss, number by number."""
    policy, reference, lengths = TRL["logprobs"], TRL["reference"], TRL["lengths"]
    chosen_ratio, rejected_ratio = policy[chosen] - reference[chosen], policy[rejected] - reference[rejected]
    moved = BETA * (chosen_ratio - rejected_ratio)
    per_token = chosen_ratio / lengths[chosen] - rejected_ratio / lengths[rejected]
    reward = policy[chosen] / lengths[chosen] - policy[rejected] / lengths[rejected]
    values = {
        "Dpo": -math.log(sigmoid(moved)),
        "Hinge": max(0.0, 1 - moved),
        "Ipo": (per_token - 1 / (2 * BETA)) ** 2,
        "LengthNormalisedDpo": -math.log(sigmoid(BETA * per_token)),
        "RobustDpo": (-(1 - EPSILON) * math.log(sigmoid(moved)) + EPSILON * math.log(sigmoid(-moved)))
        / (1 - 2 * EPSILON),
        "SimPo": -math.log(sigmoid(BETA * reward - GAMMA)),
    }
    return values[name]


@pytest.mark.parametrize("name", WITHOUT_NLL)
def test_each_pair_by_hand(name: str) -> None:
    losses = WITHOUT_NLL[name].loss(of_trl()).per_prompt
    assert losses.tolist() == pytest.approx([by_hand(name, pair, pair + 4) for pair in range(4)], abs=1e-12)


@pytest.mark.parametrize("name", WITHOUT_NLL)
def test_the_mean_over_pairs_is_trls(name: str) -> None:
    assert float(WITHOUT_NLL[name].loss(of_trl()).per_prompt.mean()) == pytest.approx(TRL["losses"][name], abs=1e-6)


@pytest.mark.parametrize("name", WITHOUT_NLL)
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    inputs, objective = of_trl(), WITHOUT_NLL[name]

    def total(logprobs: torch.Tensor) -> torch.Tensor:
        return objective.loss(replace(inputs, logprobs=logprobs)).per_prompt.sum()

    assert torch.autograd.gradcheck(total, inputs.logprobs.clone().requires_grad_())


@pytest.mark.parametrize("nll_weight", [0.0, 0.5])
@pytest.mark.parametrize("make", [Dpo, Hinge, Ipo, LengthNormalisedDpo, RobustDpo, SimPo])
def test_ours_keep_their_promises(make: Any, nll_weight: float) -> None:
    check_objective(make(nll_weight=nll_weight))


def test_the_nll_of_the_chosen_is_added_with_its_weight() -> None:
    outputs = Dpo(BETA, nll_weight=0.7).loss(of_trl())
    nll = [-TRL["logprobs"][pair] / TRL["lengths"][pair] for pair in range(4)]
    assert outputs.parts["nll"].tolist() == pytest.approx(nll, abs=1e-12)
    torch.testing.assert_close(outputs.per_prompt, outputs.parts["dpo"] + 0.7 * outputs.parts["nll"])


def test_robust_with_no_wrong_label_is_dpo_and_in_the_mean_over_flips_too() -> None:
    """Which is what it is for: over labels of which 20 % are the wrong way round it is DPO over clean ones."""
    inputs = of_trl()
    flipped = PairIndices(inputs.pairs.prompt, inputs.pairs.rejected, inputs.pairs.chosen)
    robust = WITHOUT_NLL["RobustDpo"]
    wrong = robust.loss(replace(inputs, pairs=flipped)).per_prompt
    mean = (1 - EPSILON) * robust.loss(inputs).per_prompt + EPSILON * wrong
    dpo = WITHOUT_NLL["Dpo"].loss(inputs).per_prompt
    torch.testing.assert_close(mean, dpo)
    torch.testing.assert_close(RobustDpo(BETA, 0.0, 0.0).loss(inputs).per_prompt, dpo)


def test_a_measured_epsilon_is_that_of_each_prompts_judge() -> None:
    """Unknown counts as 0.1, and more than 0.4 as 0.4."""
    accuracy = torch.tensor([0.75, math.nan, 0.3, 1.0], dtype=torch.float64)
    inputs = replace(of_trl(), accuracy=accuracy)
    found = RobustDpo(BETA, "measured", 0.0).loss(inputs).per_prompt
    each = [RobustDpo(BETA, epsilon, 0.0).loss(inputs).per_prompt for epsilon in (0.25, 0.1, 0.4, 0.0)]
    torch.testing.assert_close(found, torch.stack([each[pair][pair] for pair in range(4)]))
    check_objective(RobustDpo(epsilon="measured"))


def test_accuracies_begin_at_four_prompts_right_nine_times_in_ten_and_come_through_a_checkpoint(
    through_disk: ThroughDisk,
) -> None:
    arms, judges = ["a", "b"], torch.tensor([1, 0, 1])
    accuracies = Accuracies()
    values = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    accuracies.note(arms, Observations(torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 1, 1]), values, values, True))
    b = (4 * 0.9 + 1.5) / 8
    assert accuracies.of(arms, judges).tolist() == pytest.approx([b, 0.9, b])
    again = Accuracies()
    again.load_state_dict(through_disk(accuracies.state_dict()))
    assert again.of(["b", "new"], torch.tensor([0, 1])).tolist() == pytest.approx([b, 0.9])


def test_what_is_measured_needs_a_signal_that_measures_it() -> None:
    with pytest.raises(ConfigurationError, match=r"is Loss, which measures none. Set .*Trusted, or epsilon to a"):
        what_is_wrong(signals.Loss(), RobustDpo(epsilon="measured"))
    assert what_is_wrong(signals.Trusted(), RobustDpo(epsilon="measured")) is None


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (Dpo, {"beta": 0.0}, "beta must be > 0 and finite, got 0.0"),
        (Hinge, {"beta": -1.0}, "beta must be > 0"),
        (Ipo, {"beta": math.inf}, "beta must be > 0 and finite, got inf"),
        (LengthNormalisedDpo, {"beta": math.nan}, "beta must be > 0 and finite, got nan"),
        (SimPo, {"gamma": -0.1}, "gamma must be >= 0"),
        (RobustDpo, {"epsilon": 0.5}, r"epsilon must be in \[0, 0.5\), got 0.5"),
        (RobustDpo, {"epsilon": math.nan}, r"epsilon must be in \[0, 0.5\), got nan"),
        (Ipo, {"nll_weight": math.inf}, "nll_weight must be >= 0 and finite, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, settings: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(**settings)


# -- objectives that break a promise, each one -------------------------------------------------------------------------


class NoSuchPart(Dpo):
    parts = ("dpo", "entropy")  # type: ignore[assignment]


class NamedLoss(Dpo):
    name = "loss"


class ZeroWithoutPairs(Dpo):
    def loss(self, inputs: LossInputs) -> LossOutputs:
        found = super().loss(inputs)
        return LossOutputs(
            found.per_prompt.nan_to_num(), {name: part.nan_to_num() for name, part in found.parts.items()}
        )


class OverTheBatch(Dpo):
    """Normalised by all pairs of the batch."""

    def pair_losses(self, inputs: LossInputs) -> torch.Tensor:
        losses = super().pair_losses(inputs)
        return losses - losses.mean()


class UsesAll(Dpo):
    def uses(self, batch: LabelledBatch) -> torch.Tensor:
        return torch.ones_like(batch.responses.finished)


class NothingByChance(Dpo):
    def by_chance(self, batch: RolloutBatch) -> dict[str, torch.Tensor]:
        return {name: torch.zeros(len(batch)) for name in ("loss", *self.parts)}


class SaysThatItTells(Dpo):
    def informs(self, part: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (NoSuchPart, "loss\\(\\) gave the parts"),
        (NamedLoss, "none of them 'loss'"),
        (ZeroWithoutPairs, "must be NaN for a prompt without pairs"),
        (OverTheBatch, "beside another one"),
        (NothingByChance, "labels at random give"),
        (UsesAll, "uses\\(\\) must be true"),
        (SaysThatItTells, "informs\\('dpo'\\) is True"),
    ],
)
def test_an_objective_that_breaks_a_promise_is_told_which(make: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_objective(make())


def test_every_promise_can_be_broken() -> None:
    broken = set()
    for make in (NoSuchPart, NamedLoss, ZeroWithoutPairs, OverTheBatch, NothingByChance, UsesAll, SaysThatItTells):
        for promise in PROMISES:
            try:
                promise(make())
            except AssertionError:
                broken.add(promise)
    assert broken == set(PROMISES)


def test_a_new_objective_is_one_method() -> None:
    class Logistic(PairObjective):
        name = "logistic"

        def pair_losses(self, inputs: LossInputs) -> torch.Tensor:
            return (1 + (-(inputs.margins - inputs.reference_margins)).exp()).log()

    check_objective(Logistic())
    assert isinstance(Logistic(), Objective)


# -- whole runs --------------------------------------------------------------------------------------------------------

OBJECTIVES = {"hinge": "Hinge", "ipo": "Ipo", "length_normalised": "LengthNormalisedDpo", "robust": "RobustDpo",
              "simpo": "SimPo"}  # fmt: skip
"""The files in ``experiments/objectives``, and what each names."""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_example_trains_and_records_its_parts_by_their_names(
    name: str, fit: Callable[..., LaserCLI], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        run = fit(tmp_path, f"--config={EXPERIMENTS}/objectives/{name}.yaml", "--model.beta=0.7")
    assert any(f"model.beta 0.7 and model.nll_weight 1.0 are not used: {OBJECTIVES[name]}" in r.message
               for r in caplog.records)  # fmt: skip
    folder = RunFolder(tmp_path / "runs" / "small")
    lines = [json.loads(line) for line in folder.selection.read_text().splitlines()]
    nll_weight = run.model.objective.nll_weight
    trained = [line for line in lines if line["loss"] is not None]
    assert trained
    for line in trained:
        assert line["loss"] == pytest.approx(line[name] + nll_weight * line["nll"], rel=1e-5)
        assert "dpo" not in line
    logged = [row for row in csv.DictReader(folder.metrics.read_text().splitlines()) if row.get(f"train/{name}")]
    assert logged
    first = float(logged[0][f"train/{name}"])  # where the policy is its own reference
    at_first = {"hinge": 1.0, "ipo": 25.0, "length_normalised": math.log(2), "robust": math.log(2)}
    assert name not in at_first or first == pytest.approx(at_first[name], rel=1e-6)
    assert f"{name} part of it".lower() in folder.report.read_text().lower()
    assert OBJECTIVES[name] in (folder.adapter / "README.md").read_text()


def test_what_trusted_prompts_show_of_a_judge_is_its_epsilon(fit: Callable[..., LaserCLI], tmp_path: Path) -> None:
    name = f"--config={EXPERIMENTS}/objectives/robust_measured.yaml"
    run = fit(tmp_path, name, "--selection.signal.init_args.share=1.0")
    arms = run.selector.arms
    measured = run.selector.accuracies.of(arms, torch.arange(len(arms)))
    assert len(set(measured.tolist())) > 1
    assert run.selector.state_dict()["accuracies"].keys() == set(arms)


def test_a_part_that_the_objective_does_not_have_is_refused_before_the_first_rollout(
    fit: Callable[..., LaserCLI], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, "--model.objective=Ipo", "--selection.signal=laser_pl.feedback.signals.Dpo")
    assert ended.value.code == 2
    assert not (tmp_path / "runs" / "small" / "rollouts").exists()
