"""A supervised start: the adapter learns written responses, and LASeR goes on from it."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.commands.cli import LaserCLI
from laser_pl.errors import ConfigurationError
from laser_pl.logprobs.logprob_model import ResponseBatch
from laser_pl.report.command import main as report
from laser_pl.run.state import digest, metrics_without_clock
from tests.runs import Fit

SUPERVISED = [
    "--model.objective=laser_pl.objectives.Supervised",
    "--data.columns.response={{ answer }}", "--trainer.max_epochs=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Two iterations of five batches of sixteen prompts, with dropout."""
    return [
        "--data.prompts_per_iteration=80", "--data.batch_size=16", "--model.lora.dropout=0.1", "--checkpoint_every=2",
        "--optimizer.lr=0.003", "--model.evaluation.n=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def start(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> LaserCLI:
    return fit(tmp_path_factory.mktemp("start"), *SUPERVISED, evaluated=40)


def left_by(run: LaserCLI) -> dict[str, Any]:
    """What does not depend on the clock."""
    checkpoint = torch.load(run.folder.checkpoint, weights_only=True)
    return {
        "adapter": load_file(run.folder.adapter / "adapter_model.safetensors"),
        "optimizer": checkpoint["optimizer_states"],
        "metrics": metrics_without_clock(run.folder),
        "summary": {k: v for k, v in run.summary.items() if k not in {"seconds", "config"}},
    }


def train_losses(run: LaserCLI) -> list[float]:
    with run.folder.metrics.open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_accuracy_rises(start: LaserCLI) -> None:
    """By more than 4.5 standard errors of the difference of two shares of 160 samples each."""
    before, after = (start.summary["accuracy"][when]["average"] for when in ("before", "after"))
    assert after - before > 4.5 * math.sqrt(before * (1 - before) / 160 + after * (1 - after) / 160)
    assert len(train_losses(start)) == start.summary["steps"] == 10


def test_the_first_loss_is_that_of_the_written_responses_and_their_ends(fit: Fit, tmp_path: Path) -> None:
    """Computed by transformers alone, one response at a time, with neither prompt tokens nor padding in it."""
    run = fit(
        tmp_path, *SUPERVISED, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--model.lora.dropout=0"
    )
    tokenizer = run.model.tokenizer
    base = AutoModelForCausalLM.from_pretrained(run.model.weights.name).eval()
    losses = []
    for prompt in run.datamodule.plan(0)[0]:
        assert prompt.response == prompt.answer
        head = tokenizer(prompt.text)["input_ids"]
        tail = [*tokenizer(prompt.response)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logprobs = base(torch.tensor([head + tail])).logits[0].log_softmax(-1)
        places = range(len(head) - 1, len(head) + len(tail) - 1)
        losses.append(-sum(float(logprobs[i, token]) for i, token in zip(places, tail, strict=True)) / len(tail))
    assert train_losses(run)[0] == pytest.approx(sum(losses) / 16, rel=1e-5)


def test_the_former_setting_trains_the_same_with_a_warning(fit: Fit, tmp_path: Path) -> None:
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_test_batches=0"]
    now = fit(tmp_path / "now", *SUPERVISED, *short)
    with pytest.warns(FutureWarning, match=r"model\.supervised: true is model\.objective: .*Supervised\} now"):
        before = fit(tmp_path / "before", "--model.supervised=true", *SUPERVISED[1:], *short)
    assert train_losses(before) == train_losses(now)
    assert digest(left_by(before)) == digest(left_by(now))


def test_a_small_token_budget_changes_nothing(fit: Fit, tmp_path: Path) -> None:
    """But rounding; without dropout, which draws anew."""
    short = ["--model.lora.dropout=0", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3"]
    runs = [
        fit(tmp_path / budget, *SUPERVISED, *short, f"--model.tokens_per_forward={budget}", evaluated=1)
        for budget in ("4096", "40")
    ]
    assert train_losses(runs[0]) == pytest.approx(train_losses(runs[1]), rel=1e-3)


def test_nothing_is_sampled_for_training_and_nobody_judges(start: LaserCLI) -> None:
    left = {path.name for path in start.folder.path.iterdir()}
    assert left == {"config.yaml", "metrics.csv", "checkpoints", "adapter", "summary.json", "report.html"}
    assert set(start.summary["reward_model_forwards"].values()) == {0}
    assert (start.summary["reward_model_forwards_avoided"], start.summary["arm_share"]) == (0, {})
    assert "RewardSelection" not in torch.load(start.folder.checkpoint)["callbacks"]
    assert report([str(start.folder.path)]).is_file()


@pytest.mark.parametrize(("hook", "after"), [("on_train_batch_end", 3), ("on_train_epoch_start", 1)])
def test_resumed_is_uninterrupted(
    start: LaserCLI, fit: Fit, tmp_path: Path, plug: Callable[..., str], hook: str, after: int
) -> None:
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path, *SUPERVISED, plug(hook, after), evaluated=40)
    resumed = fit(tmp_path, *SUPERVISED, "--resume", evaluated=40)
    assert digest(left_by(resumed)) == digest(left_by(start))


def test_laser_starts_where_it_ended(start: LaserCLI, fit: Fit, tmp_path: Path) -> None:
    run = fit(tmp_path, f"--model.lora.start={start.folder.adapter}", evaluated=40)
    assert run.summary["accuracy"]["before"] == start.summary["accuracy"]["after"]
    begun = load_file(start.folder.adapter / "adapter_model.safetensors")
    ended = load_file(run.folder.adapter / "adapter_model.safetensors")
    assert begun.keys() == ended.keys()
    assert any(not torch.equal(begun[name], ended[name]) for name in begun)

    (batch,) = run.datamodule.test_dataloader()
    one = batch.part([0])
    responses = ResponseBatch(one, torch.tensor([0]), torch.tensor([[5, 6, 1]]), torch.ones(1, 3, dtype=torch.long))
    now = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
    assert run.model.start_logprobs(responses) == pytest.approx(start.model.logprobs(responses), rel=1e-6)
    assert run.model.logprobs(responses) != pytest.approx(run.model.start_logprobs(responses), rel=1e-6)
    assert all(torch.equal(parameter, now[name]) for name, parameter in run.model.named_parameters())


def test_one_that_goes_wrong_late_is_kept(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--lr_scheduler=torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size=1",
             "--lr_scheduler.gamma=1e35", "--model.max_bad_steps=2", "--checkpoint_every=1"]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, *SUPERVISED, *wrong)
    assert end.value.code == 2
    assert "2 steps in a row had a loss that is no finite number" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "runs" / "small" / "checkpoints" / "last.ckpt").is_file()


@pytest.fixture
def adapter(start: LaserCLI, tmp_path: Path) -> Path:
    """A copy of the adapter, to be broken."""
    return Path(shutil.copytree(start.folder.adapter, tmp_path / "adapter"))


def refusal(start: LaserCLI, folder: Path, **changes: Any) -> str:
    """What is said of an adapter in the place of the one that training starts from."""
    lora = replace(start.model.lora, start=str(folder), **changes)
    with pytest.raises(ConfigurationError) as error:
        lora.wrap(start.model.weights.load())
    return str(error.value)


def test_an_adapter_that_is_not_there_ends_a_run_before_it_begins(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, "--model.lora.start=runs/none/adapter")
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "laser_pl: There is no adapter in 'runs/none/adapter': it has no adapter_config.json. Set model.lora.start to a"
        " folder such as runs/<name>/adapter of model.lora's own shape, or to null."
    )
    assert not list((tmp_path / "runs").iterdir())


def test_an_adapter_of_another_shape_or_scale_is_refused(start: LaserCLI, adapter: Path) -> None:
    assert refusal(start, adapter, rank=4) == (
        f"The adapter in '{adapter}' has rank 16, and model.lora.rank is 4. Set model.lora.start to a folder such as"
        " runs/<name>/adapter of model.lora's own shape, or to null."
    )
    assert refusal(start, adapter, alpha=8).startswith(f"The adapter in '{adapter}' has alpha 32, and")
    assert refusal(start, adapter, targets=["q_proj"]).startswith(
        f"'{adapter}' holds another adapter than model.lora describes: "
    )
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": True}))
    assert refusal(start, adapter).startswith(
        f"The adapter in '{adapter}' was made with use_rslora, which model.lora knows nothing of. Set model.lora.start"
    )


def test_an_adapter_that_is_cut_off_or_a_pickle_is_refused(start: LaserCLI, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert refusal(start, adapter).startswith(f"The adapter in '{adapter}' cannot be read (")
    weights.rename(adapter / "adapter_model.bin")
    assert f"'{adapter}': it has no adapter_model.safetensors." in refusal(start, adapter)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--data.columns.response=null"],
            "A supervised policy learns from written responses. Set data.columns.response to their column, or to a"
            " template over several.",
        ),
        (["--data.columns.response=solution"], "has no column 'solution', only prompt, answer, category. Set"),
        (
            ["--data.columns.response={{ '' }}"],
            "row 1: column '{{ '' }}' holds no response to learn from. Take the row",
        ),
        (
            ["--model.objective=laser_pl.objectives.Frozen", "--model.objective.of=laser_pl.objectives.Supervised"],
            "A policy cannot be frozen and supervised: model.objective is Frozen, of Supervised. Set it to one of the",
        ),
    ],
)
def test_what_is_missing_is_said(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, *SUPERVISED, *args)
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def without_eos(folder: Path, policy_folder: Path, configured: int | None) -> Path:
    """A policy whose tokenizer names no EOS."""
    shutil.copytree(policy_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": configured}))
    return folder


def test_a_tokenizer_without_eos_learns_the_end_that_sampling_has(
    fit: Fit, tmp_path: Path, policy_folder: Path
) -> None:
    folder = without_eos(tmp_path / "policy", policy_folder, configured=1)
    run = fit(tmp_path, *SUPERVISED, f"--model.weights.name={folder}", "--trainer.max_epochs=1", "--optimizer.lr=0")
    batch = run.datamodule.loader.batches[0]
    assert batch.responses.finished.all()
    last = batch.responses.tokens.gather(-1, batch.responses.mask.sum(-1, keepdim=True) - 1)
    assert (last == 1).all()


def test_without_any_end_it_is_refused(
    fit: Fit, tmp_path: Path, policy_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_eos(tmp_path / "policy", policy_folder, configured=None)
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, *SUPERVISED, f"--model.weights.name={folder}")
    assert end.value.code == 2
    assert (
        "names a token that ends a response, so a supervised policy could not learn to end." in capsys.readouterr().err
    )
