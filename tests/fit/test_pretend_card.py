"""A whole run on a card that is none, where tensors of two devices do not mix; in a process of its own, for torch keeps
what kinds of devices it knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MIXES = """
import pytest, torch
from pretend_card import pretend_card
with pretend_card() as card:
    there, here = torch.ones(3, 4, device=card), torch.ones(3, 4)
    first = torch.zeros(1, dtype=torch.long, device=card)
    for mixed in (lambda: there + here, lambda: here[first], lambda: there @ here.T):
        with pytest.raises(RuntimeError, match="all tensors on one device, got .* on the card"):
            mixed()
    assert (there + here.to(card)).device == card
    assert there[torch.tensor([0, 2])].sum().tolist() == 8
    assert (there * torch.tensor(2.0)).cpu().sum() == 24
"""
RUN = """
import sys
from laser_pl.commands.cli import main
from laser_pl.policy.policy import Policy
from pretend_card import pretend_card
seen, step = [], Policy.training_step
Policy.training_step = lambda self, *rest: seen.append(self.device.type) or step(self, *rest)
with pretend_card():
    run = main(sys.argv[1:])
assert set(seen) == {"pretend"}, seen
assert run.summary["steps"] == len(seen) == 2
assert run.selector.pool.forwards["likelihood"] > 0
"""


def run(script: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_lies_on_two_devices_does_not_mix() -> None:
    run(MIXES)


def test_nothing_in_a_run_mixes_devices(tmp_path: Path) -> None:
    """Rollouts, two kinds of reward model, one decision per prompt, a signal that reads again, dropout, validation."""
    quickstart = ROOT / "experiments" / "quickstart"
    config = (ROOT / "experiments" / "quickstart.yaml").read_text().replace("experiments/", f"{ROOT}/experiments/")
    (tmp_path / "quickstart.yaml").write_text(config)
    questions = (quickstart / "prompts" / "test.jsonl").read_text().splitlines()[:4]
    (tmp_path / "few.jsonl").write_text("\n".join(questions))
    likelihood = {
        "class_path": "laser_pl.rewards.Likelihood", "init_args": {"weights": {"name": str(quickstart / "policy")}},
    }  # fmt: skip
    (tmp_path / "more.yaml").write_text(json.dumps({"selection": {"reward_models": {"likelihood": likelihood}}}))
    few = [f"--data.{split}={tmp_path / 'few.jsonl'}" for split in ("validation", "test")]
    run(
        RUN, "fit", f"--config={tmp_path / 'quickstart.yaml'}", f"--config={tmp_path / 'more.yaml'}", *few,
        f"--runs_dir={tmp_path / 'runs'}", "--trainer.max_epochs=1", "--data.prompts_per_iteration=16",
        "--data.batch_size=8", "--selection.granularity=prompt", "--selection.bandit=laser_pl.bandits.RoundRobin",
        "--selection.signal=laser_pl.feedback.signals.Advantage", "--selection.agreement_probe=2",
        "--model.lora.dropout=0.1", "--data.rollouts.top_p=0.9", "--data.one_category_per_batch=false",
    )  # fmt: skip
