"""Policy gradients: against a slow twin, their promises, what the selector gives them, and whole runs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from laser_pl import Selector
from laser_pl.bandits import Fixed, LinUCB
from laser_pl.bandits.context import ContextPreparation
from laser_pl.batches import LabelledBatch, PairIndices, PromptLosses, RolloutBatch
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.commands.explain import outcome
from laser_pl.data.pairs import BestWorst
from laser_pl.errors import ConfigurationError
from laser_pl.feedback import signals
from laser_pl.feedback.normalizers import PooledQuantiles
from laser_pl.forecast.command import plan
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.objectives import LossInputs, PolicyGradient, advantages
from laser_pl.rewards import RewardModel
from laser_pl.rewards.constraints import Constraint
from laser_pl.selection.scores import every_pair
from laser_pl.selection.teaching import what_is_wrong
from laser_pl.testing import check_objective
from laser_pl.training.pair_step import batch_loss, frozen_loss
from tests.logprobs.test_logprob_model import VOCABULARY, make_batch, model  # noqa: F401 - a fixture
from tests.runs import decisions_of

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
KINDS = ("leave_one_out", "group_normalised", "centred")
NONE = PairIndices(*torch.empty(3, 0, dtype=torch.long))
PROMPT = [0, 0, 0, 2, 2]
SCORES = [1.0, 4.0, 2.5, -7.0, 3.0]
LENGTHS = [3, 1, 6, 2, 5]
REFERENCE = [-4.0, -2.0, -9.0, -3.0, -6.0]
MOVED = [0.3, -0.5, 0.05, 0.9, -0.1]
"""By how much each response has become likelier since the iteration's start, in nats."""


def inputs(moved: list[float] = MOVED) -> LossInputs:
    """Three responses to the first of three prompts and two to the last."""
    reference = torch.tensor(REFERENCE, dtype=torch.float64)
    logprobs = reference + torch.tensor(moved, dtype=torch.float64)
    scores = torch.tensor(SCORES, dtype=torch.float64)
    return LossInputs(
        NONE, logprobs, reference, torch.tensor(LENGTHS), 3, torch.tensor(PROMPT), scores, torch.full((3,), math.nan)
    )


def twin(kind: str, clip: float, kl_weight: float, prompt: int) -> tuple[float, float, float]:
    """Loss, clipped gain and KL of a prompt, number by number."""
    own = [row for row, of in enumerate(PROMPT) if of == prompt]
    gains, kls = [], []
    for row in own:
        others = [SCORES[other] for other in own if other != row]
        every = [SCORES[other] for other in own]
        mean = sum(every) / len(every)
        advantage = SCORES[row] - (sum(others) / len(others) if kind == "leave_one_out" else mean)
        log_ratio = MOVED[row]
        if kind == "group_normalised":
            advantage /= math.sqrt(sum((score - mean) ** 2 for score in every) / (len(every) - 1))
            log_ratio /= LENGTHS[row]
        ratio = math.exp(log_ratio)
        gains.append(min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage))
        kls.append(math.exp(-log_ratio) - 1 + log_ratio)
    gain, kl = -sum(gains) / len(own), sum(kls) / len(own)
    return gain + kl_weight * kl, gain, kl


@pytest.mark.parametrize("clip", [0.2, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_each_prompt_is_its_twins(kind: Any, clip: float) -> None:
    found = PolicyGradient(kind, clip, kl_weight=0.3).loss(inputs()).by_name()
    for prompt in (0, 2):
        values = [float(found[name][prompt]) for name in ("loss", "policy_gradient", "kl")]
        assert values == pytest.approx(twin(kind, clip, 0.3, prompt), abs=1e-12)
    assert found["loss"][1].isnan()


@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_ours_keep_their_promises(kind: Any, kl_weight: float) -> None:
    check_objective(PolicyGradient(kind, kl_weight=kl_weight))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind: Any) -> None:
    given, objective = inputs(), PolicyGradient(kind, clip=5.0, kl_weight=0.3)

    def total(logprobs: torch.Tensor) -> torch.Tensor:
        return objective.loss(LossInputs(NONE, logprobs, *_rest(given))).per_prompt.nansum()

    assert torch.autograd.gradcheck(total, given.logprobs.clone().requires_grad_())


def _rest(given: LossInputs) -> tuple[Any, ...]:
    return given.reference, given.lengths, given.prompts, given.prompt, given.scores, given.accuracy


def test_a_ratio_beyond_the_clip_pulls_only_back() -> None:
    """The second response is worse than the mean and is less likely by more than the clip already: no gradient."""
    objective, given = PolicyGradient("centred", clip=0.2, kl_weight=0.0), inputs([0.3, 0.5, 0.3, -0.5, 0.3])
    logprobs = given.logprobs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        objective.loss(LossInputs(NONE, logprobs, *_rest(given))).per_prompt.nansum(), logprobs
    )
    # Means are 2.5 and -2: the first and the fourth are worse, the second and the fifth better, the third neither.
    assert (gradient != 0).tolist() == [True, False, False, False, False]
    assert objective.of_each(given)["clipped"].tolist() == [0.0, 1.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(objective.of_each(given)["ratio"], (given.logprobs - given.reference).exp())


@pytest.mark.parametrize("kind", ["group_normalised", "centred"])
def test_at_the_first_step_the_gradient_is_that_of_clipping_token_by_token(kind: Any) -> None:
    """GRPO's and Dr. GRPO's, where the rollouts hold log-probabilities of whole responses."""
    given = inputs([0.0] * 5)
    tokens = torch.full((5, max(LENGTHS)), -0.5, dtype=torch.float64, requires_grad=True)
    real = torch.arange(max(LENGTHS)) < given.lengths[:, None]
    gains = advantages(given.scores, given.prompt, 3, kind)
    each = -torch.minimum(
        *((tokens - tokens.detach()).exp().clamp(*by) * gains[:, None] for by in ((0, 9), (0.8, 1.2)))
    )
    over = given.lengths if kind == "group_normalised" else 1
    (expected,) = torch.autograd.grad(((each * real).sum(-1) / over).sum(), tokens)
    logprobs = (tokens * real).sum(-1)
    moved = LossInputs(NONE, logprobs, logprobs.detach(), *_rest(given)[1:])
    # The mean over a prompt's responses of one, of another number of them, here and there.
    count = torch.bincount(given.prompt, minlength=3)
    outputs = PolicyGradient(kind, kl_weight=0.7).loss(moved)
    (found,) = torch.autograd.grad((outputs.per_prompt * count)[[0, 2]].sum(), tokens)
    torch.testing.assert_close(found, expected)
    assert outputs.parts["kl"][[0, 2]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_count_from_anywhere_and_in_units_where_they_are_normalised(kind: Any) -> None:
    given = inputs()
    moved = advantages(3.0 * given.scores + 1e6, given.prompt, 3, kind)
    unit = 1.0 if kind == "group_normalised" else 3.0
    torch.testing.assert_close(moved, unit * advantages(given.scores, given.prompt, 3, kind), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"clip": 0.0}, "clip must be > 0"), ({"kl_weight": -1.0}, "kl_weight must be >= 0"),
     ({"clip": math.nan}, "clip must be > 0")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        PolicyGradient(**settings)  # type: ignore[arg-type]


# -- a step ------------------------------------------------------------------------------------------------------------


def scored() -> LabelledBatch:
    """Four prompts: the third one's scores tie, of the first one's six responses one has none."""
    batch = make_batch()
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    scores[2], scores[0, 3] = 1.0, torch.nan
    return batch.labelled(batch.arms, scores, NONE)


@pytest.mark.parametrize("share", [True, False], ids=["shared", "repeated"])
@pytest.mark.parametrize("budget", [20, 45, 80])
def test_memory_changes_neither_loss_nor_gradient(model: Any, budget: int, share: bool) -> None:  # noqa: F811
    objective, parameters = PolicyGradient("group_normalised"), [p for p in model.parameters() if p.requires_grad]
    # Ratios of an iteration's later step, which are not far from 1.
    whole = LogprobModel(model, 10_000, share=False)
    batch = scored()
    with torch.no_grad():
        moved = torch.randn(4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        batch = relabelled(batch, all_logprobs(batch, whole) + 0.3 * moved)

    def step(logprob_model: LogprobModel) -> tuple[Any, ...]:
        loss, outputs, means = batch_loss(batch, logprob_model, objective, list(model.parameters()))
        return loss.detach(), outputs.by_name(), means, torch.autograd.grad(loss, parameters)

    expected, found = step(whole), step(LogprobModel(model, budget, share))
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9, equal_nan=True)
    for one, other in zip(found[3], expected[3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert expected[1]["loss"].isnan().tolist() == [False, False, True, False]
    assert 0 < float(expected[2]["clipped"]) < 1


def all_logprobs(batch: RolloutBatch, logprob_model: LogprobModel) -> torch.Tensor:
    prompt = torch.arange(len(batch)).repeat_interleave(6)
    responses = ResponseBatch(
        batch.prompts, prompt, batch.responses.tokens.flatten(0, 1), batch.responses.mask.flatten(0, 1)
    )
    return logprob_model.all_logprobs(responses).view(len(batch), 6)


def relabelled(batch: LabelledBatch, reference: torch.Tensor) -> LabelledBatch:
    """The same, written by a policy of other log-probabilities."""
    other = RolloutBatch(batch.prompts, batch.responses, batch.contexts, reference, batch.iteration)
    return other.labelled(batch.arms, batch.scores, batch.pairs)


def test_where_the_policy_is_that_of_the_start_every_ratio_is_1_and_a_frozen_one_gives_the_same(
    model: Any,  # noqa: F811
) -> None:
    logprob_model, objective = LogprobModel(model, 10_000), PolicyGradient()
    batch = relabelled(scored(), all_logprobs(scored(), logprob_model))
    loss, outputs, means = batch_loss(batch, logprob_model, objective, list(model.parameters()))
    assert float(means["ratio"]) == pytest.approx(1.0, abs=1e-12)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-9)
    assert any(bool(g.any()) for g in torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))
    frozen = frozen_loss(batch, objective)
    assert float(frozen[2]["ratio"]) == 1.0
    torch.testing.assert_close(frozen[1].by_name(), outputs.by_name(), rtol=0, atol=1e-9, equal_nan=True)


def test_each_process_gives_its_rows_share(model: Any) -> None:  # noqa: F811
    """What two processes give for their rows, weighed by their prompts that have a loss, is what one gives."""
    logprob_model, objective, batch = LogprobModel(model, 10_000), PolicyGradient("centred"), scored()
    batch = relabelled(batch, all_logprobs(batch, logprob_model) + 0.1)
    whole = float(batch_loss(batch, logprob_model, objective, None)[0].detach())
    parts = [batch.part([0, 2]), batch.part([1, 3])]
    shares = [objective.uses(part).any(-1).sum() for part in parts]
    assert shares == [1, 2]
    losses = [float(batch_loss(part, logprob_model, objective, None)[0].detach()) for part in parts]
    assert sum(int(share) * loss for share, loss in zip(shares, losses, strict=True)) / 3 == pytest.approx(whole)


# -- the selector ------------------------------------------------------------------------------------------------------


class Says(RewardModel):
    """Scores by a table of texts."""

    def __init__(self, **scores: float | None) -> None:
        self.scores = scores

    def score(self, prompts: Any, responses: Any) -> list[list[float | None]]:
        return [[self.scores[text] for text in texts] for texts in responses]


def selector(arms: dict[str, RewardModel], truncated: Any = "keep", bandit: Any = None, **kwargs: Any) -> Selector:
    pairs = BestWorst(per_prompt=2, truncated=truncated)
    parts = bandit or Fixed(), ContextPreparation(), signals.Loss(), PooledQuantiles(), pairs
    made = Selector(arms, *parts, **kwargs)
    made.needs = "scores"
    return made


ABC = {"texts": [["a", "b", "c"], ["a", "b", "c"]]}


def test_a_labelled_batch_has_scores_and_no_pairs(rollouts: Callable[..., RolloutBatch]) -> None:
    made = selector({"one": Says(a=1.0, b=None, c=3.0)})
    labelled = made.label(rollouts([[[2], [3], [4]]] * 2, **ABC), step=0)
    assert labelled.scores.tolist() == [pytest.approx([1.0, math.nan, 3.0], nan_ok=True)] * 2
    assert len(labelled.pairs) == 0
    (decision,) = made.decisions
    assert (decision.pairs, decision.prompts_without_pairs, decision.tied) == (None, 0, [])


class FlatFirst(LinUCB):
    """Takes the first arm where the others are as good; which that is is drawn otherwise."""

    def select(self, contexts: Tensor) -> Tensor:
        super().select(contexts)
        return torch.zeros(len(contexts), dtype=torch.int64)


def test_who_ties_is_passed_over_and_learned_of_as_of_chance(rollouts: Callable[..., RolloutBatch]) -> None:
    made = selector({"flat": Says(a=1.0, b=1.0, c=1.0), "steep": Says(a=3.0, b=2.0, c=1.0)}, bandit=FlatFirst())
    objective, batch = PolicyGradient(), rollouts([[[2], [3], [4]]] * 2, **ABC)
    labelled = made.label(batch, step=0)
    assert labelled.arms.tolist() == [1, 1]
    losses = frozen_loss(labelled, objective)[1].by_name()
    made.learn(labelled, PromptLosses(losses, objective.by_chance(batch)))
    (decision,) = made.decisions
    assert (decision.arm, decision.tied) == ("steep", ["flat"])
    assert decision.observed == {"steep": pytest.approx(0.0, abs=1e-12), "flat": 0.0}


def test_where_all_tie_nothing_is_trained_and_the_record_says_so(rollouts: Callable[..., RolloutBatch]) -> None:
    made = selector({"flat": Says(a=1.0, b=1.0, c=1.0)})
    labelled = made.label(rollouts([[[2], [3], [4]]] * 2, **ABC), step=0)
    assert PolicyGradient().labels(labelled) == 0
    (decision,) = made.decisions
    assert (decision.pairs, decision.prompts_without_pairs) == (None, 2)
    assert outcome(decision.as_dict()).startswith("No responses were distinguished, so it trained nothing.")


@pytest.mark.parametrize(
    ("truncated", "expected"), [("keep", [9.0, 2.0, 1.0]), ("mask", [1.0, 2.0, 1.0]), ("drop", [math.nan, 2.0, 1.0])]
)
def test_a_cut_response_counts_as_it_would_in_pairs(
    rollouts: Callable[..., RolloutBatch], truncated: str, expected: list[float]
) -> None:
    made = selector({"one": Says(a=9.0, b=2.0, c=1.0)}, truncated=truncated)
    batch = rollouts([[[2], [3], [4]]], [[False, True, True]], texts=[["a", "b", "c"]])
    assert made.label(batch, step=0).scores[0].tolist() == pytest.approx(expected, nan_ok=True)


def test_what_a_constraint_forbids_is_as_bad_as_the_worst(rollouts: Callable[..., RolloutBatch]) -> None:
    short = Constraint(Says(a=0.0, b=1.0, c=1.0), threshold=0.5)
    made = selector({"one": Says(a=9.0, b=2.0, c=1.0)}, constraints={"short": short})
    labelled = made.label(rollouts([[[2], [3], [4]]], texts=[["a", "b", "c"]]), step=0)
    assert labelled.scores.tolist() == [[1.0, 2.0, 1.0]]
    assert made.decisions[0].forbidden == {"short": 1}


def test_every_pair_of_unlike_scores() -> None:
    pairs = every_pair(torch.tensor([[2.0, math.nan, 1.0], [0.0, 0.0, 0.0]]))
    assert (pairs.of(0), pairs.of(1)) == ([(0, 2)], [])


@pytest.mark.parametrize("signal", [signals.Gap(), signals.Advantage(), signals.Nll(), signals.Dpo()])
def test_a_signal_of_what_there_is_not_is_refused_with_those_that_work(signal: signals.Signal) -> None:
    with pytest.raises(ConfigurationError, match="Cooling, Majority or Trusted"):
        what_is_wrong(signal, PolicyGradient())


def test_the_loss_is_warned_about_and_what_works_is_not() -> None:
    said = what_is_wrong(signals.Loss(), PolicyGradient())
    assert said is not None
    assert "The bandit learns from the loss, which says nothing" in said
    assert "Cooling, Majority or Trusted" in said
    for signal in (signals.Cooling(), signals.Majority(), signals.Trusted(), signals.ProbeGain()):
        assert what_is_wrong(signal, PolicyGradient()) is None


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grpo(fit: Callable[..., LaserCLI], tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """A run that nothing interrupts."""
    return fit(tmp_path_factory.mktemp("grpo"), *of_example("grpo"))


def of_example(name: str) -> list[str]:
    return [f"--config={EXPERIMENTS}/objectives/{name}.yaml", "--selection.signal.init_args.share=1.0"]


def test_the_grpo_example_trains_on_scores(grpo: LaserCLI) -> None:
    with grpo.folder.metrics.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert float(rows[0]["train/ratio"]) == pytest.approx(1.0, abs=1e-5)
    assert float(rows[0]["train/policy_gradient"]) == pytest.approx(0.0, abs=1e-4)
    assert abs(float(rows[-1]["train/ratio"]) - 1.0) > 1e-5  # the fourth step on one iteration's rollouts
    for row in rows:
        expected = float(row["train/policy_gradient"]) + 0.04 * float(row["train/kl"])
        assert float(row["train/loss"]) == pytest.approx(expected, abs=1e-6)
        assert 0 < float(row["train/scores"]) <= 24
        assert "train/pairs" not in row
    assert all(line["pairs"] is None and line["reward"] for line in decisions_of(grpo))
    kept = [json.loads(line) for line in grpo.folder.pairs.read_text().splitlines()]
    assert all(line["pairs"] == [] and len(line["scores"]) == 6 for line in kept)
    assert "mean ratio to the iteration" in grpo.folder.report.read_text()
    card = (grpo.folder.adapter / "README.md").read_text()
    assert "PolicyGradient" in card
    assert "pairs by" not in card


def test_the_rloo_example_trains_under_a_signal_that_tells(
    fit: Callable[..., LaserCLI], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        run = fit(tmp_path, *of_example("rloo"))
    assert not any("says nothing about which reward model" in record.message for record in caplog.records)
    assert all(line["loss"] is not None and line["reward"] for line in decisions_of(run))


def test_a_run_that_is_interrupted_within_an_iteration_ends_as_one_that_is_not(
    grpo: LaserCLI, fit: Callable[..., LaserCLI], tmp_path: Path, plug: Callable[..., str]
) -> None:
    arguments = [*of_example("grpo"), "--checkpoint_every=1"]
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path / "parts", *arguments, plug("on_train_batch_end", 2))
    parts = fit(tmp_path / "parts", *arguments, "--resume")
    one, other = ([line | {"reward_model_seconds": 0} for line in decisions_of(run)] for run in (grpo, parts))
    assert one == other


def test_a_plan_counts_every_response_and_no_pair(fit_command: Callable[..., list[str]], tmp_path: Path) -> None:
    def planned(*args: str) -> tuple[int, int]:
        found = plan(fit_command(tmp_path, "--selection.pairs.per_prompt=1", *args)[1:], Console(file=io.StringIO()))
        (training,) = (phase for device in found.devices for phase in device.phases if phase.name == "training")
        (kept,) = (files for files in found.files if files.name == "pairs.jsonl")
        assert training.size is not None
        return training.size, kept.size

    paired, scored = planned(), planned(*of_example("grpo"))
    assert scored[0] > paired[0]  # six responses are read, not two
    assert scored[1] < paired[1]


def test_a_signal_of_pairs_is_refused_before_anything_is_measured_and_by_the_plan(
    fit_command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gap = "--selection.signal=laser_pl.feedback.signals.Gap"
    command = fit_command(tmp_path, f"--config={EXPERIMENTS}/objectives/grpo.yaml", gap)
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "selection.signal is Gap, which looks at pairs" in said
    assert "Test before" not in said
    found = plan(command[1:], Console(file=io.StringIO()))
    assert found.stops
    assert any("which looks at pairs" in finding.text for finding in found.findings)
