"""``predict``: best-of-n with the selection that a run has learned."""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest
import torch

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.commands.going_on import how_to_go_on
from laser_pl.data.templates import Plain
from laser_pl.policy.policy import Policy
from laser_pl.report.predictions import print_predictions
from tests.runs import Fit

REWARDS = """
def nothing(prompts, completions, **columns):
    return [None] * len(completions)


def short(prompts, completions, **columns):
    return [float(len(text) <= 4) for text in completions]


def length(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


answered = 0
goes_down_after = 8  # responses


def server(prompts, completions, **columns):
    global answered
    if answered >= goes_down_after:
        raise RuntimeError("the server is down")
    answered += len(completions)
    return length(prompts, completions)
"""


@pytest.fixture(scope="module")
def run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    """A finished run that was tested on twelve prompts."""
    folder = tmp_path_factory.mktemp("run")
    return fit(folder, "--data.prompts_per_iteration=80", "--selection.granularity=prompt", evaluated=12)


@pytest.fixture
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "predict_rewards.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(tmp_path)


def predict(run: LaserCLI, out: Path, *args: str) -> LaserCLI:
    given = [f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}", f"--out={out}"]
    return main(["predict", *given, *args])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["predict", *args])
    assert end.value.code == 2
    return " ".join(capsys.readouterr().err.split()).removeprefix("laser_pl: ")


@pytest.fixture(scope="module")
def predicted(run: LaserCLI, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return predict(run, tmp_path_factory.mktemp("predicted") / "deep" / "predictions.jsonl")


def test_every_test_prompt_gets_the_response_that_its_reward_model_likes_best(
    run: LaserCLI, predicted: LaserCLI
) -> None:
    (batch,) = predicted.datamodule.predict_dataloader()
    responses, hidden = predicted.model.predict_step(batch, 0)  # type: ignore[misc]
    means = run.selector.bandit.explain(run.selector.context.prepare(hidden)).mean
    found = lines(predicted.predictions)
    assert [line["prompt_id"] for line in found] == [prompt.id for prompt in run.datamodule.prompts["test"]]
    assert len({line["arm"] for line in found}) > 1  # or a bandit that knows nothing of its context would do
    for row, (line, prompt) in enumerate(zip(found, batch.prompts, strict=True)):
        texts = list(responses.texts[row])
        assert (line["prompt"], line["category"], line["answer"]) == (prompt.prompt, prompt.category, prompt.answer)
        assert list(line["mean"].values()) == pytest.approx(means[row].tolist(), abs=1e-6)
        assert line["arm"] == max(line["mean"], key=line["mean"].get)  # without the bonus
        scores = run.selector.pool.score(line["arm"], [prompt], [texts], torch.device("cpu"))[0]
        assert line["score"] == pytest.approx(float(scores.max()), abs=1e-4)
        assert float(scores[texts.index(line["response"])]) == pytest.approx(line["score"], abs=1e-4)
        right = [text.strip() == prompt.answer for text in texts]
        assert line["grade"] == float(line["response"].strip() == prompt.answer)
        assert line["sampled"] == pytest.approx(sum(right) / len(right))
        assert line["metric"] == "Exact"


def test_the_table_sums_up_by_category(predicted: LaserCLI, capsys: pytest.CaptureFixture[str]) -> None:
    summary, found = predicted.summary, lines(predicted.predictions)
    print_predictions(summary, 6, predicted.predictions)
    printed = capsys.readouterr().out
    assert list(summary["categories"]) == sorted({line["category"] for line in found})
    means = []
    for name, numbers in summary["categories"].items():
        own = [line for line in found if line["category"] == name]
        grades = torch.tensor([line["grade"] for line in own], dtype=torch.float64)
        means.append(float(grades.mean()))
        assert numbers["best_of_n"][0] == pytest.approx(means[-1])
        quantile = {2: 12.706, 3: 4.3027, 4: 3.1824, 5: 2.7764}.get(len(own))  # of Student's t, 97.5 %
        if quantile is not None:
            expected = quantile * float(grades.std()) / len(own) ** 0.5
            assert numbers["best_of_n"][1] == pytest.approx(expected, rel=1e-4)
        assert numbers["arms"] == Counter(line["arm"] for line in own)
        assert f"{means[-1]:.3f}" in printed
        assert name in printed
    assert summary["average"]["best_of_n"] == pytest.approx(sum(means) / len(means))
    assert str(predicted.predictions) in printed.replace("\n", "")


def test_it_goes_to_the_runs_folder_and_is_never_overwritten(run: LaserCLI, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}"]
    place = run.folder.path / "predictions.jsonl"
    try:
        main(["predict", *given, "--data.rollouts.n=2"])
        before = place.read_bytes()
        assert before.count(b"\n") == 12
        capsys.readouterr()
        message = refusal(capsys, *given)
        assert message == f"'{place}' is there already. Give --out another name."
        assert place.read_bytes() == before
    finally:
        place.unlink()


def test_an_interrupted_one_goes_on_and_ends_as_if_nothing_had_been(
    run: LaserCLI, tmp_path: Path, plug: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, out = "--data.evaluation_batch_size=4", tmp_path / "out" / "predictions.jsonl"
    predict(run, tmp_path / "whole.jsonl", batches)
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        predict(run, out, batches, plug("on_predict_batch_end", 1))
    (part,) = out.parent.iterdir()
    kept = part.read_text()
    assert part.name.startswith("predictions-unfinished-")
    assert kept.count("\n") in {4, 8}
    part.write_text(kept + '{"prompt_id": "to')  # torn
    answered: list[int] = []
    step = Policy.predict_step

    def counted(policy: Policy, batch: Any, batch_idx: int) -> Any:
        answered.append(len(batch))
        return step(policy, batch, batch_idx)

    monkeypatch.setattr(Policy, "predict_step", counted)
    predict(run, out, batches)
    assert sum(answered) == 12 - kept.count("\n")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert list(out.parent.iterdir()) == [out]


def test_ctrl_c_says_how_to_go_on(
    run: LaserCLI, tmp_path: Path, plug: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        predict(run, tmp_path / "out.jsonl", "--data.evaluation_batch_size=4", plug("on_predict_batch_end", 1, SIGINT))
    assert end.value.code == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "laser_pl: Interrupted by SIGINT. What was predicted is kept: the same command goes on."


@pytest.mark.parametrize("inside", ["", "checkpoints"])
def test_a_folder_is_no_checkpoint(run: LaserCLI, capsys: pytest.CaptureFixture[str], inside: str) -> None:
    given = run.folder.path / inside
    with pytest.raises(SystemExit) as end:
        main(["test", f"--config={run.folder.config}", f"--ckpt_path={given}"])
    assert end.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"There is no checkpoint '{given}'. Did you mean '{run.folder.checkpoint}'?" in told


def test_a_run_that_is_named_after_a_command_goes_on_as_what_it_is() -> None:
    told = how_to_go_on(["fit", "--config", "a.yaml", "--name", "predict"], Path("runs/predict"))
    assert told == " Go on with: python -m laser_pl fit --config a.yaml --name predict --resume runs/predict"
    assert how_to_go_on(["test", "--config", "a.yaml", "--name", "fit"], Path("runs/fit")) == ""


def test_what_was_predicted_otherwise_is_not_taken(run: LaserCLI, tmp_path: Path, plug: Callable[..., str]) -> None:
    batches, out = "--data.evaluation_batch_size=4", tmp_path / "out" / "predictions.jsonl"
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        predict(run, out, batches, plug("on_predict_batch_end", 1))
    (part,) = out.parent.iterdir()
    predict(run, out, batches, "--data.rollouts.temperature=0.5")
    assert set(out.parent.iterdir()) == {out, part}
    predict(run, tmp_path / "whole.jsonl", batches, "--data.rollouts.temperature=0.5")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def functions(**names: str) -> str:
    return json.dumps(
        {
            arm: {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": f"predict_rewards.{name}"}}
            for arm, name in names.items()
        }
    )


ARMS = ("numbers", "sorter", "mirror", "general", "longer")


@pytest.mark.usefixtures("rewards")
def test_where_the_best_arm_says_nothing_the_next_is_asked(run: LaserCLI, predicted: LaserCLI, tmp_path: Path) -> None:
    silent = tmp_path / "silent.jsonl"
    best = Counter(line["arm"] for line in lines(predicted.predictions)).most_common(1)[0][0]
    arms = {arm: "nothing" if arm == best else "length" for arm in ARMS}
    predict(run, silent, f"--selection.reward_models={functions(**arms)}")
    for line in lines(silent):
        order = sorted(line["mean"], key=line["mean"].get, reverse=True)
        assert line["arm"] == (order[1] if order[0] == best else order[0])
        assert line["score"] == len(line["response"])


@pytest.mark.usefixtures("rewards")
def test_a_fault_is_no_answer_and_where_nobody_is_left_it_ends_and_goes_on(
    run: LaserCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, small = tmp_path / "out" / "predictions.jsonl", "--data.evaluation_batch_size=2"
    given = [small, f"--selection.reward_models={functions(**dict.fromkeys(ARMS, 'server'))}"]
    with pytest.raises(SystemExit) as end:
        predict(run, out, *given)
    assert end.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "No reward model is left that can judge; the last one that failed was" in told
    assert "What was predicted is kept: mend the reward models, and give the command again." in told
    (kept,) = out.parent.iterdir()
    assert len([line for line in lines(kept) if "prompt_id" in line]) == 2  # of the batch before the faults
    importlib.import_module("predict_rewards").goes_down_after = math.inf
    predict(run, out, *given)
    whole = tmp_path / "whole.jsonl"
    predict(run, whole, small, f"--selection.reward_models={functions(**dict.fromkeys(ARMS, 'length'))}")
    assert [line["response"] for line in lines(out)] == [line["response"] for line in lines(whole)]
    assert None not in [line["response"] for line in lines(out)]


@pytest.mark.usefixtures("rewards")
def test_without_any_opinion_there_is_no_response_and_none_is_right(run: LaserCLI, tmp_path: Path) -> None:
    out = tmp_path / "silent.jsonl"
    predict(run, out, f"--selection.reward_models={functions(**dict.fromkeys(ARMS, 'nothing'))}")
    assert {(line["arm"], line["response"], line["score"], line["grade"]) for line in lines(out)} == {
        (None, None, None, 0.0)
    }


@pytest.mark.usefixtures("rewards")
def test_what_a_constraint_forbids_is_not_chosen(run: LaserCLI, tmp_path: Path) -> None:
    out = tmp_path / "short.jsonl"
    short = {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "predict_rewards.short"}}
    constraint = json.dumps({"short": {"reward_model": short, "threshold": 0.5}})
    arms = functions(**dict.fromkeys(ARMS, "length"))
    predict(run, out, f"--selection.reward_models={arms}", f"--selection.constraints={constraint}")
    chosen = [line["response"] for line in lines(out)]
    assert any(response is not None for response in chosen)
    assert all(response is None or len(response) <= 4 for response in chosen)


def test_prompts_of_ones_own_need_no_answer(run: LaserCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, out = tmp_path / "own.jsonl", tmp_path / "predictions.jsonl"
    own.write_text('{"prompt": "S dcbae=", "category": "sorting", "answer": null}\n')
    summary = predict(run, out, f"--data.test={own}").summary
    (line,) = lines(out)
    assert (line["answer"], line["grade"], line["sampled"]) == (None, None, None)
    assert line["response"] is not None
    assert "average" not in summary
    assert "sorting" in capsys.readouterr().out


def test_without_a_checkpoint_it_says_which_to_name(run: LaserCLI, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, f"--config={run.folder.config}") == (
        "predict chooses by what a run has learned. Name its checkpoint: --ckpt_path runs/<name>/checkpoints/last.ckpt."
    )


def test_a_checkpoint_outside_a_run_needs_a_place_to_write(
    run: LaserCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely = tmp_path / "one" / "two" / "last.ckpt"
    lonely.parent.mkdir(parents=True)
    lonely.write_bytes(run.folder.checkpoint.read_bytes())
    message = refusal(capsys, f"--config={run.folder.config}", f"--ckpt_path={lonely}")
    assert message == f"The checkpoint '{lonely}' lies in no run's folder. Say where to write: --out predictions.jsonl."


@pytest.mark.usefixtures("rewards")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            [f"--selection.reward_models={functions(numbers='length', other='length')}"],
            "knows the reward models numbers, sorter, mirror, general, longer, and selection.reward_models names"
            " numbers, other. Predict with the configuration of its run, which is the config.yaml in the run's folder.",
        ),
        (
            ["--selection.bandit=Thompson"],
            "The checkpoint's bandit is LinUCB, and selection.bandit is Thompson now. Go on with LinUCB, or start a new"
            " run.",
        ),
        (
            ["--data.test=null", "--data.test_fraction=0"],
            "predict has no prompt to answer. Set data.test, or data.test_fraction above 0.",
        ),
        (
            ['--model.matcher={"class_path": "laser_pl.metrics.graded.ByCategory", "init_args": {"graders":'
             ' {"sorting": {"class_path": "laser_pl.metrics.graded.TokenF1"}}}}'],
            "model.matcher has no grader for the category 'addition', only for sorting. Add one under graders, or take"
            " its prompts out.",
        ),
        (
            ["--selection.context.projection=8"],
            "The checkpoint's bandit has contexts of size 65, this policy's have 9. Predict with the policy and the"
            " selection.context of the run.",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_a_sentence(
    run: LaserCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: list[str], message: str
) -> None:
    out = tmp_path / "predictions.jsonl"
    given = [f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}", f"--out={out}"]
    said = refusal(capsys, *given, *setting)
    assert said.endswith(message)
    assert not out.exists()


def test_what_was_predicted_for_prompts_read_otherwise_is_not_taken(
    run: LaserCLI,
    tmp_path: Path,
    plug: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As on another day, where a template writes the date: no setting differs."""
    batches, out = "--data.evaluation_batch_size=4", tmp_path / "out" / "predictions.jsonl"
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        predict(run, out, batches, plug("on_predict_batch_end", 1))
    (part,) = out.parent.iterdir()
    render = Plain.render
    monkeypatch.setattr(Plain, "render", lambda *args: "7 " + render(*args))
    predict(run, out, batches)
    assert set(out.parent.iterdir()) == {out, part}
    assert f"{part} holds predictions of an interrupted command for other settings or prompts" in caplog.text
    predict(run, tmp_path / "whole.jsonl", batches)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
