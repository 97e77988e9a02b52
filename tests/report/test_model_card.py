"""An adapter's card: what the hub reads of it, and that nothing of a run's records becomes markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from laser_pl.report.model_card import model_card
from laser_pl.report.records import read_records


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run's folder, as far as it is looked at."""
    folder = tmp_path / "my run"
    folder.mkdir()
    judge = {"class_path": "m.Classifier", "init_args": {"weights": {"name": "o/rm"}}}
    config: dict[str, Any] = {
        "seed_everything": 3,
        "trainer": {"logger": {"init_args": {"entity": "our-secret-project"}}},
        "model": {"weights": {"name": "owner/base"}, "lora": {"rank": 4, "targets": ["q_proj", "v_proj"]}},
        "data": {"train": {"path": "t.jsonl", "split": None}, "test": None, "batch_size": 4, "rollouts": {"n": 3}},
        "selection": {
            "reward_models": {"a|[x](http://evil)": judge},
            "bandit": {"class_path": "laser_pl.bandits.LinUCB", "init_args": {"alpha": 0.7}},
            "pairs": {"class_path": "laser_pl.data.pairs.BestWorst"},
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    after = {"<b>sums</b>": 0.75, "average": 0.75}
    summary = {
        "accuracy": {"before": {"<b>sums</b>": 0.5, "average": 0.5}, "after": after}, "iterations": 2, "steps": 8,
        "arm_share": {"<b>sums</b>": {"a|[x](http://evil)": 1.0}}, "seconds": {"total": 9.0},
        "reward_model_forwards": {"a": 3}, "versions": {"laser_pl": "0.1", "peft": "0.18"},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_a_card_holds_no_markup_but_its_own_and_not_where_it_was_logged(run: Path) -> None:
    card = model_card(read_records(run))
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head) == {
        "base_model": "owner/base", "library_name": "peft", "pipeline_tag": "text-generation",
        "tags": ["dpo", "laser_pl", "lora", "reward-model-selection"],
        "model-index": [{"name": "my run", "results": [{
            "task": {"type": "text-generation"},
            "dataset": {"name": "a part of the training data", "type": "file", **config},
            "metrics": [{"type": "accuracy", "name": "accuracy of sampled responses", "value": value}],
        } for config, value in (({"config": "&lt;b&gt;sums&lt;/b&gt;"}, 0.75), ({}, 0.75))]}],
    }  # fmt: skip
    shown, _, configured = text.partition("## Configuration")
    for expected in (
        "# my run", "| &lt;b&gt;sums&lt;/b&gt; | 0.500 | 0.750 |", "a\\|\\[x\\](http&#58;//evil)",
        "| &lt;b&gt;sums&lt;/b&gt; | 100% |", "| peft | 0.18 |", 'base = "owner/base"',
    ):  # fmt: skip
        assert expected in shown
    assert "trained for 2 iterations" in configured
    assert "<b>" not in shown
    assert "[x](" not in shown
    assert "```yaml\nseed_everything: 3\nmodel:" in configured
    assert "our-secret-project" not in card
    assert "arXiv:2410.01735" in configured


def test_no_text_of_a_configuration_ends_its_block(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["template"] = {"class_path": "x.Plain", "init_args": {"after": "```\n# No heading\n\x1b[31m"}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    block = model_card(read_records(run)).partition("steps, with:\n\n")[2].partition("## Citation")[0]
    lines = block.strip().splitlines()
    assert (lines[0], lines[-1]) == ("````yaml", "````")
    assert yaml.safe_load("\n".join(lines[1:-1]))["seed_everything"] == 3
    assert "\x1b" not in block


def test_a_base_that_lies_on_a_disk_is_no_name_of_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "base").mkdir(parents=True)
    card = model_card(read_records(run))
    assert "base_model" not in card.partition("\n---\n")[0]
    assert "A LoRA adapter for owner/base (a folder of whoever trained it)" in card


@pytest.mark.parametrize(
    ("objective", "told"), [(None, "iterative DPO"), ("Dpo", "iterative DPO"), ("Grpo", "the objective Grpo")]
)
def test_a_card_says_by_what_the_policy_was_trained(run: Path, objective: str | None, told: str) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    if objective is not None:
        config["model"]["objective"] = {"class_path": f"laser_pl.objectives.{objective}"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert f"It was trained by {told}: LinUCB chose which of 1 reward models" in model_card(read_records(run))
