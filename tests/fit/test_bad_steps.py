"""A loss or gradient that is no finite number trains nothing, teaches nothing, and in the end stops the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from laser_pl.objectives import LossOutputs
from laser_pl.policy.policy import Policy
from laser_pl.run.state import digest
from tests.runs import Fit, decisions_of

Spoil = Callable[..., None]


@pytest.fixture(scope="module")
def size() -> list[str]:
    """Six batches of four prompts."""
    return ["--data.prompts_per_iteration=24", "--checkpoint_every=1", "--trainer.limit_val_batches=0"]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Make steps bad: ``spoil(what, steps)``, where what is ``loss`` or ``gradient``."""
    own_loss = Policy._own_loss

    def arrange(what: str, steps: Sequence[int]) -> None:
        def spoiled(self: Policy, *args: Any, **kwargs: Any) -> tuple[Tensor, LossOutputs, Tensor]:
            loss, losses, margin = own_loss(self, *args, **kwargs)
            if self.trainer.fit_loop.epoch_loop.total_batch_idx in steps:
                if what == "loss":
                    loss = loss * math.inf
                else:  # the root of 0 has an infinite slope
                    loss = loss + torch.sqrt(sum((p * 0.0).sum() for p in self.parameters() if p.requires_grad))
            return loss, losses, margin

        monkeypatch.setattr(Policy, "_own_loss", spoiled)

    return arrange


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_bad_step_is_counted_and_teaches_nobody(fit: Fit, spoil: Spoil, tmp_path: Path, what: str) -> None:
    spoil(what, [2])
    run = fit(tmp_path)
    assert (run.summary["steps_not_finite"], run.summary["steps"]) == (1, 6)
    assert [not decision["reward"] for decision in decisions_of(run)] == [False, False, True, False, False, False]
    bandit = run.selector.bandit.state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in bandit.values() if isinstance(tensor, Tensor))
    adapter = load_file(run.folder.adapter / "adapter_model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in adapter.values())


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_bad_steps_leave_the_policy_and_its_optimizer_as_they_are(
    fit: Fit, spoil: Spoil, tmp_path: Path, what: str
) -> None:
    """A run whose last three steps are bad ends with what it had saved before them."""
    spoil(what, [3, 4, 5])
    bad = fit(tmp_path)
    with pytest.raises(SystemExit):
        fit(tmp_path / "stopped", "--model.max_bad_steps=3")
    before, after = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        for folder in (tmp_path / "stopped" / "runs" / "small", bad.folder.path)
    )
    assert (before["global_step"], after["global_step"]) == (3, 6)
    for part in ("state_dict", "optimizer_states"):
        assert digest(before[part]) == digest(after[part])
    counted = []
    for checkpoint in (before, after):  # who goes on from it goes on counting
        bad.model.on_load_checkpoint(checkpoint)
        counted.append(bad.model.step.bad_in_a_row)
    assert counted == [0, 3]


def test_a_bad_batch_costs_the_others_of_its_step_nothing(fit: Fit, spoil: Spoil, tmp_path: Path) -> None:
    """With accumulated gradients the step is made from those that are finite."""
    spoil("loss", [0, 3])
    run = fit(tmp_path, "--trainer.accumulate_grad_batches=2")
    assert run.summary["steps_not_finite"] == 2
    moments = torch.load(run.folder.checkpoint, weights_only=True)["optimizer_states"][0]["state"]
    assert {float(moment["step"]) for moment in moments.values()} == {3.0}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_too_many_in_a_row_end_the_run_with_a_checkpoint_from_before(
    fit: Fit, spoil: Spoil, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    spoil(what, [1, 3, 4, 5])  # one alone is forgiven
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, "--model.max_bad_steps=2")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert f"laser_pl: 2 steps in a row had a {what} that is no finite number, and trained nothing. Set" in told
    checkpoint = torch.load(tmp_path / "runs/small/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint["state_dict"].values())


LATE = ["--lr_scheduler=torch.optim.lr_scheduler.MultiStepLR", "--lr_scheduler.milestones=[7]",
        "--lr_scheduler.gamma=1e35", "--trainer.max_epochs=2"]  # fmt: skip
"""The second step of the second iteration is one into nowhere; its own loss and gradient are finite."""


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("every", [1, 100])
def test_a_policy_that_is_ruined_is_not_kept_nor_sampled_from(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str], every: int, validated: bool
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tmp_path, *LATE, f"--checkpoint_every={every}", f"--trainer.limit_val_batches={int(validated)}")
    assert end.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "logits are not finite" in told
    assert "Set trainer.gradient_clip_val and go on with --resume from the last checkpoint" in told
    checkpoint = torch.load(tmp_path / "runs/small/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == (7 if every == 1 else 6)
    assert max(float(tensor.abs().max()) for tensor in checkpoint["state_dict"].values()) < 1


def test_who_goes_on_from_before_the_ruin_trains(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruin(self: Policy, *args: Any) -> None:
        if self.trainer.fit_loop.epoch_loop.total_batch_idx >= 7:
            for parameter in self.parameters():
                parameter.data.mul_(1e30 if parameter.requires_grad else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(Policy, "on_train_batch_end", ruin)
        with pytest.raises(SystemExit):
            fit(tmp_path, "--trainer.max_epochs=2")
    run = fit(tmp_path, "--trainer.max_epochs=2", "--resume")
    assert (run.summary["steps"], run.summary["steps_not_finite"]) == (12, 0)
