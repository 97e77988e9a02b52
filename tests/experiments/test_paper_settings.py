"""The paper's settings with tiny models and a few rows in the place of theirs: template, columns, matcher, selection.

What stands in for a data set has the columns that its page on the hub, or code that reads it, names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.data.pairs import RandomPairs
from laser_pl.feedback.normalizers import PooledQuantiles

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "experiments" / "paper"
ARMS = ("zephyr", "qwen", "eurus", "olmo")
CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def strategyqa(number: int) -> dict[str, Any]:
    """``answer`` is boolean."""
    return {
        "qid": f"q{number}", "term": "Toads", "description": "animal", "question": f"Could {number} toads sing?",
        "answer": number % 2 == 0, "facts": "Toads croak.",
    }  # fmt: skip


def gsm8k(number: int) -> dict[str, Any]:
    """``answer`` is a worked solution."""
    return {
        "question": f"How much is {number}+1,000?",
        "answer": f"It is <<{number}+1000={number}>>{number}.\n#### 1,00{number}",
    }


def mmlu(number: int) -> dict[str, Any]:
    """``answer`` is a place among ``choices``."""
    return {
        "question": f"Which is {number % 4}?", "subject": "", "choices": [f"zero {number}", "one", "two", "three"],
        "answer": number % 4,
    }  # fmt: skip


def wildchat(number: int) -> dict[str, Any]:
    """As the configuration's header has it."""
    categories = ("creative writing", "analysis", "coding", "factual information", "math")
    return {"prompt": [{"role": "user", "content": f"Tell me of {number}"}], "category": categories[number % 5]}


@dataclass
class Task:
    """One of the settings, with what its parts should make of a row."""

    row: Callable[[int], dict[str, Any]]
    instruction: bool = True
    says: Callable[[dict[str, Any]], tuple[str, str]] | None = None  # a right and a wrong response
    read_by_all: tuple[str, ...] = ()


TASKS = {
    "strategyqa": Task(strategyqa, says=lambda row: ("Yes", "no") if row["answer"] else ("No.", "Yes")),
    "gsm8k": Task(gsm8k, says=lambda row: (f"${row['answer'].split()[-1]}.00", "7")),
    "mmlu": Task(
        mmlu,
        says=lambda row: (f"({'ABCD'[row['answer']]})", f"({'BCDA'[row['answer']]})"),
        read_by_all=("(A) zero ", "\n(B) one\n(C) two\n(D) three"),
    ),
    "wildchat": Task(wildchat, instruction=False),
    "gsm8k qwen": Task(gsm8k, says=lambda row: (row["answer"].split()[-1], "7")),
    "gsm8k nf4": Task(gsm8k, says=lambda row: (row["answer"].split()[-1], "7")),
}


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: Path,
    causal_model: Callable[..., Any],
    llama_config: Callable[..., LlamaConfig],
) -> dict[str, Path]:
    """Tiny policies of both families, with a chat template, and four likelihoods of different opinions."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    # Of layers narrower than 64, bitsandbytes' 4-bit kernel for CPUs makes nothing.
    wide = llama_config(len(tokenizer), hidden_size=64, intermediate_size=128)
    folders = {}
    for seed, name in enumerate(("llama", "qwen2", *(f"arm {arm}" for arm in ARMS))):
        folders[name] = tmp_path_factory.mktemp(f"model{seed}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            qwen2 = name == "qwen2"
            model = causal_model("qwen2 with sliding window", len(tokenizer)) if qwen2 else LlamaForCausalLM(wide)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


def stand_ins(folder: Path, models: dict[str, Path], task: Task, config: dict[str, Any], policy: str) -> dict[str, Any]:
    """What is put in the place of models and data; all else stays as it is shipped."""
    splits: dict[str, Any] = {}
    numbers = iter(range(10_000))
    for split in ("train", "validation", "test"):
        source = config["data"].get(split)
        if source is not None:
            path = folder / f"{split}.jsonl"
            count = 60 if split == "train" else 4
            path.write_text("".join(json.dumps(task.row(next(numbers))) + "\n" for _ in range(count)))
            splits[split] = str(path)
    short = {"max_new_tokens": 8}
    arms = {
        name: {
            "class_path": "laser_pl.rewards.Likelihood",
            "init_args": {"weights": {**config["selection"]["reward_models"][name]["init_args"]["weights"],
                                      "name": str(models[f"arm {name}"])}},
        }
        for name in ARMS
    }  # fmt: skip
    return {
        "runs_dir": str(folder / "runs"),
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2},
        "model": {"weights": {"name": str(models[policy])}, "pad_token": None, "evaluation": {"n": 1, **short}},
        "data": {**splits, "rollouts": {"n": 6, **short}, "batch_size": 5, "evaluation_batch_size": 8},
        "selection": {"reward_models": arms},
    }


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", TASKS)
def test_the_parts_of_a_setting_fit(
    name: str,
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    task, (setting, *overlays) = TASKS[name], name.split()
    configs = [f"--config={PAPER / part}.yaml" for part in ("common", "../presets/paper", setting, *overlays)]
    with pytest.raises(SystemExit):
        main(["fit", *configs, "--print_config"])
    shipped = yaml.safe_load(capsys.readouterr().out)
    policy = "qwen2" if "qwen" in overlays else "llama"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(stand_ins(tmp_path, models, task, shipped, policy)))
    run = main(["fit", *configs, f"--config={tmp_path / 'tiny.yaml'}"])

    assert run.summary["steps"] == 2
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    assert [decision["arm"] in ARMS for decision in decisions] == [True, True]
    assert all(set(decision["mean"]) == set(ARMS) and decision["pairs"] > 0 for decision in decisions)
    assert run.summary["steps_not_finite"] == 0
    assert_published(run)
    weights = [run.model.weights, *(model.weights for model in run.selector.pool.reward_models.values())]
    assert {one.quantization for one in weights} == {"nf4" if "nf4" in overlays else None}
    prompts = run.datamodule.prompts
    seen = [{prompt.text for prompt in prompts[split]} for split in ("train", "validation", "test")]
    assert all(seen)
    assert seen[0].isdisjoint(seen[1] | seen[2])
    assert seen[1].isdisjoint(seen[2])
    for prompt in [prompt for split in prompts.values() for prompt in split]:
        if task.instruction:
            assert prompt.text.startswith(
                "Your task is to answer the question below. Give step-by-step reasoning before"
            )
            assert prompt.text.endswith(f"Question: {prompt.prompt}\nSolution:")
        else:
            assert prompt.text == f"[user]{prompt.prompt[0]['content']}\n[assistant]"
        assert all(part in prompt.prompt for part in task.read_by_all)
        assert "####" not in prompt.text
    if task.says is None:
        assert run.summary["accuracy"] == {"before": {}, "after": {}}
        categories = {wildchat(number)["category"] for number in range(5)}
        assert {decision["category"] for decision in decisions} <= categories  # a mixed batch has none
        assert {prompt.category for prompt in prompts["train"]} == categories
    else:
        assert set(run.summary["accuracy"]["after"]) == {"all", "average"}
        for prompt in prompts["test"]:
            columns = {"question": prompt.prompt, **prompt.columns}
            right, wrong = task.says(columns)
            assert prompt.answer is not None
            assert run.model.matcher.matches(f"Since 1 or A or yes. Final answer: {right}", prompt.answer)
            assert not run.model.matcher.matches(f"Since 1 or A or yes. Final answer: {wrong}", prompt.answer)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("gsm8k", " It is {number}.\nFinal answer: 1,00{number}"),
        ("strategyqa", " Toads croak.\nFinal answer: {yes}"),
        ("mmlu", " Final answer: ({letter})"),
    ],
)
def test_the_supervised_start_learns_the_answers_and_laser_goes_on_from_it(
    name: str,
    written: str,
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    configs = [f"--config={PAPER / part}.yaml" for part in ("common", name)]
    with pytest.raises(SystemExit):
        main(["fit", *configs, "--print_config"])
    shipped = yaml.safe_load(capsys.readouterr().out)
    tiny = f"--config={tmp_path / 'tiny.yaml'}"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(stand_ins(tmp_path, models, TASKS[name], shipped, "llama")))
    start = main(["fit", *configs, f"--config={PAPER / 'supervised.yaml'}", tiny])

    assert start.summary["steps"] == 2
    assert set(start.summary["reward_model_forwards"].values()) == {0}
    assert not start.folder.selection.exists()
    texts = {}
    for prompt in start.datamodule.prompts["train"]:
        assert prompt.response is not None
        assert start.model.matcher.is_right(prompt.response, prompt)
        assert prompt.text.endswith("Solution:")
        texts[prompt.prompt] = prompt.response
    number = next(iter(texts)).split(" toads")[0].split("+")[0].split("(")[0].split()[-1].rstrip("?")
    values = {"number": number, "yes": "No" if int(number) % 2 else "Yes", "letter": "ABCD"[int(number) % 4]}
    assert next(iter(texts.values())) == written.format(**values)
    assert all(prompt.response is None for prompt in start.datamodule.prompts["test"])

    begin = f"--model.lora.start={start.folder.adapter}"
    preset = f"--config={PAPER.parent / 'presets' / 'paper.yaml'}"
    laser = main(["fit", configs[0], preset, configs[1], tiny, begin, "--trainer.limit_train_batches=1"])
    assert laser.summary["accuracy"]["before"] == start.summary["accuracy"]["after"]
    ours, theirs = ([(p.text, p.answer) for p in run.datamodule.prompts["train"]] for run in (laser, start))
    assert ours == theirs
    assert laser.folder.path != start.folder.path


def assert_published(run: LaserCLI) -> None:
    """The constants that the paper gives, but for those that the stand-ins make smaller."""
    lora, selection = run.model.lora, run.selector
    assert (lora.rank, lora.alpha, lora.dropout, list(lora.targets)) == (16, 32, 0.1, ["q_proj", "v_proj"])
    assert run.trainer.optimizers[0].defaults["lr"] == 5e-6
    assert run.datamodule.rollouts.temperature == 0.8
    assert isinstance(selection.pairs, RandomPairs)
    assert selection.pairs.per_prompt == 10
    assert selection.bandit.alpha == 0.1  # type: ignore[attr-defined]
    assert isinstance(selection.normalizer, PooledQuantiles)
    common = yaml.safe_load((PAPER / "common.yaml").read_text(encoding="utf-8"))
    assert (common["trainer"]["max_epochs"], common["data"]["rollouts"]["n"], common["data"]["batch_size"]) == (
        10,
        30,
        16,
    )
    assert list(common["selection"]["reward_models"]) == list(ARMS)


LONGBENCH = {
    "narrativeqa": {}, "qasper": {}, "multifieldqa_en": {}, "hotpotqa": {}, "2wikimqa": {}, "musique": {},
    "gov_report": {"input": ""}, "qmsum": {}, "multi_news": {"input": ""}, "triviaqa": {}, "samsum": {},
    "trec": {"answers": ["Animal"], "all_classes": ["Animal", "City"]},
}  # fmt: skip
"""The English tasks that the paper's kinds have, and what is special in their rows."""


def longbench(folder: Path) -> dict[str, Path]:
    """LongBench's files as its README describes them, made into prompts by the script that a user runs."""
    folder.mkdir()
    for name, special in LONGBENCH.items():
        rows = [
            {"input": f"What is {number}?", "context": f"{name} says: {number} {{is}} it.", "answers": ["it", "that"],
             "length": 5, "dataset": name, "language": "en", "all_classes": None, "_id": str(number), **special}
            for number in range(12)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    instructions = {name: f"Read {{context}}\nThen answer: {{input}}\n{name}:" for name in LONGBENCH}
    (folder / "dataset2prompt.json").write_text(json.dumps(instructions))
    script = [sys.executable, str(PAPER / "longbench.py"), str(folder), str(folder / "dataset2prompt.json")]
    subprocess.run([*script, str(folder / "made")], check=True)
    return {path.stem: path for path in (folder / "made").iterdir()}


def test_longbench_fits_without_training_and_predicts(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    made = longbench(tmp_path / "longbench")
    assert set(made) == {"single_doc_qa", "multi_doc_qa", "summarization", "few_shot"}
    (tmp_path / "all.jsonl").write_text("".join(path.read_text() for path in made.values()))
    configs = [f"--config={PAPER / part}.yaml" for part in ("common", "../presets/paper", "longbench")]
    with pytest.raises(SystemExit):
        main(["fit", *configs, "--print_config"])
    shipped = yaml.safe_load(capsys.readouterr().out)
    tiny = stand_ins(tmp_path, models, Task(gsm8k), shipped, "llama")
    tiny["data"] |= {"train": str(tmp_path / "all.jsonl"), "max_prompt_tokens": 40}  # so that the middle is cut
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    run = main(["fit", *configs, f"--config={tmp_path / 'tiny.yaml'}"])

    assert run.summary["steps"] == 2
    adapter = torch.load(run.folder.checkpoint)["state_dict"]
    assert all(bool((tensor == 0).all()) for name, tensor in adapter.items() if "lora_B" in name)
    decisions = [json.loads(line) for line in run.folder.selection.read_text().splitlines()]
    assert len(decisions) == 10  # of five prompts each
    learned = [decision for decision in decisions if decision["observed"]]
    assert learned
    assert all(decision["observed"] == {decision["arm"]: -decision["nll"]} for decision in learned)
    assert run.datamodule.prompts["validation"] == []
    halves = [{prompt.text for prompt in run.datamodule.prompts[split]} for split in ("train", "test")]
    assert halves[0].isdisjoint(halves[1])
    assert len(halves[0] | halves[1]) == 12 * len(LONGBENCH)

    predicted = main(["predict", f"--config={run.folder.config}", f"--ckpt_path={run.folder.checkpoint}"])
    lines = [json.loads(line) for line in (run.folder.path / "predictions.jsonl").read_text().splitlines()]
    assert {line["prompt_id"] for line in lines} == {prompt.id for prompt in run.datamodule.prompts["test"]}
    metrics = {line["category"]: line["metric"] for line in lines}
    rouge = {"gov_report", "qmsum", "multi_news", "samsum"}
    assert metrics == {
        name: "RougeL" if name in rouge else "Classification" if name == "trec" else "TokenF1" for name in LONGBENCH
    }
    assert list(predicted.summary["categories"]) == sorted(LONGBENCH)
    grader = run.model.matcher
    for prompt in run.datamodule.prompts["test"]:
        right = "Animal" if prompt.category == "trec" else "that"
        assert prompt.text == prompt.prompt
        assert f"{prompt.category} says: " in prompt.text
        assert "{is} it.\nThen answer: " in prompt.text
        assert grader.grade(right, prompt) == pytest.approx(1)  # the second of two answers
        assert grader.grade("wrong", prompt) == 0
        goes_on = grader.grade(f"\n{right}\nand another", prompt)
        assert (goes_on == pytest.approx(1)) == (prompt.category in {"trec", "triviaqa", "samsum"})


def test_longbench_says_which_file_is_missing(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, str(PAPER / "longbench.py"), str(tmp_path), str(tmp_path / "dataset2prompt.json")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 1
    assert made.stderr == (
        f"There is no file {tmp_path}/dataset2prompt.json. Unzip LongBench's data.zip; name its folder and its"
        " instructions.\n"
    )
