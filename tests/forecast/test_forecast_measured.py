"""What `plan` says, held against what the same `fit` does."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from laser_pl.commands.cli import LaserCLI, main
from laser_pl.forecast.command import plan
from laser_pl.forecast.forecast import Forecast
from laser_pl.forecast.live_bytes import LiveBytes
from laser_pl.policy.policy import Policy
from laser_pl.rewards.local import LocalModel
from laser_pl.selection.selector import Selector

pytestmark = pytest.mark.slow
WITHIN = 0.15
SHAPE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, llama_config: Callable[..., LlamaConfig]
) -> Path:
    """A policy and two reward models of a million parameters, and prompts that are long beside their responses."""
    folder = tmp_path_factory.mktemp("world")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config = llama_config(len(tokenizer), num_labels=1, **SHAPE)
    for seed, name in enumerate(("policy", "a", "b")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = (LlamaForCausalLM if name == "policy" else LlamaForSequenceClassification)(config)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rows = [{"prompt": f"{number}: " + "word " * (6 + number % 5), "answer": "x", "category": f"c{number % 2}"}
            for number in range(32)]  # fmt: skip
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "few.jsonl").write_text("\n".join(map(json.dumps, rows[:8])))
    return folder


@pytest.fixture(scope="module")
def words(world: Path) -> list[str]:
    """The command line of both commands."""

    def weights(name: str, **options: Any) -> dict[str, Any]:
        return {"weights": {"name": str(world / name)}, **options}

    config = {
        "name": "measured",
        "runs_dir": str(world / "runs"),
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "enable_progress_bar": False},
        "model": weights("policy", lora={"targets": "all-linear"}, evaluation={"n": 2, "max_new_tokens": 8}),
        "data": {
            "train": str(world / "train.jsonl"),
            **{split: str(world / "few.jsonl") for split in ("test", "validation")},
            "rollouts": {"n": 6, "max_new_tokens": 8}, "batch_size": 8, "rollout_batch_size": 16,
            "prompts_per_iteration": 24,
        },
        "selection": {
            "reward_models": {
                "a": {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": weights("a")},
                "b": {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": weights("b")},
                "likely": {"class_path": "laser_pl.rewards.Likelihood", "init_args": weights("policy")},
            },
            "constraints": {"allowed": {"reward_model": {
                "class_path": "laser_pl.rewards.MeanEnsemble", "init_args": {"reward_models": {
                    "a": {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": weights("a")},
                    "b": {"class_path": "laser_pl.rewards.SequenceClassifier", "init_args": weights("b")},
                }}}, "threshold": -9.0}},
            "signal": {"class_path": "laser_pl.feedback.signals.Cooling", "init_args": {"share": 0.5}},
        },
    }  # fmt: skip
    (world / "run.yaml").write_text(json.dumps(config))
    return [f"--config={world / 'run.yaml'}"]


@pytest.fixture(scope="module")
def before(words: list[str]) -> Forecast:
    """What is said before the run."""
    return plan(words)


@pytest.fixture(scope="module")
def run(before: Forecast, words: list[str]) -> tuple[LaserCLI, dict[str, int]]:
    """The run, and the bytes of new tensors that were alive at most in each of its phases."""
    peaks: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        for owner, method, phase in (
            (Policy, "_count", "evaluation"),
            (Policy, "roll_out", "rollouts"),
            (Selector, "label", "scoring"),
            (_AutomaticOptimization, "run", "training"),
        ):
            patch.setattr(owner, method, watched(getattr(owner, method), phase, peaks))
        return main(["fit", *words]), peaks


def watched(call: Callable[..., Any], phase: str, peaks: dict[str, int]) -> Callable[..., Any]:
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, Selector):  # loading is no scoring
            for name in self.pool.names:
                self.pool.memory.hold(name, torch.device("cpu"))
        known = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor) and has_storage(found)]
        with LiveBytes(known) as live:
            result = call(self, *args, **kwargs)
        peaks[phase] = max(peaks.get(phase, 0), live.peak)
        return result

    return wrapped


def has_storage(tensor: torch.Tensor) -> bool:
    """Not so where older versions of torch keep an undefined one."""
    try:
        tensor.untyped_storage()
    except NotImplementedError:
        return False
    return True


def bytes_of(tensors: Iterator[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("phase", ["evaluation", "rollouts", "scoring", "training"])
def test_the_peak_of_every_phase_is_told_to_within_15_percent(
    before: Forecast, run: tuple[LaserCLI, dict[str, int]], phase: str
) -> None:
    (device,) = before.devices
    told = {one.name: one.size for one in device.phases}
    assert told[phase] == pytest.approx(run[1][phase], rel=WITHIN)


def test_weights_adapter_and_optimizer_are_told_to_the_byte(
    before: Forecast, run: tuple[LaserCLI, dict[str, int]]
) -> None:
    command, _ = run
    (device,) = before.devices
    model = command.model.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    whole = bytes_of(iter([*model.parameters(), *model.buffers()]))
    assert device.rest["adapter"] == bytes_of(iter(trained))
    assert device.rest["policy"] == whole - bytes_of(iter(trained))
    (optimizer,) = command.trainer.optimizers
    state = [value for own in optimizer.state.values() for value in own.values() if value.dim() > 0]
    assert device.rest["optimizer's state"] == bytes_of(iter(state))
    loaded = [
        inner for name in command.selector.pool.names for inner in _local(command.selector.pool.reward_models[name])
    ]
    assert len(loaded) == 5
    assert device.rest["reward models"] == sum(
        bytes_of(iter([*one.parameters(), *one.buffers()])) for model in loaded for one in model.models
    )
    assert before.models[0].parameters == sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in trained)


def _local(model: Any) -> Iterator[LocalModel]:
    if isinstance(model, LocalModel):
        yield model
    for member in getattr(model, "members", []):
        yield from _local(member)


def test_steps_and_reward_model_forwards_are_told_exactly(
    before: Forecast, run: tuple[LaserCLI, dict[str, int]]
) -> None:
    summary = run[0].summary
    assert before.work is not None and before.forwards is not None  # noqa: PT018
    assert summary["steps_without_pairs"] == 0
    assert (before.work.iterations, before.work.steps) == (summary["iterations"], summary["steps"])
    arms = sum(summary["reward_model_forwards"][name] for name in ("a", "b", "likely"))
    assert before.forwards.judging == (288, 288)  # 2 iterations of 24 prompts with 6 responses
    assert before.forwards.judging[0] + before.forwards.polling == arms
    assert before.forwards.polling > 0
    assert before.forwards.constraints == {"allowed": summary["reward_model_forwards"]["allowed"]}


def test_tokens_and_files_are_bounded(before: Forecast, run: tuple[LaserCLI, dict[str, int]]) -> None:
    """Each kind of file by itself."""
    folder = run[0].folder.path
    rows = [json.loads(line) for line in run[0].folder.pairs.read_text().splitlines()]
    assert before.work is not None
    assert before.work.sampled == len(rows) == 48
    assert before.work.tokens == 48 * 6 * 8
    files = {one.name: one for one in before.files}
    for name, file in files.items():
        written = [path for path in [folder / name, *(folder / name).rglob("*")] if path.is_file()]
        assert file.count >= len(written), name
        if name not in {"adapter/", "checkpoints/last.ckpt"}:  # which are told but for some bytes around the numbers
            assert file.size >= sum(path.stat().st_size for path in written), name
    assert before.written >= sum(path.stat().st_size for path in folder.rglob("*.jsonl"))


@pytest.mark.usefixtures("untouched_results")
def test_the_benchmark_holds_one_against_the_other(
    benchmarks: Callable[[str], ModuleType], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, whose resident set says nothing; but plan and fits are real."""
    script = benchmarks("plan")
    monkeypatch.setattr(script, "in_fresh_process", lambda call, argument: call(argument))
    model = tmp_path / "chatting"
    shutil.copytree(world / "policy", model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(model)
    page = tmp_path / "RESULTS.md"
    small = ["--iterations", "1", "--prompts", "5", "--dtypes", "float32"]
    script.main(["--model", str(model), *small, "--results", str(page)])
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| float32")]
    off = {name: float(percent.removesuffix("%")) for _, name, _, _, percent in rows}
    assert (off["steps"], off["reward-model forwards"]) == (0, 0)
    assert off["tokens (told: at most)"] >= 0
    for phase in script.PHASES:
        assert abs(off[f"tensors in {phase}"]) <= 100 * WITHIN
