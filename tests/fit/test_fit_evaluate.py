"""`validate` and `test` of a finished run's checkpoint give what the run itself had measured."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from laser_pl.batches import PromptBatch, Responses
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.generation import TransformersEngine
from laser_pl.generation.sampler import sample_responses
from laser_pl.generation.sampling import Sampling
from laser_pl.runtime.seeds import derive_seed
from tests.runs import Fit


@pytest.fixture(scope="module")
def run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    folder = tmp_path_factory.mktemp("run")
    return fit(folder, "--optimizer.lr=0.01", "--trainer.max_epochs=2", "--model.evaluation.n=4", evaluated=12)


@pytest.mark.parametrize(("command", "stage"), [("validate", "validation"), ("test", "test")])
def test_checkpoint_measures_as_logged(
    run: LaserCLI, command: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.folder.path.parent.rglob("*"))
    again = main([command, f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}"])
    assert sorted(run.folder.path.parent.rglob("*")) == before
    with run.folder.metrics.open(newline="") as file:
        column = f"{stage}/accuracy/sampled/average"
        rows = [row for row in csv.DictReader(file) if row[column]]
    logged = {name: float(value) for name, value in rows[-1].items() if name.startswith(stage) and value}
    measured = {name: float(value) for name, value in again.trainer.callback_metrics.items()}
    assert measured == pytest.approx(logged, abs=1e-6)
    for kind in ("greedy", "majority"):
        assert f"{stage}/accuracy/{kind}/average" in measured
    printed = capsys.readouterr().out
    assert f"{stage}/accuracy/sampled/average" in printed


def test_training_changed_what_is_measured(run: LaserCLI) -> None:
    """Or the test above could not tell a checkpoint from the base."""
    assert run.summary["accuracy"]["before"] != run.summary["accuracy"]["after"]


def test_without_a_checkpoint_the_base_is_measured(run: LaserCLI) -> None:
    again = main(["test", f"--config={run.folder.config}"])
    prefix = "test/accuracy/sampled/"
    metrics = again.trainer.callback_metrics
    measured = {name.removeprefix(prefix): float(metrics[name]) for name in metrics if name.startswith(prefix)}
    assert measured == pytest.approx(run.summary["accuracy"]["before"], abs=1e-6)


def test_the_majority_of_the_samples_is_graded(run: LaserCLI) -> None:
    """Of each prompt the first of the most frequent answers, counted here anew."""
    policy = run.model
    (batch,) = run.datamodule.test_dataloader()
    generator, seed = policy.model.get_base_model(), derive_seed(policy.seed, "evaluation", 0)
    responses = sample_responses(generator, policy.tokenizer, batch, policy.evaluation, seed)
    right: dict[str, list[bool]] = {}
    for prompt, texts in zip(batch.prompts, responses.texts, strict=True):
        answers = [text.strip() for text in texts]
        first = max(answers, key=lambda answer: (answers.count(answer), -answers.index(answer)))
        right.setdefault(prompt.category, []).append(first == prompt.answer)
    with run.folder.metrics.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["test/accuracy/majority/average"]]
    for category, own in right.items():
        assert float(rows[-1][f"test/accuracy/majority/{category}"]) == pytest.approx(sum(own) / len(own), abs=1e-6)


def test_prompts_without_answers_are_not_answered_in_vain(
    fit: Fit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in validation nor in the tests: only rollouts are sampled, and the closing table says who judged."""
    sampled: list[int] = []
    respond = TransformersEngine.respond

    def counted(engine: TransformersEngine, prompts: PromptBatch, sampling: Sampling, seed: int) -> Responses:
        sampled.append(sampling.n)
        return respond(engine, prompts, sampling, seed)

    monkeypatch.setattr(TransformersEngine, "respond", counted)
    with caplog.at_level(logging.INFO):
        done = fit(tmp_path, "--data.columns.answer=null")
    assert {*sampled} == {6}
    assert done.summary["accuracy"] == {"before": {}, "after": {}}
    assert "Who scored" in capsys.readouterr().out
    told = [one.message for one in caplog.records if "No test prompt has an answer" in one.message]
    assert len(told) == 1
    assert told[0].endswith("python -m laser_pl winrate.")
