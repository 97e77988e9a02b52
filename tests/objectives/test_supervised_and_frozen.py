"""Written responses, and nothing to train, as objectives; and the two settings that named them before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_pl.batches import LabelledBatch, PairIndices, Prompt, PromptBatch, Responses, RolloutBatch
from laser_pl.command_line.changed_settings import changes_since
from laser_pl.errors import ConfigurationError
from laser_pl.feedback import signals
from laser_pl.objectives import Dpo, Frozen, Ipo, LossInputs, Objective, PolicyGradient, SimPo, Supervised
from laser_pl.policy.objective import objective_of
from laser_pl.report.model_card import model_card
from laser_pl.report.records import read_records
from laser_pl.selection.teaching import what_is_wrong
from laser_pl.testing import check_objective

LENGTHS = (2, 5, 1)


def written() -> RolloutBatch:
    """Three prompts with one response each."""
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()[:, None]  # (3, 1, 5)
    one = torch.ones(3, 1, dtype=torch.long)
    prompts = PromptBatch(tuple(Prompt(name, name, name) for name in "abc"), one, one)
    responses = Responses(mask.clone(), mask, torch.ones(3, 1, dtype=torch.bool), [["x"]] * 3)
    return RolloutBatch(prompts, responses, torch.zeros(3, 1), torch.zeros(3, 1), iteration=0)


def inputs(batch: LabelledBatch, logprobs: torch.Tensor) -> LossInputs:
    lengths = batch.responses.mask.sum(-1).flatten()
    each = torch.arange(len(batch))
    zeros = torch.zeros_like(logprobs)
    return LossInputs(batch.pairs, logprobs, zeros, lengths, len(batch), each, batch.scores.flatten(), batch.accuracy)


@pytest.mark.parametrize(
    "objective", [Supervised(), Frozen(), Frozen(Ipo(nll_weight=0.0)), Frozen(PolicyGradient())], ids=str
)
def test_they_keep_their_promises(objective: Objective) -> None:
    check_objective(objective)


def test_each_response_counts_alike_per_token() -> None:
    batch = written().unjudged()
    logprobs = torch.tensor([-3.0, -1.0, -0.5], dtype=torch.float64)
    outputs = Supervised().loss(inputs(batch, logprobs))
    assert outputs.per_prompt.tolist() == [3.0 / 2, 1.0 / 5, 0.5]
    assert Supervised().labels(batch) == 3
    assert (outputs.parts, len(batch.pairs), bool(batch.scores.isfinite().any())) == ({}, 0, False)


class Backwards(Supervised):
    def loss(self, inputs: LossInputs) -> Any:
        found = super().loss(inputs)
        return type(found)(found.per_prompt.nan_to_num(), {})


class SumOfTokens(Supervised):
    def by_chance(self, batch: RolloutBatch) -> dict[str, torch.Tensor]:
        return {"loss": -batch.reference_logprobs.mean(-1)}


class OnlyFirst(Supervised):
    def uses(self, batch: RolloutBatch) -> torch.Tensor:
        return super().uses(batch) & (torch.arange(batch.responses.mask.shape[1]) == 0)


class NotCounted(Supervised):
    def labels(self, batch: LabelledBatch) -> int:
        return len(batch.pairs)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Backwards, "must be NaN for a prompt without answers"),
        (SumOfTokens, "labels at random give"),
        (OnlyFirst, "uses\\(\\) must be true"),
        (NotCounted, "labels\\(\\) must be the number of answers, 6 here, got 0"),
    ],
)
def test_an_objective_of_answers_that_breaks_a_promise_is_told_which(make: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_objective(make())


def test_frozen_is_the_other_one_in_all_but_training() -> None:
    of = PolicyGradient(clip=0.3)
    frozen = Frozen(of)
    assert (frozen.trains, of.trains, str(frozen)) == (False, True, "Frozen PolicyGradient")
    assert (frozen.needs, frozen.means, frozen.parts, frozen.judged) == (of.needs, of.means, of.parts, True)
    with pytest.raises(ConfigurationError, match=r"model\.objective Frozen PolicyGradient is trained on scores"):
        what_is_wrong(signals.Gap(), frozen)
    with pytest.raises(ConfigurationError, match=r"cannot be frozen and supervised: .* of Supervised\."):
        Frozen(Supervised())


def test_where_nobody_judges_no_signal_is_wrong() -> None:
    for signal in (signals.Gap(), signals.Nll(), signals.Dpo(), signals.Loss()):
        assert what_is_wrong(signal, Supervised()) is None


def test_only_an_objective_of_answers_takes_a_batch_without_labels() -> None:
    batch = written()
    assert not isinstance(batch, LabelledBatch)
    assert batch.unjudged().arms.tolist() == [-1] * 3
    assert len(PairIndices(*torch.empty(3, 0, dtype=torch.long))) == len(batch.unjudged().pairs)


# -- former settings ---------------------------------------------------------------------------------------------------


def test_the_former_settings_name_them_with_one_warning() -> None:
    with pytest.warns(FutureWarning, match=r"class_path: laser_pl\.objectives\.Supervised\} now; the old") as told:
        found = objective_of(SimPo(), 0.1, 1.0, frozen=False, supervised=True)
    assert (type(found), len(told)) == (Supervised, 1)
    with pytest.warns(FutureWarning, match=r"^model\.frozen: true is .*laser_pl\.objectives\.Frozen\} now") as told:
        frozen = objective_of(None, 0.3, 0.0, frozen=True, supervised=False)
    assert len(told) == 1
    assert isinstance(frozen, Frozen)
    assert isinstance(frozen.of, Dpo)
    assert (frozen.of.beta, frozen.of.nll_weight) == (0.3, 0.0)
    for now in (Frozen(), Frozen(Dpo(0.2, 0.5))):
        found = objective_of(now, 0.3, 0.0, frozen=False, supervised=False)
        assert isinstance(found, Frozen)
        assert isinstance(found.of, Dpo)
        assert found.of.beta == (0.2 if now.named else 0.3)
    for objective, named in ((None, True), (Frozen(), False)):
        with pytest.raises(ConfigurationError, match="cannot be frozen and supervised"):
            objective_of(objective, 0.1, 1.0, frozen=named, supervised=True)


OLD = "model: {beta: 0.1, objective: null, frozen: %s, supervised: %s}\nselection: {}\n"
NEW = "model: {beta: 0.1, objective: %s, frozen: false, supervised: false}\nselection: {}\n"
NAMED = "{class_path: laser_pl.objectives.%s, init_args: {of: null}}"


@pytest.mark.parametrize(
    ("old", "new", "supervised", "trains"),
    [
        (OLD % ("false", "false"), NEW % "null", False, True),
        (OLD % ("false", "true"), NEW % "{class_path: laser_pl.objectives.Supervised}", True, False),
        (OLD % ("true", "false"), NEW % NAMED % "Frozen", False, False),
    ],
    ids=["neither", "supervised", "frozen"],
)
def test_a_folder_of_before_is_read_in_the_words_of_now(
    tmp_path: Path, old: str, new: str, supervised: bool, trains: bool
) -> None:
    for name, config in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(config)
    for name in ("old", "new"):
        records = read_records(tmp_path / name)
        assert (records.supervised, records.trains) == (supervised, trains)
        assert changes_since(tmp_path / name / "config.yaml", new) == []
    other = new.replace("beta: 0.1", "beta: 0.2")
    assert changes_since(tmp_path / "old" / "config.yaml", other) == ["model.beta is 0.2 and was 0.1"]


@pytest.mark.parametrize(
    ("objective", "tag", "said"),
    [
        ("{class_path: laser_pl.objectives.Supervised}", "sft", "Loss: negative log-likelihood of the written"),
        ("{class_path: own.Focal, init_args: {gamma: 2.0}}", "sft", "written responses: Focal with gamma 2.0."),
        (NAMED % "Frozen", "dpo", "The policy was not trained"),
        ("{class_path: laser_pl.objectives.Frozen, init_args: {of: {class_path: laser_pl.objectives.SimPo}}}", "simpo",
         "The policy was not trained"),
    ],
)  # fmt: skip
def test_the_card_says_what_was_trained(tmp_path: Path, objective: str, tag: str, said: str) -> None:
    judges = "selection: {reward_models: {a: null, b: null}}\n"
    (tmp_path / "config.yaml").write_text(f"model: {{objective: {objective}}}\n{judges}")
    if tag == "sft":
        (tmp_path / "metrics.csv").write_text("epoch,step,train/loss,train/answers\n0,0,1.5,16\n")
    card = model_card(read_records(tmp_path))
    assert f"\n- {tag}\n" in card
    assert said in card
    assert ("no reward model judged" in card) == (tag == "sft")
    assert ("\n- reward-model-selection\n" in card) == (tag != "sft")


def test_an_objective_of_the_users_that_learns_answers_is_known_by_what_it_logs(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {objective: {class_path: own.Supervised}}\n")
    assert not read_records(tmp_path).supervised
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss,train/answers\n0,0,1.5,16\n")
    assert read_records(tmp_path).supervised
    assert math.isfinite(read_records(tmp_path).metric("train/answers")[0][2])
