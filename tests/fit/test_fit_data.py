"""Data as users bring it: templates, columns, lengths, file formats and splits."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from laser_pl.commands.cli import LaserCLI
from tests.runs import Fit

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"


def texts_of(run: LaserCLI) -> set[str]:
    paths = (run.folder.path / "rollouts").rglob("*.parquet")
    return {row["text"] for path in paths for row in pq.read_table(path).to_pylist()}


def rows(count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (WORLD / "prompts" / "train.jsonl").read_text().splitlines()[:count]]


def write_jsonl(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def test_jinja_template_sees_every_column(fit: Fit, tmp_path: Path) -> None:
    content = [{**row, "unit": f"{number}"} for number, row in enumerate(rows(8))]
    train = write_jsonl(tmp_path / "train.jsonl", content)
    few = write_jsonl(tmp_path / "few_units.jsonl", content[:2])
    run = fit(tmp_path, f"--data.train={train}", f"--data.validation={few}", f"--data.test={few}",
              "--data.template=laser_pl.data.templates.Jinja",
              "--data.template.template={{ prompt[:3] }}{{ unit }}{% if category == 'sorting' %},{% endif %}=",
              )  # fmt: skip
    assert texts_of(run) == {
        f"{row['prompt'][:3]}{row['unit']}{',' if row['category'] == 'sorting' else ''}=" for row in content
    }


def test_chat_template_and_messages(
    fit: Fit, tmp_path: Path, policy_folder: Path, classifier_folders: dict[str, Path]
) -> None:
    """Strings become the user's turn, messages are taken as they are, and a system message comes first."""
    tokenizer = AutoTokenizer.from_pretrained(shutil.copytree(policy_folder, tmp_path / "policy"))
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path / "policy")
    content = rows(4)
    last = content[1]["prompt"]
    turns = (("user", "1+2?"), ("assistant", "3"), ("user", last))
    content[1]["prompt"] = [{"role": role, "content": text} for role, text in turns]
    train = write_jsonl(tmp_path / "train.jsonl", content)
    judge = {"weights": {"name": str(classifier_folders["a"])}}
    arms = {"a": {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": judge}}
    run = fit(tmp_path, f"--data.train={train}", f"--model.weights.name={tmp_path / 'policy'}",
              "--data.template=laser_pl.data.templates.Chat", "--data.template.system=Be brief",
              f"--selection.reward_models={json.dumps(arms)}")  # fmt: skip
    expected = {f"<system>Be brief<user>{row['prompt']}<a>" for row in content if isinstance(row["prompt"], str)}
    assert texts_of(run) == expected | {f"<system>Be brief<user>1+2?<assistant>3<user>{last}<a>"}


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_files_of_every_kind_and_columns_of_any_name(fit: Fit, tmp_path: Path, ending: str) -> None:
    content = [{"question": row["prompt"], "solution": row["answer"]} for row in rows(8)]
    path = tmp_path / f"data.{ending}"
    if ending == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["question", "solution"])
            writer.writeheader()
            writer.writerows(content)
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    else:
        write_jsonl(path, content)
    columns = ["--data.columns.prompt=question", "--data.columns.answer=solution", "--data.columns.category=null"]
    sets = [f"--data.{split}={path}" for split in ("train", "validation", "test")]
    run = fit(tmp_path, *columns, *sets)
    assert texts_of(run) == {row["question"] for row in content}
    assert set(run.summary["accuracy"]["after"]) == {"all", "average"}
    assert set(run.summary["arm_share"]) == {"all"}


def test_splits_by_hash_where_no_sets_are_given(fit: Fit, tmp_path: Path) -> None:
    """No prompt is in two, whatever the file's order and the run's seed; another split seed splits otherwise."""
    content = rows(120)
    content += [{**row, "answer": "another"} for row in content[:40]]
    splits = {}
    for name, order, option in (
        ("one", content, "--seed_everything=0"),
        ("reversed", content[::-1], "--seed_everything=1"),
        ("seeded", content, "--data.split_seed=1"),
    ):
        train = write_jsonl(tmp_path / f"{name}.jsonl", order)
        run = fit(tmp_path, f"--data.train={train}", "--data.validation=null", "--data.test=null",
                  option, "--data.validation_fraction=0.2", "--data.test_fraction=0.3",
                  "--data.prompts_per_iteration=4")  # fmt: skip
        splits[name] = {split: {p.text for p in prompts} for split, prompts in run.datamodule.prompts.items()}
        assert sum(len(prompts) for prompts in run.datamodule.prompts.values()) == 160
    assert splits["one"] == splits["reversed"] != splits["seeded"]
    for parts in splits.values():
        assert parts["train"] | parts["validation"] | parts["test"] == {row["prompt"] for row in content}
        assert sum(map(len, parts.values())) == 120
        # Binomial with 120 draws: within four standard deviations of 24 and 36.
        assert abs(len(parts["validation"]) - 24) < 4 * (120 * 0.2 * 0.8) ** 0.5
        assert abs(len(parts["test"]) - 36) < 4 * (120 * 0.3 * 0.7) ** 0.5


def test_answers_that_the_matcher_cannot_read_are_told_before_anything_is_sampled(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = [{**row, "answer": "F" if number % 4 else "B"} for number, row in enumerate(rows(8))]
    train = write_jsonl(tmp_path / "train.jsonl", content)
    fit(
        tmp_path,
        f"--data.train={train}",
        f"--data.validation={train}",
        f"--data.test={train}",
        "--model.matcher=Choice",
    )
    told = [one.message for one in caplog.records if "cannot read" in one.message]
    assert told == [
        f"Choice cannot read 6 of 8 answers to {split} prompts, such as 'F'. No response to those can be right: set"
        " model.matcher, or mend the answers."
        for split in ("train", "validation", "test")
    ]


@pytest.mark.parametrize("overlong", ["drop", "cut"])
def test_overlong_prompts_are_dropped_or_cut(
    fit: Fit, tmp_path: Path, overlong: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = rows(8)
    content[3]["prompt"] = "A 1+ 1+ 1+ 1="
    train = write_jsonl(tmp_path / "train.jsonl", content)
    limit = ["--data.max_prompt_tokens=8", f"--data.overlong={overlong}", "--data.rollouts.max_new_tokens=9"]
    run = fit(tmp_path, f"--data.train={train}", f"--data.test={train}", *limit)
    for split in ("train", "test"):
        assert any(f"{split}: 1 of 8 prompts exceed 8 tokens" in record.message for record in caplog.records)
    assert any("model.evaluation.max_new_tokens = 8 tokens, training after" in one.message for one in caplog.records)
    assert run.summary["prompts_too_long"]["train"] == {"prompts": 8, "too_long": 1}
    assert any("1 of 8 train prompts and 1 of 8 test prompts were too long" in one.message for one in caplog.records)
    shared = f"{7 if overlong == 'drop' else 8} of the {7 if overlong == 'drop' else 8} test prompts stand in train too"
    assert [shared in record.message for record in caplog.records].count(True) == 1
    (batch,) = run.datamodule.test_dataloader()
    assert batch.tokens.shape == ((7 if overlong == "drop" else 8), 8)
    assert len(texts_of(run)) == len(batch)
    tokenizer = run.model.tokenizer
    texts = tokenizer.batch_decode(batch.tokens)
    assert ("1+ 1+ 1=" in texts) == (overlong == "cut")
