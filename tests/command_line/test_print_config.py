"""``--print_config``: a file with comments that says the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from laser_pl.commands.cli import main

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
REMOTE = {"class_path": "laser_pl.rewards.RemoteReward", "init_args": {
    "url": "http://localhost:1/x", "protocol": {"class_path": "laser_pl.rewards.protocols.OpenRLHF"},
    "text": "# no comment: {{ prompt }}\n\n# {{ response }}"}}  # fmt: skip


def printed(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    shown = capsys.readouterr()
    assert (end.value.code, shown.err) == (0, "")
    return shown.out


def layers(*more: str) -> list[str]:
    return ["fit", f"--config={EXPERIMENTS / 'quickstart.yaml'}", *more]


@pytest.mark.parametrize(
    "args",
    [
        layers(),
        layers(f"--config={EXPERIMENTS / 'presets' / 'trusted.yaml'}", "--selection.bandit.alpha=0.7", "--name=a: b #1",
               "--trainer.max_epochs=2", "--optimizer=torch.optim.SGD", "--optimizer.lr=0.1"),
        layers("--selection.bandit=Oracle", '--selection.bandit.right={"addition": "numbers", "#": "yes"}',
               f"--selection.reward_models={json.dumps({'on': REMOTE, '1': REMOTE})}", "--data.template=Jinja",
               "--data.template.template=# {{ prompt }}\n\n  # {{ unit }}\n",
               "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor",
               "--lr_scheduler=torch.optim.lr_scheduler.StepLR",
               "--lr_scheduler.step_size=3"),
    ],
    ids=["one file", "two files and the command line", "texts that look like comments"],
)  # fmt: skip
def test_what_is_printed_is_the_configuration_again(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = printed([*args, "--print_config="], capsys)
    commented = printed([*args, "--print_config"], capsys)
    assert "\n#" not in plain
    assert yaml.safe_load(commented) == yaml.safe_load(plain)
    (tmp_path / "printed.yaml").write_text(commented)
    assert printed(["fit", f"--config={tmp_path / 'printed.yaml'}", "--print_config="], capsys) == plain


def above(key: str, lines: list[str]) -> str:
    """The comment before a line."""
    return lines[lines.index(key) - 1].strip()


def test_every_setting_of_ours_has_a_comment_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(layers("--print_config"), capsys)
    lines = text.splitlines()
    assert lines[0].startswith("# Train, with the test accuracy before and after")
    assert above("model:", lines).startswith("# The policy, a language model that learns")
    assert above("selection:", lines).startswith("# Which reward model judges")
    assert above("  beta: 1.0", lines) == "# DPO's inverse temperature, 1/nats, > 0. (default: 0.1)"
    assert (
        above("  granularity: batch", lines)
        == "# What gets one arm. (batch | category | prompt | rank; default: batch)"
    )
    assert above("      alpha: 1.0", lines).startswith("# How much uncertainty is worth, >= 0, in units of the reward.")
    config: dict[str, Any] = yaml.safe_load(text)
    for section in ("model", "data", "selection"):
        for name in config[section]:
            (at,) = [at for at, line in enumerate(lines) if line.startswith(f"  {name}:")
                     and next(one for one in reversed(lines[:at]) if one[:1].isalpha()) == f"{section}:"]  # fmt: skip
            assert lines[at - 1].startswith("  # "), name
            assert "known subclasses" not in lines[at - 1]


def test_only_what_was_set_is_printed_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(layers("--model.beta=0.5", "--print_config=comments,skip_default"), capsys)
    assert yaml.safe_load(text)["model"]["beta"] == 0.5
    assert "nll_weight" not in text
    assert "DPO's inverse temperature" in text
