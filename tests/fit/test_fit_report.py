"""What a real run records for people, and what is said about it: the page, the explanation, the choices made again."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.cli import instantiate_class
from rich.console import Console
from torch import Tensor

import laser_pl.report.command
from laser_pl.bandits import Bandit
from laser_pl.bandits.context import ContextPreparation
from laser_pl.commands.cli import LaserCLI
from laser_pl.commands.explain import explain_step, main
from laser_pl.report.records import Line, RunRecords, read_records
from laser_pl.runtime.seeds import derive_seed
from tests.runs import Fit, decisions_of

ARMS = ["numbers", "sorter", "mirror", "general", "longer"]
POLLED = ["--selection.granularity=prompt", "--selection.signal=laser_pl.feedback.signals.Cooling",
          "--selection.signal.share=0.5", "--selection.bandit=laser_pl.bandits.Thompson"]  # fmt: skip
BY_CATEGORY = ["--selection.granularity=category", "--selection.bandit=laser_pl.bandits.EpsilonGreedy"]


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations of three steps, so few prompts that all are kept."""
    return ["--trainer.max_epochs=2", "--data.prompts_per_iteration=12", "--data.rollouts.n=4"]


@pytest.fixture(scope="module")
def run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """One arm for each batch, by LinUCB."""
    return fit(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def polled(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """One for each prompt, by Thompson sampling; on half of the prompts all are asked."""
    return fit(tmp_path_factory.mktemp("polled"), *POLLED)


def judged_of(run: LaserCLI) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.folder.judged.read_text().splitlines()]


def metrics_of(run: LaserCLI, column: str) -> list[float]:
    with run.folder.metrics.open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def rollouts_of(run: Path, iteration: int) -> dict[str, dict[str, Any]]:
    folder = run / "rollouts" / f"iteration-{iteration:03d}"
    return {row["prompt_id"]: row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()}


# -- what is recorded --------------------------------------------------------------------------------------------------


def test_kept_prompts_are_those_that_were_judged(run: LaserCLI, polled: LaserCLI) -> None:
    for one in (run, polled):
        lines, decisions = judged_of(one), decisions_of(one)
        judges = {(d["step"], id_): (d["arm"], d["iteration"]) for d in decisions for id_ in d["prompt_ids"]}
        assert {(line["step"], line["prompt_id"]): (line["arm"], line["iteration"]) for line in lines} == judges
        for line in lines:
            row = rollouts_of(one.folder.path, line["iteration"])[line["prompt_id"]]
            assert line["responses"] == row["responses"]
            assert line["finished"] == row["finished"]
            assert line["lengths"] == [len(tokens) for tokens in row["tokens"]]
            assert (line["prompt"], line["category"]) == (row["text"], row["category"])
            assert line["question"] == json.loads(row["prompt"])
            assert line["right"] == [text.strip() == line["answer"] for text in line["responses"]]
            own = line["scores"][line["arm"]]
            assert all(own[chosen] > own[rejected] for chosen, rejected in line["pairs"])
        for step, group in groupby(decisions, key=lambda d: d["step"]):
            kept = sum(len(line["pairs"]) for line in lines if line["step"] == step)
            assert kept == sum(d["pairs"] for d in group)


def test_all_scores_are_kept_where_a_signal_asked_all(run: LaserCLI, polled: LaserCLI) -> None:
    assert all(list(line["scores"]) == [line["arm"]] for line in judged_of(run))
    rewarded = {id_ for d in decisions_of(polled) for id_ in d["prompt_ids"] if d["reward"]}
    complete = {line["prompt_id"] for line in judged_of(polled) if sorted(line["scores"]) == sorted(ARMS)}
    assert rewarded
    assert rewarded <= complete < {line["prompt_id"] for line in judged_of(polled)}


def test_metrics_tell_of_the_responses(run: LaserCLI) -> None:
    lines = judged_of(run)
    for step in range(6):
        own = [line for line in lines if line["step"] == step]
        lengths = [length for line in own for length in line["lengths"]]
        assert metrics_of(run, "train/response_length")[step] == pytest.approx(sum(lengths) / len(lengths))
        assert metrics_of(run, "tokens/responses")[step] == sum(lengths)
        assert metrics_of(run, "tokens/prompts")[step] == sum(len(line["prompt"]) for line in own)
        cut = [not finished for line in own for finished in line["finished"]]
        assert metrics_of(run, "train/truncated")[step] == pytest.approx(sum(cut) / len(cut))


def test_the_chosen_are_first_as_likely_as_under_the_reference(run: LaserCLI) -> None:
    """Nothing was trained yet when the first step of a run is taken."""
    rows = rollouts_of(run.folder.path, 0)
    first = [line for line in judged_of(run) if line["step"] == 0]
    logprobs = [rows[line["prompt_id"]]["reference_logprobs"][chosen] for line in first for chosen, _ in line["pairs"]]
    assert metrics_of(run, "train/chosen_logprob")[0] == pytest.approx(sum(logprobs) / len(logprobs), abs=1e-4)
    assert metrics_of(run, "train/margin")[0] == pytest.approx(0, abs=1e-4)


# -- the choices, made again -------------------------------------------------------------------------------------------


def steps_with_contexts(records: RunRecords) -> Iterator[tuple[list[Line], Tensor]]:
    """Each step's decisions, and the contexts that the bandit saw, made again from the stored rollouts."""
    preparation = ContextPreparation()
    for iteration, of_iteration in groupby(records.decisions, key=lambda line: int(line["iteration"])):
        rows = rollouts_of(records.folder.path, iteration)
        preparation.observe(torch.tensor([row["context"] for row in rows.values()]))
        for _, of_step in groupby(of_iteration, key=lambda line: int(line["step"])):
            lines = list(of_step)
            hidden = [torch.tensor([rows[id_]["context"] for id_ in line["prompt_ids"]]).mean(0) for line in lines]
            yield lines, preparation.prepare(torch.stack(hidden))


def choices_made_again(records: RunRecords) -> list[str]:
    """What a fresh bandit chooses, told the recorded rewards at the contexts of the stored rollouts."""
    bandit: Bandit = instantiate_class((), records.config["selection"]["bandit"])
    chosen: list[str] = []
    for step, (lines, contexts) in enumerate(steps_with_contexts(records)):
        if step == 0:
            bandit.start(records.arms, contexts.shape[-1], derive_seed(records.config["seed_everything"], "bandit"))
        bandit.tell(lines[0]["iteration"], [line["category"] for line in lines])
        why = bandit.explain(contexts)
        for m, line in enumerate(lines):
            assert line["mean"] == dict(zip(records.arms, why.mean[m].tolist(), strict=True))
            assert line["bonus"] == dict(zip(records.arms, why.bonus[m].tolist(), strict=True))
        chosen += [records.arms[arm] for arm in bandit.select(contexts).tolist()]
        told = [
            (m, records.arms.index(arm), reward)
            for m, line in enumerate(lines)
            for arm, reward in (line["reward"] or {}).items()
        ]
        if told:
            decision, arm, reward = zip(*told, strict=True)
            rewards = torch.tensor(reward, dtype=torch.float64)
            bandit.update(contexts[list(decision)], torch.tensor(arm), rewards)
    return chosen


@pytest.mark.parametrize("which", ["run", "polled"])
def test_every_choice_can_be_made_again_from_the_records(which: str, request: pytest.FixtureRequest) -> None:
    run: LaserCLI = request.getfixturevalue(which)
    chosen = choices_made_again(read_records(run.folder.path))
    assert chosen == [decision["arm"] for decision in decisions_of(run)]
    assert len(set(chosen)) > 1


def test_choices_by_category_can_be_made_again(fit: Fit, tmp_path: Path) -> None:
    """Prompts of a category do not lie side by side in their batch; the bandit explores by lot."""
    run = fit(tmp_path, *BY_CATEGORY)
    decisions = decisions_of(run)
    assert len(decisions) > 6
    assert choices_made_again(read_records(run.folder.path)) == [decision["arm"] for decision in decisions]


def test_other_rewards_make_other_choices(run: LaserCLI, tmp_path: Path) -> None:
    """What is checked above could fail."""
    shutil.copytree(run.folder.path, tmp_path / "copy")
    lines = decisions_of(run)
    lines[0]["reward"] = {arm: 9.0 for arm in lines[0]["reward"]}
    (tmp_path / "copy/selection.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(AssertionError):
        choices_made_again(read_records(tmp_path / "copy"))


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_its_page(run: LaserCLI, polled: LaserCLI) -> None:
    for one in (run, polled):
        page = one.folder.report.read_text(encoding="utf-8")
        assert page.count('<details class="example"') == 24
        assert f"{one.summary['accuracy']['after']['average']:.3f}" in page
    assert "no two reward models scored the same responses" in run.folder.report.read_text(encoding="utf-8")
    assert "pairs ordered alike" in polled.folder.report.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_does_not_lose_the_run(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is odd is told all the same."""

    def fail(records: RunRecords) -> str:
        raise RuntimeError("no\nink")

    monkeypatch.setattr(laser_pl.report.command, "page", fail)
    run = fit(tmp_path, "--data.rollouts.max_new_tokens=2", "--trainer.max_epochs=1")
    assert run.folder.summary.is_file()
    assert not run.folder.report.exists()
    told = [record.getMessage() for record in caplog.records if record.name == "laser_pl.report.command"]
    assert told == [
        "Worth a look: 100% of iteration 1's responses were cut at the limit. Reward models judge torsos. Raise"
        " data.rollouts.max_new_tokens.",
        "The report could not be written (RuntimeError: no ink). Once that is mended: python -m laser_pl report"
        f" {run.folder.path}",
    ]


def test_looking_at_a_run_needs_no_torch(run: LaserCLI) -> None:
    code = "import sys; from laser_pl.__main__ import run; run(); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, "report", str(run.folder.path)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Written: {run.folder.report}"


def explained(folder: Path, step: int) -> str:
    screen = StringIO()
    explain_step([str(folder), f"--step={step}"], Console(file=screen, width=200, highlight=False))
    return screen.getvalue()


def test_a_choice_is_explained_by_what_was_recorded(run: LaserCLI, polled: LaserCLI) -> None:
    decision = decisions_of(run)[4]
    text = explained(run.folder.path, 4)
    assert text.startswith("Step 4, iteration 2: one decision by LinUCB.\n")
    assert f"'{decision['arm']}' judged 4 prompts" in text
    alike = [one for one in decisions_of(run)[:4] if one["category"] == decision["category"]]
    assert f"in {len(alike)} earlier decisions of this category" in text
    for arm in ARMS:
        assert f"{decision['mean'][arm]:+.3f}" in text
        assert f"{decision['bonus'][arm]:.3f}" in text
    assert f"a loss of {decision['loss']:.3f}" in text
    assert text.count("Responses to: ") == 4
    text = explained(polled.folder.path, 5)
    assert text.startswith("Step 5, iteration 2: 4 decisions by Thompson.\n")
    assert text.count("earlier decisions of this category") == 4


def test_before_the_first_step_no_arm_has_judged(run: LaserCLI) -> None:
    assert "in 0 earlier decisions of this category" in explained(run.folder.path, 0)


def test_a_choice_is_explained_without_rollouts(run: LaserCLI, tmp_path: Path) -> None:
    """Which `keep_iterations` may have removed."""
    shutil.copytree(run.folder.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/rollouts")
    assert explained(tmp_path / "copy", 4) == explained(run.folder.path, 4)


def test_what_a_model_wrote_moves_no_terminal(run: LaserCLI, tmp_path: Path) -> None:
    shutil.copytree(run.folder.path, tmp_path / "copy")
    lines = judged_of(run)
    hostile = "\x1b[2J[red]x[/red]\r\u202e"
    lines[0] |= {"question": hostile, "prompt": hostile, "responses": [hostile] * 4}
    (tmp_path / "copy/judged.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = explained(tmp_path / "copy", 0)
    assert "Responses to: ␛[2J[red]x[/red] ⟨U+202E⟩" in text
    assert text.count("␛[2J[red]x[/red]␍⟨U+202E⟩") == 4
    assert not set(chain("\x1b\r\u202e")) & set(text)


def test_what_cannot_be_explained_is_told(run: LaserCLI, capsys: pytest.CaptureFixture[str]) -> None:
    def told(folder: Path, step: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(folder), "--step", step])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    folder = run.folder.path
    assert told(folder, "6") == (
        f"laser_pl: explain: the run '{folder}' has no step 6; it has steps 0 to 5. Set --step."
    )
    assert told(folder, "x").startswith("laser_pl: explain: argument --step: invalid int value: 'x'. See python -m")
