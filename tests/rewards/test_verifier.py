"""Who says what is right: the run's grader, wherever nobody was told otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from laser_pl.batches import Prompt
from laser_pl.commands.cli import main
from laser_pl.metrics.graded import TokenF1
from laser_pl.metrics.grader import Grader
from laser_pl.metrics.matchers import Exact, Number
from laser_pl.rewards import ByCategory, MeanEnsemble, Pool, Verifier
from tests.runs import Fit

SPOILING = "laser_pl.metrics.matchers.Regex"
"""Answers of the quickstart are words and numbers; read by this only their last character counts."""
LAST = {"class_path": SPOILING, "init_args": {"pattern": r"(.)\s*$"}}


def asked(answer: str | None) -> Prompt:
    return Prompt("p", "?", "?", answer)


@pytest.mark.parametrize(
    ("own", "of_run", "score"),
    [
        (None, None, 0.0),
        (None, Number(), 1.0),
        (Number(), Exact(), 1.0),
        (Exact(), Number(), 0.0),
        (None, TokenF1(), 2 / 3),
    ],
)
def test_a_verifier_scores_by_the_grade(own: Grader | None, of_run: Grader | None, score: float) -> None:
    verifier = Verifier(own)
    if of_run is not None:
        verifier.grade_by(of_run)
    assert verifier.score([asked("4"), asked(None)], [["4 eggs"], ["4 eggs"]]) == [[pytest.approx(score)], [None]]


def test_the_grader_reaches_members_of_members() -> None:
    pool = Pool({"arm": MeanEnsemble({"a": ByCategory({"all": Verifier()}), "b": Verifier(Exact())})})
    pool.grade_by(Number())
    (scores,) = pool.score("arm", [asked("4")], [["4 eggs", "5 eggs"]], torch.device("cpu"))
    assert scores[0] > scores[1]  # of Exact both are wrong alike


def verifying(matcher: dict[str, Any]) -> list[str]:
    arm = {"class_path": "laser_pl.rewards.Verifier"}
    trusted = ["--selection.signal=laser_pl.feedback.signals.Trusted", "--selection.signal.share=1"]
    return [f"--model.matcher={json.dumps(matcher)}", f"--selection.reward_models={json.dumps({'truth': arm})}",
            "--data.prompts_per_iteration=8", *trusted]  # fmt: skip


def right_by(grader: Grader, line: dict[str, Any]) -> list[bool]:
    return [grader.is_right(text, asked(line["answer"])) for text in line["responses"]]


def test_fit_and_predict_verify_by_the_policys_matcher(fit: Fit, tmp_path: Path) -> None:
    """The only arm and the signal agree with the matcher, on every prompt that has right and wrong responses."""
    run = fit(tmp_path, *verifying(LAST))
    lines = [json.loads(line) for line in run.folder.judged.read_text().splitlines()]
    divided = 0
    for line in lines:
        assert line["scores"]["truth"] == line["right"] == right_by(run.model.matcher, line)
        divided += any(line["right"]) and not all(line["right"])
    assert divided > 0
    assert any(line["right"] != right_by(Exact(), line) for line in lines)
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    seen = [d["observed"]["truth"] for d in decisions if d["observed"]]
    assert seen
    assert set(seen) == {1.0}
    predictions = tmp_path / "predictions.jsonl"
    main(["predict", f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}", f"--out={predictions}"])
    for prediction in map(json.loads, predictions.read_text().splitlines()):
        assert prediction["score"] == prediction["grade"]


def test_the_configuration_names_one_matcher(
    fit_command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*fit_command(tmp_path, *verifying(LAST)), "--print_config"])
    printed = capsys.readouterr().out
    assert printed.count("laser_pl.metrics.") == printed.count(SPOILING) == 1
    config = yaml.safe_load(printed)
    assert config["selection"]["signal"]["init_args"]["matcher"] is None
    assert config["selection"]["reward_models"]["truth"]["init_args"]["matcher"] is None
