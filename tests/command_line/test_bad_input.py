"""Bad input, case by case: how it is made, and the whole sentence that the user reads. Nothing is left behind."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.data.rollout_store import RolloutStore
from laser_pl.run.checkpoints import refuse_other_optimizer
from tests.runs import decisions_of

WORLD = Path(__file__).resolve().parents[2] / "experiments" / "quickstart"
POLICY, LONGER = WORLD / "policy", WORLD / "reward_models" / "longer"
CUT_OFF = (
    "incomplete metadata, file not fully covered" if Version(version("safetensors")) >= Version("0.6")
    else "MetadataIncompleteBuffer"
)  # fmt: skip
"""What safetensors says of such a file."""
ROW = {"prompt": "A 12+ 7=", "answer": "19", "category": "addition"}
Make = Callable[[Path], list[str]]
"""Puts files into a folder and gives the arguments that name them."""


@pytest.fixture
def command(fit_command: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    """The quickstart, cut down to one step of four prompts."""
    (tmp_path / "train.jsonl").write_bytes(rows(*({"prompt": f"A 12+ {i}="} for i in range(4))))
    return fit_command(tmp_path, f"--data.train={tmp_path / 'train.jsonl'}")


def told(args: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence, with short names for folders."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    *progress, error = capsys.readouterr().err.splitlines(keepends=True)
    assert all(re.match(r"\[\d:\d\d:\d\d\] ", line) for line in progress)
    assert error.startswith("laser_pl: ")
    assert error.endswith("\n")
    for place, name in ((folder, "<folder>"), (WORLD, "<world>")):
        error = error.replace(str(place), name)
    return error.removeprefix("laser_pl: ").removesuffix("\n")


# -- how it is made ----------------------------------------------------------------------------------------------------


def rows(*changes: dict[str, Any]) -> bytes:
    return "".join(json.dumps({**ROW, **change}) + "\n" for change in changes).encode()


def setting(*args: str) -> Make:
    return lambda folder: list(args)


def data(content: bytes, *args: str, name: str = "data.jsonl") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [f"--data.train={folder / name}", *args]

    return make


def config(content: str | bytes) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "own.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return [f"--config={folder / 'own.yaml'}"]

    return make


def arm(name: str, weights: object, **settings: Any) -> str:
    init_args = {"weights": {"name": str(weights)}, **settings}
    only = {"class_path": f"laser_pl.rewards.{name}", "init_args": init_args}
    return f"--selection.reward_models={json.dumps({'only': only})}"


def policy(change: Callable[[Path], object], *args: str) -> Make:
    """A changed copy of the quickstart's."""

    def make(folder: Path) -> list[str]:
        change(shutil.copytree(POLICY, folder / "model"))
        return [f"--model.weights.name={folder / 'model'}", *args]

    return make


def reward_model(change: Callable[[Path], object], **settings: Any) -> Make:
    def make(folder: Path) -> list[str]:
        change(shutil.copytree(LONGER, folder / "model"))
        return [arm("SequenceClassifier", folder / "model", **settings)]

    return make


def without(**tokens: None) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        for name in tokens:
            setattr(tokenizer, name, None)
        tokenizer.save_pretrained(model)

    return change


def cut_off(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def declared(model_type: str, architecture: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": [architecture]}))

    return change


def halved(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    kept = sorted(tensors)[1::2]
    save_file({name: tensors[name] for name in kept}, model / "model.safetensors", metadata={"format": "pt"})


TWICE = """
selection:
  reward_models:
    judge: {class_path: laser_pl.rewards.Likelihood, init_args: {weights: {name: one}}}
    judge: {class_path: laser_pl.rewards.Likelihood, init_args: {weights: {name: other}}}
"""
MEGABYTE = "A" * 2**20
CASES: dict[str, tuple[Make, str]] = {
    # -- data
    "missing file": (setting("--data.train=none.jsonl"), "There is no file 'none.jsonl'. Check the path under data."),
    "empty file": (data(b""), "'<folder>/data.jsonl' has no rows."),
    "empty table": (data(b"prompt,answer,category\n", name="data.csv"), "'<folder>/data.csv' has no rows."),
    "broken JSON": (
        data(rows({}, {}) + b'{"prompt": "A 1+ 1=" "answer": 2}\n'),
        "<folder>/data.jsonl, line 3: this is no JSON (Expecting ',' delimiter, column 22).",
    ),
    "blank file": (data(b"\n \n"), "'<folder>/data.jsonl' has no rows."),
    "row that is none": (
        data(rows({}) + b'["A 12+ 7="]\n'),
        "<folder>/data.jsonl, line 2: expected an object, got list.",
    ),
    "JSON without end": (
        data(b'{"prompt": ' + b"[" * 100_000),
        "<folder>/data.jsonl, line 1: this JSON is nested too deeply.",
    ),
    "number without end": (
        data(rows({}) + b'{"answer": 1' + b"0" * 5000 + b"}"),
        "<folder>/data.jsonl, line 2: a whole number is too long to be read.",
    ),
    "not UTF-8": (
        data(rows({}, {}) + b'{"prompt": "caf\xe9"}\n'),
        "<folder>/data.jsonl, line 3: this is no UTF-8 (invalid continuation byte).",
    ),
    "missing column": (
        setting("--data.columns.answer=solution"),
        "'<folder>/train.jsonl' has no column 'solution', only prompt, answer, category. Set data.columns.answer to one"
        " of them, or to null.",
    ),
    "column missing in a row": (
        data(rows({}) + b'{"answer": "2"}\n'),
        "<folder>/data.jsonl, row 2: column 'prompt' must be a string or a list of messages, got NoneType.",
    ),
    "column twice": (
        data(b"prompt,prompt,answer,category\na,b,c,d\n", name="data.csv"),
        "<folder>/data.csv, line 1: 2 columns are named 'prompt'. Name each its own way.",
    ),
    "prompt of another type": (
        data(rows({}, {"prompt": 7})),
        "<folder>/data.jsonl, row 2: column 'prompt' must be a string or a list of messages, got int.",
    ),
    "answer of another type": (
        data(rows({}, {"answer": {"is": 7}})),
        "<folder>/data.jsonl, row 2: column 'answer' must be a text or a number, got dict.",
    ),
    "category of another type": (
        data(rows({"category": ["addition"]})),
        "<folder>/data.jsonl, row 1: column 'category' must be a text or a number, got list.",
    ),
    "category that means something else": (
        data(rows({"category": "average"})),
        "<folder>/data.jsonl, row 1: the category 'average' would be taken for the mean of all. Rename it.",
    ),
    "empty prompt": (data(rows({}, {"prompt": " \n"})), "<folder>/data.jsonl, row 2: column 'prompt' is empty."),
    "messages that end with the assistant's turn": (
        data(rows({}, {"prompt": [{"role": "user", "content": "A 1+ 1="}, {"role": "assistant", "content": "2"}]})),
        "<folder>/data.jsonl, row 2: column 'prompt' ends with the assistant's turn, which the policy is to write. Take"
        " the last message out of the rows; a supervised policy learns it from data.columns.response.",
    ),
    "messages of another format": (
        data(rows({"prompt": [{"from": "human", "value": "A 1+ 1="}]})),
        "<folder>/data.jsonl, row 1: column 'prompt', message 1: has no content and no role, only from, value. Rename"
        " its keys.",
    ),
    "half a character": (
        data(rows({"prompt": "A \ud800+ 7="})),
        r"<folder>/data.jsonl, row 1: the prompt holds half a character, '\ud800', which no text in UTF-8 can.",
    ),
    "character the tokenizer lacks": (
        data(rows({"prompt": "A 12+ä7="})),
        "The tokenizer of '<world>/policy' cannot read the prompt 'A 12+ä7=': WordLevel error: Missing [UNK] token from"
        " the vocabulary. Take the prompt out, or another tokenizer.",
    ),
    "only a prompt of 1 MB": (
        data(rows({"prompt": MEGABYTE})),
        "No train prompt is left of 1, with 1 longer than the 56 tokens that the policy can read before max_new_tokens"
        " = 8 more. Give more prompts, or raise the limit.",
    ),
    "all prompts over the limit": (
        setting("--data.max_prompt_tokens=7"),
        "No train prompt is left of 4, with 4 longer than data.max_prompt_tokens = 7. Give more prompts, or raise the"
        " limit.",
    ),
    "all prompts over the context": (
        data(rows(*({"prompt": f"{'A 12+ 7=' * 8}{i}"} for i in range(3)))),
        "No train prompt is left of 3, with 3 longer than the 56 tokens that the policy can read before max_new_tokens"
        " = 8 more. Give more prompts, or raise the limit.",
    ),
    "responses as long as the context": (
        setting("--data.rollouts.max_new_tokens=64"),
        "Responses of max_new_tokens = 64 leave no room for a prompt in the 64 tokens that the policy can read. Lower"
        " it in data.rollouts and model.evaluation.",
    ),
    "everything split off": (
        setting("--data.test=null", "--data.test_fraction=1.0"),
        "test_fraction and validation_fraction must be >= 0 and leave something to train on, got 1.0 and 0.1. Set them"
        " under data.",
    ),
    # -- settings
    "one response": (
        setting("--data.rollouts.n=1"),
        "A pair needs two responses, got n = 1. Set data.rollouts.n to 2 or more.",
    ),
    "unknown arm in Fixed": (
        setting("--selection.bandit=Fixed", "--selection.bandit.arm=nobody"),
        "selection.bandit.arm is 'nobody'; the reward models are numbers, sorter, mirror, general, longer. Name one of"
        " them.",
    ),
    "unknown arm in Oracle": (
        setting("--selection.bandit=Oracle", '--selection.bandit.right={"addition": "nobody"}'),
        "selection.bandit.right names 'nobody' for 'addition'; the reward models are numbers, sorter, mirror, general,"
        " longer. Name one of them.",
    ),
    "two arms of one name": (
        config(TWICE),
        "<folder>/own.yaml, line 5: 'judge' is given twice in one mapping. Give each its own name, or take one out.",
    ),
    "two arms of one name on the command line": (
        setting('--selection.reward_models={"a": {"class_path": "x"}, "a": {"class_path": "y"}}'),
        "--selection.reward_models: 'a' is given twice in one mapping. Give each its own name, or take one out.",
    ),
    "negative alpha": (
        setting("--selection.bandit.alpha=-0.5"),
        "alpha must be >= 0, got -0.5. Set selection.bandit.alpha in the config.",
    ),
    "alpha that is no number": (
        setting("--selection.bandit.alpha=.nan"),
        "alpha must be >= 0, got nan. Set selection.bandit.alpha in the config.",
    ),
    "beta 0": (setting("--model.beta=0"), "beta must be > 0 and finite, got 0.0. Set model.beta in the config."),
    "beta 0 of an objective": (
        setting("--model.objective=Ipo", "--model.objective.beta=0"),
        "laser_pl.objectives.Ipo cannot be made: beta must be > 0 and finite, got 0.0. Set"
        " model.objective.init_args.beta in the config.",
    ),
    "beta without end": (
        setting("--model.beta=.inf"),
        "beta must be > 0 and finite, got inf. Set model.beta in the config.",
    ),
    "nll_weight that is no number": (
        setting("--model.nll_weight=.nan"),
        "nll_weight must be >= 0 and finite, got nan. Set model.nll_weight in the config.",
    ),
    "temperature that is no number": (
        setting("--data.rollouts.temperature=.nan"),
        "temperature must be >= 0 and finite, got nan.",
    ),
    "margin that is no number": (
        setting("--selection.pairs.min_margin=.nan"),
        "min_margin must be >= 0, got nan. Set selection.pairs.min_margin.",
    ),
    "LoRA targets that match nothing": (
        setting("--model.lora.targets=[q_porj]"),
        "model.lora.targets 'q_porj' match no layer of the model. Name its linear layers (here: down_proj, gate_proj,"
        " k_proj, lm_head, o_proj, q_proj, up_proj, v_proj), or set all-linear. Did you mean 'q_proj'?",
    ),
    "LoRA targets of which one matches nothing": (
        setting("--model.lora.targets=[q_proj,v_prj]"),
        "model.lora.targets 'v_prj' match no layer of the model. Name its linear layers (here: down_proj, gate_proj,"
        " k_proj, lm_head, o_proj, q_proj, up_proj, v_proj), or set all-linear. Did you mean 'v_proj'?",
    ),
    "LoRA targets that are no pattern": (
        setting("--model.lora.targets=("),
        "model.lora.targets '(' is no regular expression: missing ), unterminated subpattern at position 0. Give a list"
        " of names, or all-linear.",
    ),
    "negative learning rate": (
        setting("--optimizer.lr=-1"),
        "optimizer: Invalid learning rate: -1.0. Set it in the config.",
    ),
    "negative seed": (
        setting("--seed_everything=-1"),
        "seed_everything must be from 0 to 4294967295, got -1. Set another.",
    ),
    "name that no folder can have": (
        setting("--name=a\0b"),
        r"--name 'a\x00b' is no name of a folder in '<folder>/runs'. Choose another.",
    ),
    # -- configurations
    "config that is no UTF-8": (
        config(b"name: a\nrunsdir: caf\xe9\n"),
        "<folder>/own.yaml, line 2: this is no UTF-8 (invalid continuation byte).",
    ),
    "config that is no YAML": (
        config("model:\n\tbeta: 1.0\n"),
        "<folder>/own.yaml, line 2: this is no YAML (found character that cannot start any token).",
    ),
    "config that ends too soon": (
        config("model: {beta: [1.0\n"),
        "<folder>/own.yaml, line 2: this is no YAML (did not find expected ',' or ']').",
    ),
    "unknown section": (
        config("modle: {beta: 1.0}"),
        "<folder>/own.yaml, line 1: there is no setting 'modle'. Did you mean 'model'?",
    ),
    "config with a zero byte": (
        config("name: a\0b"),
        "<folder>/own.yaml: this is no YAML (unacceptable character #x0000: control characters are not allowed).",
    ),
    "empty config": (config(""), "<folder>/own.yaml holds no settings but None. Write them as name: value."),
    "null for a number": (
        setting("--selection.bandit.alpha=null"),
        "selection.bandit.alpha must be a number, got null.",
    ),
    "null for a section": (
        config("data: {columns: null}"),
        "data.columns must be settings, got null.",
    ),
    "number for a section": (
        config("model: {lora: 16}"),
        "model.lora must be settings, got 16.",
    ),
    "config of words": (
        config("just words"),
        "<folder>/own.yaml holds no settings but 'just words'. Write them as name: value.",
    ),
    # -- models
    "tokenizer without pad": (
        policy(without(pad_token=None)),
        "The tokenizer of '<folder>/model' has no pad token. Set model.pad_token to one of its tokens, for example its"
        " end token '<eos>'.",
    ),
    "tokenizer without chat template": (
        setting("--data.template=laser_pl.data.templates.Chat"),
        "data.template is Chat, but the tokenizer of '<world>/policy' has no chat template. Use"
        " laser_pl.data.templates.Plain or Jinja.",
    ),
    "reward model without chat template": (
        setting(arm("SequenceClassifier", LONGER, chat_template=True)),
        "chat_template is true, but the tokenizer of '<world>/reward_models/longer' has none. Set it to false or null"
        " in the reward model's config.",
    ),
    "reward model that is no classifier": (
        setting(arm("SequenceClassifier", POLICY)),
        "'<world>/policy' is no sequence classifier but LlamaForCausalLM. Use laser_pl.rewards.Likelihood for a"
        " language model, or name a classifier.",
    ),
    "likelihood of a classifier": (
        setting(arm("Likelihood", LONGER)),
        "'<world>/reward_models/longer' is no causal language model but LlamaForSequenceClassification. Name a model"
        " that writes, such as one whose config.json has an architecture that ends in ForCausalLM.",
    ),
    "masked language model as policy": (
        policy(declared("bert", "BertForMaskedLM")),
        "'<folder>/model' is no causal language model but BertForMaskedLM. Name a model that writes, such as one whose"
        " config.json has an architecture that ends in ForCausalLM.",
    ),
    "policy cut off": (
        policy(cut_off),
        "'<folder>/model/model.safetensors' is cut off, or no safetensors file (Error while deserializing header:"
        f" {CUT_OFF}). Get the model again.",
    ),
    "reward model cut off": (
        reward_model(cut_off),
        "'<folder>/model/model.safetensors' is cut off, or no safetensors file (Error while deserializing header:"
        f" {CUT_OFF}). Get the model again.",
    ),
    "policy without half of its weights": (
        policy(halved),
        "The weights of '<folder>/model' do not fit its config.json: 16 tensors are missing or of another shape, the"
        " first is lm_head.weight. Get the model again, or save it with save_pretrained.",
    ),
    "tokenizer that is none": (
        policy(lambda model: (model / "tokenizer.json").write_text("{}")),
        "Cannot load a tokenizer from '<folder>/model': 'added_tokens'.",
    ),
}


@pytest.mark.parametrize(("make", "message"), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_one_sentence(
    command: list[str], make: Make, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told([*command, *make(tmp_path)], tmp_path, capsys) == message
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


# -- a checkpoint that is not this run's -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(fit: Callable[..., LaserCLI], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "train.jsonl").write_bytes(rows(*({"prompt": f"A 12+ {i}="} for i in range(4))))
    return fit(folder, f"--data.train={folder / 'train.jsonl'}").folder.path


@pytest.fixture
def unfinished(finished: Path, command: list[str], tmp_path: Path) -> Path:
    """A copy that was interrupted before it was summed up."""
    run = shutil.copytree(finished, tmp_path / "runs" / "small")
    (run / "summary.json").unlink()
    return run


AGAIN = "Put a sound copy in its place, or delete it: --resume then begins again, with the rollouts that are there."
NAMED = "The checkpoint '<folder>/runs/small/checkpoints/last.ckpt'"
CUT = f"{NAMED} cannot be read: it is cut off, damaged or no checkpoint."
MORE = "--trainer.max_epochs=2"
CHECKPOINTS: dict[str, tuple[Callable[[bytes], bytes], list[str], str]] = {
    "cut in half": (lambda content: content[: len(content) // 2], [], f"{CUT} {AGAIN}"),
    "without its last bytes": (lambda content: content[:-10], [], f"{CUT} {AGAIN}"),
    "empty": (lambda content: b"", [], f"{CUT} {AGAIN}"),
    "of words": (lambda content: b"just words", [], f"{CUT} {AGAIN}"),
    "of another adapter": (
        lambda content: content,
        ["--model.lora.rank=4"],
        "The checkpoint holds another adapter than model.lora describes: 42 tensors differ, the first is"
        " language_model.base_model.model.model.layers.0.mlp.down_proj.lora_A.default.weight (torch.Size([16, 128])"
        " saved, torch.Size([4, 128]) expected).",
    ),
    "of another bandit": (
        lambda content: content,
        ["--selection.bandit=Thompson", MORE],
        "The checkpoint's bandit is LinUCB, and selection.bandit is Thompson now. Go on with LinUCB, or start a"
        " new run.",
    ),
    "of another signal": (
        lambda content: content,
        ["--selection.signal=laser_pl.feedback.signals.Nll", MORE],
        "The checkpoint's signal is Loss, and selection.signal is Nll now. Go on with Loss, or start a new run.",
    ),
}


@pytest.mark.parametrize(("change", "args", "message"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_does_not_fit_leaves_the_run_as_it_is(
    command: list[str],
    unfinished: Path,
    change: Callable[[bytes], bytes],
    args: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = unfinished / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(change(checkpoint.read_bytes()))
    before = {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()}
    assert told([*command, "--resume", *args], tmp_path, capsys) == message
    assert {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()} == before
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small"]


def test_a_deleted_checkpoint_is_made_again(command: list[str], unfinished: Path, finished: Path) -> None:
    """What the message about a damaged one promises."""
    rollouts = {path: path.stat().st_mtime_ns for path in (unfinished / "rollouts").rglob("*.parquet")}
    (unfinished / "checkpoints" / "last.ckpt").unlink()
    main([*command, "--resume"])
    adapters = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (unfinished, finished)]
    assert all(torch.equal(tensor, adapters[1][name]) for name, tensor in adapters[0].items())
    assert {path: path.stat().st_mtime_ns for path in rollouts} == rollouts


def test_a_checkpoint_of_another_optimizer_is_named(
    command: list[str], unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its state would be read as this one's, and fail somewhere in the first step."""
    error = told([*command, "--optimizer=torch.optim.SGD", "--optimizer.lr=1e-3", MORE, "--resume"], tmp_path, capsys)
    assert error == (
        "The checkpoint's optimizer has no dampening, momentum, so it is no SGD. Go on with the optimizer that the run"
        " was started with."
    )


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.AdamW, torch.optim.Rprop])
def test_an_optimizer_takes_its_own_state_for_its_own(kind: Any) -> None:
    """Torch adds a default to those that lack it, whose groups go without."""
    one, other = (kind([torch.nn.Parameter(torch.ones(2))]) for _ in range(2))
    other.load_state_dict(one.state_dict())
    refuse_other_optimizer(other)


@pytest.mark.parametrize("format_", [None, 1])
def test_a_checkpoint_of_an_older_version_is_refused(
    command: list[str], unfinished: Path, format_: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its callbacks have other state; Lightning would end in a KeyError."""
    last = unfinished / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["format"]
    torch.save(checkpoint | ({} if format_ is None else {"format": format_}), last)
    assert "was written by another version of laser_pl" in told([*command, MORE, "--resume"], tmp_path, capsys)


NONE = "'<folder>/own.ckpt' is no checkpoint of a run, since it has no"


@pytest.mark.parametrize(
    ("subcommand", "content", "message"),
    [
        ("fit", {"state_dict": {}, "pytorch-lightning_version": "2"}, f"{NONE} callbacks, epoch, global_step, loops,"),
        ("validate", b"just words", "The checkpoint '<folder>/own.ckpt' cannot be read: it is cut off, damaged or no"),
        ("test", [1, 2], f"{NONE} pytorch-lightning_version, state_dict."),
    ],
    ids=["weights", "words", "list"],
)
def test_a_named_checkpoint_that_is_none(
    command: list[str], subcommand: str, content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    error = told([subcommand, *command[1:], f"--ckpt_path={path}"], tmp_path, capsys)
    assert error.startswith(message)
    assert error.endswith(" Check --ckpt_path.")
    assert not (tmp_path / "runs").exists()


# -- a folder that cannot be written -----------------------------------------------------------------------------------


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["config", "rollouts"])
def test_a_full_disk_leaves_no_new_folder(
    command: list[str], where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "config":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr(RolloutStore, "write", full)
    file = "config.yaml" if where == "config" else ""
    assert told(command, tmp_path, capsys) == (
        f"Cannot write '{Path('<folder>/runs/small', file)}': No space left on device. Make room or set --runs_dir."
    )
    assert not list((tmp_path / "runs").iterdir())


def test_a_file_in_the_way_is_named_and_the_run_goes_on_later(
    command: list[str], unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(unfinished / "checkpoints")
    (unfinished / "checkpoints").write_text("in the way")
    assert told([*command, "--resume"], tmp_path, capsys) == (
        "Cannot write '<folder>/runs/small/checkpoints/last.ckpt': Not a directory. What was saved is intact: make room"
        " and go on with --resume."
    )
    (unfinished / "checkpoints").unlink()
    assert main([*command, "--resume"]).folder.path == unfinished


# -- what is no mistake ------------------------------------------------------------------------------------------------


def rollouts_of(run: LaserCLI) -> list[dict[str, Any]]:
    paths = sorted((run.folder.path / "rollouts").rglob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_more_pairs_than_there_are_gives_all_there_are(command: list[str]) -> None:
    """Six responses make fifteen pairs."""
    pairs = "--selection.pairs=laser_pl.data.pairs.RandomPairs"
    most, all_ = (main([*command, pairs, f"--selection.pairs.per_prompt={count}"]) for count in (10**6, 15))
    assert [d["pairs"] for d in decisions_of(most)] == [d["pairs"] for d in decisions_of(all_)]
    assert 0 < decisions_of(most)[0]["pairs"] <= 4 * 15


TIED = '{"tie": {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "tied_rewards.tie"}}}'


@pytest.mark.parametrize(
    "args",
    [["--data.rollouts.temperature=0"], [f"--selection.reward_models={TIED}"]],
    ids=["equal responses", "tied scores"],
)
def test_nothing_to_prefer_trains_nothing_and_says_so(
    command: list[str],
    args: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tied_rewards.py").write_text("def tie(prompts, completions, **_):\n    return [1.0] * len(prompts)\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = main([*command, *args])
    assert "Steps skipped for want of pairs: 1 of 1" in capsys.readouterr().out
    assert run.summary["accuracy"]["before"] == run.summary["accuracy"]["after"]
    assert not run.summary["labels_missing"]
    assert all(
        not tensor.any()
        for name, tensor in load_file(run.folder.adapter / "adapter_model.safetensors").items()
        if "lora_B" in name
    )


@pytest.mark.parametrize("truncated", ["keep", "drop"])
def test_responses_that_never_end_are_cut_and_count_as_the_setting_says(
    command: list[str], tmp_path: Path, truncated: str
) -> None:
    def never(model: Path) -> None:
        without(eos_token=None)(model)
        for name in ("config.json", "generation_config.json"):
            if (model / name).exists():
                settings = {**json.loads((model / name).read_text()), "eos_token_id": None}
                (model / name).write_text(json.dumps(settings))

    run = main([*command, *policy(never, f"--selection.pairs.truncated={truncated}")(tmp_path)])
    for row in rollouts_of(run):
        assert not any(row["finished"])
        assert {len(tokens) for tokens in row["tokens"]} == {8}
    assert (decisions_of(run)[0]["pairs"] > 0) == (truncated == "keep")


def test_rows_that_repeat_one_another_count_once(
    command: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = main([*command, *data(rows({}, {}, {"prompt": "A 12+ 8="}))(tmp_path)])
    assert f"{tmp_path / 'data.jsonl'}: 1 of 3 rows repeat a prompt with its answer, and count once." in caplog.messages
    assert sorted(row["text"] for row in rollouts_of(run)) == ["A 12+ 7=", "A 12+ 8="]


def test_a_prompt_of_1_mb_is_dropped_and_the_others_are_used(
    command: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = main([*command, *data(rows({"prompt": MEGABYTE}, {}))(tmp_path)])
    assert "train: 1 of 2 prompts exceed 56 tokens and are dropped." in caplog.messages
    assert [row["text"] for row in rollouts_of(run)] == ["A 12+ 7="]
