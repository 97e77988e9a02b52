"""Tiny models with random weights, made once per session, and what tests of whole runs need."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from laser_pl.batches import Prompt, PromptBatch, Responses, RolloutBatch
from laser_pl.commands.cli import LaserCLI, main
from laser_pl.testing.promises import through_checkpoint

torch.set_num_threads(1)
# The same examples in every run, and no clock: a busy machine is no failure.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;?!+-*/=()[]{}|#'\"_\n"


def make_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """One token per character. ``<pad>`` is 0, ``<eos>`` is 1, ``<unk>`` is 2, further special tokens follow."""
    tokens = ["<pad>", "<eos>", "<unk>", *special.values(), *CHARACTERS]
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        **special,
    )


# Weights are larger than usual, so that no distribution is close to uniform.
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "initializer_range": 0.2}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def tiny_llama_config(vocab_size: int, **changes: Any) -> LlamaConfig:
    """Two layers of width 32."""
    return LlamaConfig(vocab_size=vocab_size, **(SHAPE | SPECIAL | changes))


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A character-level tokenizer with PAD and EOS, and neither BOS nor a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Any:
    """A fresh copy of that tokenizer, padding on the left."""
    return AutoTokenizer.from_pretrained(tokenizer_folder, padding_side="left")


@pytest.fixture(scope="session")
def tokenizer_with() -> Callable[..., PreTrainedTokenizerFast]:
    """Make such a tokenizer with more special tokens: ``tokenizer_with(bos_token="<bos>")``."""
    return make_tokenizer


@pytest.fixture(scope="session")
def llama_config() -> Callable[..., LlamaConfig]:
    """Make a tiny Llama's configuration: ``llama_config(vocab_size, **changes)``."""
    return tiny_llama_config


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A tiny causal language model with its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    folder = tmp_path_factory.mktemp("policy")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(tiny_llama_config(len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def classifier_folders(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> dict[str, Path]:
    """Three tiny reward models of different opinions, ``a``, ``b`` and ``c``, with their tokenizers."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    folders = {}
    for seed, name in enumerate("abc", start=1):
        folders[name] = tmp_path_factory.mktemp(f"classifier_{name}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = tiny_llama_config(len(tokenizer), num_labels=1)
            LlamaForSequenceClassification(config).save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


# Four ways to know a token's place and the past: rotary with and without a sliding window, absolute positions, and
# Gemma's scaled embeddings with a mixture of windows. Each: model type and shape.
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SHAPE),
    "qwen2 with sliding window": (
        "qwen2",
        {**SHAPE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "gemma": ("gemma", {**SHAPE, "head_dim": 8}),
    "gemma3 with sliding window": ("gemma3_text", {**SHAPE, "head_dim": 8, "sliding_window": 5}),
}


def make_causal_model(family: str, vocab_size: int, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny language model of a family with random weights, in evaluation mode."""
    model_type, shape = _FAMILIES[family]
    config = AutoConfig.for_model(model_type, **shape, **SPECIAL, vocab_size=vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).to(dtype).eval()


@pytest.fixture(scope="session", params=_FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The name of each family in turn, for ``causal_model``."""
    return str(request.param)


@pytest.fixture(scope="session")
def causal_model() -> Callable[..., Any]:
    """Make a tiny language model: ``causal_model(family, vocab_size, dtype)``."""
    return make_causal_model


def make_rollouts(
    tokens: list[list[list[int]]],
    finished: list[list[bool]] | None = None,
    *,
    ids: list[str] | None = None,
    answers: list[str | None] | None = None,
    texts: list[list[str]] | None = None,
    iteration: int = 0,
) -> RolloutBatch:
    """A batch whose responses are the given token ids, ``B`` lists of ``n`` of any length; 0 pads."""
    size = len(tokens)
    ids = ids or [f"p{row}" for row in range(size)]
    answers = answers or [None] * size
    prompts = tuple(Prompt(id_, id_, id_, answer) for id_, answer in zip(ids, answers, strict=True))
    width = max(len(response) for row in tokens for response in row)
    padded = torch.tensor([[[*r, *[0] * (width - len(r))] for r in row] for row in tokens])
    mask = torch.tensor([[[1] * len(r) + [0] * (width - len(r)) for r in row] for row in tokens])
    done = torch.ones(padded.shape[:2], dtype=torch.bool) if finished is None else torch.tensor(finished)
    ones = torch.ones(size, 1, dtype=torch.long)
    return RolloutBatch(
        prompts=PromptBatch(prompts, ones, ones),
        responses=Responses(padded, mask, done, texts or [[str(r) for r in row] for row in tokens]),
        contexts=torch.zeros(size, 4),
        reference_logprobs=torch.zeros(padded.shape[:2], dtype=torch.float64),
        iteration=iteration,
    )


@pytest.fixture(scope="session")
def rollouts() -> Callable[..., RolloutBatch]:
    """Make a batch from token ids, see ``make_rollouts``."""
    return make_rollouts


@pytest.fixture(scope="session")
def through_disk() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Write a state and read it as Lightning's checkpoints are read: nothing but tensors and builtins."""

    return lambda state: through_checkpoint(state, "it")


@pytest.fixture(scope="session")
def questions() -> list[Prompt]:
    """A short prompt, a longer one and a chat, for reward models to judge ``responses`` to."""
    turns = (("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"))
    chat = [{"role": role, "content": content} for role, content in turns]
    return [
        Prompt("p", "1+1=", "unused"),
        Prompt("q", "a rather long question?", "unused"),
        Prompt("c", chat, "unused"),
    ]


@pytest.fixture(scope="session")
def responses() -> list[list[str]]:
    """Three responses of different lengths to each of ``questions``, one of them empty."""
    return [["2", "", "two, I think"], ["no", "a much longer answer than any of the others", "z"], ["4", "5", "66"]]


# The quickstart in a few seconds: one iteration of four batches.
SMALL = """
name: small
trainer: {max_epochs: 1}
model: {evaluation: {n: 1}}
data: {prompts_per_iteration: 16, batch_size: 4, one_category_per_batch: false, rollouts: {n: 6}}
"""


@pytest.fixture(scope="module")
def size() -> list[str]:
    """What the commands of ``fit_command`` change in ``SMALL``; a module that wants another size defines its own."""
    return []


@pytest.fixture(scope="module")
def fit_command(size: list[str]) -> Callable[..., list[str]]:
    """Make the arguments of a small real run: ``fit_command(folder, *args, evaluated=4)``.

    The quickstart with its own models, cut down to ``SMALL``, then by ``size``, then by ``args``; the last one wins.
    Validated and tested on the first ``evaluated`` test prompts. All it reads and writes lies in ``folder``, which is
    made if it is not there, but for the models and the training prompts; the run's folder is ``folder/runs/small``.
    """

    def command(folder: Path, *args: str, evaluated: int = 4) -> list[str]:
        folder.mkdir(exist_ok=True)
        quickstart = (EXPERIMENTS / "quickstart.yaml").read_text().replace("experiments/", f"{EXPERIMENTS}/")
        (folder / "quickstart.yaml").write_text(quickstart)
        (folder / "small.yaml").write_text(SMALL)
        rows = (EXPERIMENTS / "quickstart" / "prompts" / "test.jsonl").read_text().splitlines()[:evaluated]
        (folder / "few.jsonl").write_text("\n".join(rows))
        few = [f"--data.{split}={folder / 'few.jsonl'}" for split in ("validation", "test")]
        configs = [f"--config={folder / name}" for name in ("quickstart.yaml", "small.yaml")]
        return ["fit", *configs, f"--runs_dir={folder / 'runs'}", *few, *size, *args]

    return command


@pytest.fixture(scope="module")
def fit(fit_command: Callable[..., list[str]]) -> Callable[..., LaserCLI]:
    """Do such a run: ``fit(folder, *args, evaluated=4)``, see ``fit_command``; gives the finished command."""
    return lambda *args, **kwargs: main(fit_command(*args, **kwargs))


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """Playwright brings a browser of its own only if it may download one; the system's is enough."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(f"There is no {', '.join(BROWSERS[:-1])} or {BROWSERS[-1]} on PATH. Install the package 'chromium',"
                    " on Debian by: apt-get install --no-install-recommends chromium", pytrace=False)  # fmt: skip
    return found


@pytest.fixture(scope="session")
def browser_on_path() -> Callable[[], str]:
    """Where the system's browser is; a test fails without one."""
    return find_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless. Its event loop holds the thread until the module is done, so nothing there may need one of its own."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser())
        yield chromium
        chromium.close()


SCRIPTS = (EXPERIMENTS / "benchmarks", Path(__file__).parent / "long")
"""Folders of benchmarks, and of tests that take too long for every day."""


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of ``SCRIPTS`` by its name, as it imports those beside it, and leave nothing behind."""
    before = list(sys.path)
    sys.path[:0] = map(str, SCRIPTS)
    yield importlib.import_module
    sys.path[:] = before
    for script in (path for folder in SCRIPTS for path in folder.glob("*.py")):
        sys.modules.pop(script.stem, None)


@pytest.fixture
def untouched_results() -> Iterator[None]:
    """The pages of results in the repository stay as they are."""
    pages = [folder / "RESULTS.md" for folder in SCRIPTS]
    before = [page.read_bytes() for page in pages]
    yield
    assert [page.read_bytes() for page in pages] == before


PLUG = """
import os, time
from lightning.pytorch import Callback


class Plug(Callback):
    def __init__(self, hook: str, after: int, signum: int, then_sleep: float, process: int):
        self.after, self.signum, self.then_sleep, self.process = after, signum, then_sleep, process
        setattr(self, hook, self.pull)

    def pull(self, trainer, *args, **kwargs):
        self.after -= 1
        if self.after != -1 or trainer.global_rank != self.process:
            return
        if not self.signum:
            raise RuntimeError("the plug was pulled")
        os.kill(os.getpid(), self.signum)
        time.sleep(self.then_sleep)
"""


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make an argument that ends a run early: ``plug(hook, after, signum=0, then_sleep=0.0, process=0)``.

    When the hook is called once more than ``after`` times, it raises or sends its process the signal.
    """
    (tmp_path / "power").mkdir()
    (tmp_path / "power" / "power_plug.py").write_text(PLUG)
    monkeypatch.syspath_prepend(tmp_path / "power")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "power"), prepend=os.pathsep)  # for child processes

    def argument(hook: str, after: int, signum: int = 0, then_sleep: float = 0.0, process: int = 0) -> str:
        settings = {"hook": hook, "after": after, "signum": signum, "then_sleep": then_sleep, "process": process}
        return "--trainer.callbacks+=" + json.dumps({"class_path": "power_plug.Plug", "init_args": settings})

    return argument
