"""`python -m laser_pl plan`: what it says, what it finds, and that it touches nothing."""

from __future__ import annotations

import io
import json
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from laser_pl import __main__
from laser_pl.bandits import LinUCB
from laser_pl.bandits.context import ContextPreparation
from laser_pl.commands.cli import main as fit_main
from laser_pl.data.pairs import BestWorst, RandomPairs, TopBottom
from laser_pl.forecast.command import main, plan
from laser_pl.forecast.files import at_most_kept
from laser_pl.forecast.findings import Finding
from laser_pl.forecast.forecast import Forecast
from laser_pl.forecast.hub import is_reachable, may_be_on_hub
from laser_pl.forecast.learned import bandit_state
from laser_pl.forecast.live_bytes import LiveBytes
from laser_pl.forecast.models import adapted
from laser_pl.forecast.paper import Paper
from laser_pl.forecast.peaks import Question, largest_micro_batch, reading
from laser_pl.generation import RolloutEngine
from laser_pl.models.language_model import Lora, Weights

Classifier = "laser_pl.rewards.SequenceClassifier"


@pytest.fixture
def config(tmp_path: Path, policy_folder: Path, classifier_folders: dict[str, Path]) -> dict[str, Any]:
    """A tiny run that nothing is wrong with."""
    rows = [{"prompt": f"{number}+{number}=", "answer": str(2 * number), "category": f"c{number % 2}"}
            for number in range(12)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {
        "runs_dir": str(tmp_path / "runs"),
        "trainer": {"accelerator": "cpu", "max_epochs": 3, "logger": True},
        "model": {"weights": {"name": str(policy_folder)}, "evaluation": {"n": 1, "max_new_tokens": 4}},
        "data": {
            **{split: str(tmp_path / "rows.jsonl") for split in ("train", "validation", "test")},
            "rollouts": {"n": 4, "max_new_tokens": 4},
            "batch_size": 4,
        },
        "selection": {
            "reward_models": {
                name: {"class_path": Classifier, "init_args": {"weights": {"name": str(classifier_folders[name])}}}
                for name in ("a", "b")
            },
        },
    }


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., Forecast]:
    """What is said of a configuration; nothing is written meanwhile."""

    def tell(config: dict[str, Any], *args: str) -> Forecast:
        (tmp_path / "run.yaml").write_text(json.dumps(config))
        files = set(tmp_path.rglob("*"))
        found = plan(["--config", str(tmp_path / "run.yaml"), *args], Console(file=io.StringIO()))
        assert set(tmp_path.rglob("*")) == files
        return found

    return tell


@pytest.fixture
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of everything else does not wait for steps on paper."""
    monkeypatch.setattr("laser_pl.forecast.forecast.phases", lambda *_: [])


def sentences(found: Forecast, stops: bool) -> str:
    return " ".join(finding.text for finding in found.findings if finding.stops == stops)


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_wrong(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    found = told(config)
    assert found.findings == ()
    assert found.work is not None
    assert (found.work.iterations, found.work.steps, found.work.tokens) == (3, 9, 3 * 12 * 4 * 4)


@pytest.mark.usefixtures("without_memory")
def test_a_reward_model_larger_than_the_budget(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    config["selection"]["memory_budget"] = "1KiB"
    found = told(config)
    assert found.stops
    for name in ("a", "b"):
        assert f"The reward model '{name}' has" in sentences(found, stops=True)
    assert "more than selection.memory_budget = 1 KiB" in sentences(found, stops=True)


@pytest.mark.usefixtures("without_memory")
def test_processes_that_share_weights_out_hold_a_piece_and_what_is_gathered(
    config: dict[str, Any], told: Callable[..., Forecast], policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.7.0")  # an older one shares nothing out; nor does a sum on paper
    (alone,) = told(config).devices
    strategy = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}
    config["trainer"] |= {"devices": 4, "strategy": {**strategy, "init_args": {"tensor_parallel_size": 1}}}
    (each,) = told(config).devices
    for name in ("policy", "adapter", "optimizer's state"):
        whole = alone.rest[name]
        assert whole
        assert each.rest[f"piece of {name}"] == -(-whole // 4)
    assert each.rest["reward models"] == alone.rest["reward models"]
    # All weights, since there are two layers: everything but rotary frequencies. And what comes, before it is tensors.
    frequencies = 2 * 4 * (32 // 4 // 2)  # kept twice in float32, for every two dimensions of a head
    vocabulary = json.loads((policy_folder / "config.json").read_text())["vocab_size"]
    in_no_layer = 4 * 32 * (2 * vocabulary + 1)  # embeddings, head and a norm
    every = alone.rest["policy"] + alone.rest["adapter"] - frequencies
    layer = (every - in_no_layer) // 2
    assert each.rest["weights gathered while they compute"] == every + max(in_no_layer, layer)


@pytest.mark.usefixtures("without_memory")
def test_a_decision_for_each_category_of_which_there_is_one(
    config: dict[str, Any], told: Callable[..., Forecast]
) -> None:
    config["selection"]["granularity"] = "category"
    assert told(config).findings == ()
    config["data"]["columns"] = {"category": None}
    found = told(config)
    assert not found.stops
    assert "selection.granularity is category, but data.columns.category is null" in sentences(found, stops=False)


@pytest.mark.usefixtures("without_memory")
def test_a_column_that_is_not_there(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    config["selection"]["granularity"] = "category"
    config["data"]["columns"] = {"category": "kind"}
    found = told(config)
    assert "has no column 'kind', only prompt, answer, category" in sentences(found, stops=True)
    assert found.work is None
    assert found.models[0].parameters  # what can be told is told


@pytest.mark.usefixtures("without_memory")
def test_responses_that_are_longer_than_the_policy_can_read(
    config: dict[str, Any], told: Callable[..., Forecast]
) -> None:
    config["data"]["rollouts"]["max_new_tokens"] = 512
    assert "leave no room for a prompt in the 512 tokens" in sentences(told(config), stops=True)


@pytest.mark.usefixtures("without_memory")
def test_small_things_that_only_look_wrong(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    config["data"] |= {"batch_size": 16, "prompts_per_iteration": 100, "columns": {"answer": None}}
    config["model"]["weights"]["quantization"] = "int8"
    config["selection"]["signal"] = {"class_path": "laser_pl.feedback.signals.Trusted"}
    config["selection"]["reward_models"]["a"]["init_args"]["max_length"] = 4
    found = told(config)
    assert not found.stops
    for said in (
        "data.batch_size is 16, but an iteration has 12 prompts",
        "data.prompts_per_iteration is 100, but there are 12",
        "selection.signal is Trusted, which needs answers",
        "The weights of the policy are quantised (int8), which saves memory and is slow without a GPU",
        "The reward model 'a' reads 4 tokens at most, and prompt and response can have",
        "No test prompt has an answer",
    ):
        assert said in sentences(found, stops=False)


@pytest.mark.usefixtures("without_memory")
def test_a_category_without_a_reward_model(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    arms = config["selection"]["reward_models"]
    config["selection"]["reward_models"] = {
        "routed": {"class_path": "laser_pl.rewards.ByCategory", "init_args": {"reward_models": {"c0": arms["a"]}}}
    }
    found = told(config)
    assert "ByCategory has no reward model for the category 'c1', only for c0" in sentences(found, stops=True)
    assert [model.name for model in found.models] == ["policy", "adapter", "routed/c0"]


def test_layers_that_the_policy_has_not(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    config["model"]["lora"] = {"targets": ["no_such"]}
    found = told(config)
    assert "model.lora.targets 'no_such' match no layer of the model" in sentences(found, stops=True)
    assert found.work is not None
    assert found.devices == ()


def test_an_accelerator_that_is_not_here(config: dict[str, Any], told: Callable[..., Forecast]) -> None:
    if torch.cuda.is_available():
        config["trainer"]["accelerator"] = "tpu"
    else:
        config["trainer"]["accelerator"] = "gpu"
    found = told(config)
    assert "What follows is computed as if for a CPU." in sentences(found, stops=True)
    assert [device.name for device in found.devices] == ["CPU"]


def test_more_memory_and_disk_than_there_is(
    config: dict[str, Any], told: Callable[..., Forecast], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laser_pl.forecast.memory.free_on_host", lambda: 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    found = sentences(told(config), stops=False)
    assert "is more than the 1 MiB that are free now" in found
    assert "and 1 B are free where runs_dir lies" in found


# -- reward models of every kind ---------------------------------------------------------------------------------------


def test_reward_models_of_every_kind_are_told(
    config: dict[str, Any],
    told: Callable[..., Forecast],
    policy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = "def short(prompts, completions, **_):\n    return [-len(text) for text in completions]\n"
    (tmp_path / "short_rewards.py").write_text(short)
    monkeypatch.syspath_prepend(tmp_path)
    arms = config["selection"]["reward_models"]
    policy = {"weights": {"name": str(policy_folder)}}
    judge = {"template": "{{ prompt }}{{ response }}", "ratings": {"1": 1, "2": 2}}
    pair = {"template": "{{ prompt }}{{ response_a }}{{ response_b }}", "answers": ["1", "2"]}
    config["selection"]["reward_models"] = {
        "mean": {"class_path": "laser_pl.rewards.MeanEnsemble", "init_args": {"reward_models": arms}},
        "implicit": {
            "class_path": "laser_pl.rewards.ImplicitReward",
            "init_args": {**policy, "reference": policy["weights"]},
        },
        "rating": {"class_path": "laser_pl.rewards.PointwiseJudge", "init_args": {**policy, **judge}},
        "pairs": {"class_path": "laser_pl.rewards.PairwiseJudge", "init_args": {**policy, **pair}},
        "short": {"class_path": "laser_pl.rewards.FunctionReward", "init_args": {"function": "short_rewards.short"}},
        "remote": {
            "class_path": "laser_pl.rewards.RemoteReward",
            "init_args": {"url": "http://localhost:1/", "protocol": "laser_pl.rewards.protocols.OpenRLHF"},
        },
    }  # fmt: skip
    config["selection"]["constraints"] = {"allowed": {"reward_model": {"class_path": "laser_pl.rewards.Verifier"}}}
    config["selection"]["signal"] = {"class_path": "laser_pl.feedback.signals.Cooling", "init_args": {"share": 1.0}}
    found = told(config)
    assert found.findings == ()
    assert [(model.name, model.size == 0) for model in found.models[2:]] == [
        ("mean/a", False), ("mean/b", False), ("implicit", False), ("implicit/reference", False), ("rating", False),
        ("pairs", False), ("short", True), ("remote", True), ("allowed", True),
    ]  # fmt: skip
    assert found.forwards is not None
    responses = 3 * 12 * 4
    # Of n = 4, two opponents each are 4 + 2 comparisons in both orders: 3 for each response.
    assert found.forwards.judging == (responses, 3 * responses)
    assert found.forwards.polling == responses * (2 + 2 + 1 + 3 + 1 + 1)
    assert found.forwards.constraints == {"allowed": responses}
    assert all(phase.size for phase in found.devices[0].phases)


# -- a hub -------------------------------------------------------------------------------------------------------------


def test_what_lies_on_a_hub_out_of_reach_is_unknown(
    config: dict[str, Any], told: Callable[..., Forecast], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"asked {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    config["selection"]["reward_models"]["b"]["init_args"]["weights"]["name"] = "somebody/judge"
    found = told(config)
    judge = found.models[-1]
    assert (judge.where, judge.parameters, judge.size) == ("somebody/judge", None, None)
    assert found.work is not None
    assert found.devices[0].rest["reward models"] is None
    assert not found.stops
    config["model"]["weights"]["name"] = "somebody/policy"
    found = told(config)
    assert found.models[0].parameters is None
    assert found.models[1].parameters  # the reward model that lies here
    assert "nothing is known of somebody/judge, somebody/policy" in sentences(found, stops=False)


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert not is_reachable()
    assert may_be_on_hub("gpt2")
    assert may_be_on_hub("somebody/model")
    assert not may_be_on_hub("./model")
    assert not may_be_on_hub("a/b/c")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_80_columns_and_ends_with_code_2_if_fit_would(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    args = ["--config", str(tmp_path / "run.yaml")]
    monkeypatch.setattr(sys, "argv", ["laser_pl", "plan", *args])
    __main__.run()
    text = capsys.readouterr().out
    for said in ("policy", "adapter", "SequenceClassifier", "at rest", "at most in training", "steps", "≤ 576",
                 "rollouts/", "Nothing looks wrong.", f"python -m laser_pl fit {' '.join(args)}"):  # fmt: skip
        assert said in text
    assert max(len(line) for line in text.splitlines() if "python -m" not in line) <= 80
    assert "\x1b" not in text
    with pytest.raises(SystemExit) as end:
        main([*args, "--selection.memory_budget=1B"])
    assert end.value.code == 2
    assert "fit would stop: The reward model 'a'" in capsys.readouterr().out


@pytest.mark.usefixtures("without_memory")
@pytest.mark.parametrize(
    "wrong", ["--model.beta=-1", "--data.train=none.jsonl", "--no_such=1", "--name=../x", "--resume"]
)
def test_what_cannot_be_told_is_said_as_fit_says_it(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    args = ["--config", str(tmp_path / "run.yaml"), wrong]
    said = []
    for command in (main, lambda args: fit_main(["fit", *args])):
        with pytest.raises(SystemExit) as end:
            command(args)
        assert end.value.code == 2
        if command is main:
            assert not (tmp_path / "runs").exists()
        printed = capsys.readouterr()
        said.append(" ".join((printed.out + printed.err).split()))
    _, told, sentence = said[1].partition("laser_pl: ")  # before it, how far fit had come
    assert told
    assert sentence
    assert sentence in said[0]


@pytest.mark.usefixtures("without_memory")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["--model.objective=laser_pl.objectives.Supervised", "--data.columns.response=answer"],
            "A supervised run samples nothing",
        ),
        (["--model.objective=laser_pl.objectives.Frozen"], "A frozen policy is not trained"),
    ],
)
def test_runs_that_take_less_than_is_told_say_so(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], said: str
) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    main(["--config", str(tmp_path / "run.yaml"), *settings])
    assert said in " ".join(capsys.readouterr().out.split())


class Elsewhere(RolloutEngine):
    """Samples with memory that is not this process's."""

    def publish(self, model: Any, tokenizer: Any, ranks: Any) -> None:
        raise AssertionError("plan publishes nothing")

    def respond(self, prompts: Any, sampling: Any, seed: int) -> Any:
        raise AssertionError("plan samples nothing")


def test_an_engine_elsewhere_samples_with_memory_of_its_own(
    config: dict[str, Any], told: Callable[..., Forecast]
) -> None:
    (device,) = told(config).devices
    config["model"]["engine"] = "tests.forecast.test_forecast.Elsewhere"
    found = told(config)
    assert "Elsewhere samples, so the memory shown here has no sampling in it" in sentences(found, stops=False)
    assert [phase.name for phase in device.phases] == ["evaluation", "rollouts", "scoring", "training"]
    assert [phase.name for phase in found.devices[0].phases] == ["rollouts", "scoring", "training"]


@pytest.mark.usefixtures("without_memory")
def test_of_a_supervised_run_nothing_is_said_of_who_judges(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(config))
    odd = ["--model.nll_weight=0", "--data.columns.category=null", "--selection.granularity=category"]
    told = []
    for supervised in ([], ["--model.objective=laser_pl.objectives.Supervised", "--data.columns.response=answer"]):
        main(["--config", str(tmp_path / "run.yaml"), *odd, *supervised])
        told.append(" ".join(capsys.readouterr().out.split()))
    nothing = "which says nothing about which reward model is right: its first value is ln 2 whoever scored."
    for finding in ("selection.granularity is category, but", nothing):
        assert finding in told[0]
        assert finding not in told[1]


@pytest.mark.usefixtures("without_memory")
def test_resuming_is_told_where_there_is_a_run_to_resume(
    config: dict[str, Any], told: Callable[..., Forecast], tmp_path: Path
) -> None:
    begun = tmp_path / "runs" / "laser"
    begun.mkdir(parents=True)
    (begun / "config.yaml").write_text("name: laser", encoding="utf-8")
    assert told(config, "--resume").work is not None


def test_help_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "python -m laser_pl plan --config FILE" in capsys.readouterr().out


# -- parts -------------------------------------------------------------------------------------------------------------


def test_live_bytes_are_counted_once_and_until_the_last_view_is_gone() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        view = first[10:].view(-1, 10)
        del first
        assert live.now == 4000
        second = view + 1
        assert live.now == live.peak == 4000 + 3960
        del view, second
        assert (live.now, live.peak) == (0, 7960)


class Real(Paper):
    """A model that does hold numbers."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def running(self) -> Any:
        return nullcontext()

    def copy(self, value: Any) -> Any:
        return value


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # of PEFT, about GPT-2's layers
@pytest.mark.parametrize(("shared", "checkpointing"), [(True, False), (False, False), (False, True)])
def test_paper_needs_what_the_real_model_needs(
    causal_model: Callable[..., Any], family: str, tmp_path: Path, shared: bool, checkpointing: bool
) -> None:
    """In every family; gradient checkpointing shares no prompts."""
    model = causal_model(family, 90)
    model.save_pretrained(tmp_path)
    lora, weights = Lora(targets="all-linear"), Weights(str(tmp_path))
    base = adapted(weights, lora, checkpointing)
    assert base is not None
    question = Question([9, 5, 9], n=2, tail=4)
    told = reading(Paper(base.skeleton), question, 1000, shared, training=True)
    real = Real(lora.wrap(weights.load(AutoModelForCausalLM), checkpointing))
    assert told == pytest.approx(reading(real, question, 1000, shared, training=True), rel=0.02)


def test_a_plan_counts_the_fullest_forward_that_may_come() -> None:
    """Twenty responses to a prompt make forwards of 2,688 of 4,096 tokens; of fifteen, those of two prompts fit."""
    question = Question([128] * 16, n=20, tail=128)
    part = largest_micro_batch(question, 4096, shared=True)
    assert 128 * (len(part) + len(set(part))) == 4096
    alone = largest_micro_batch(question, 4096, shared=False)
    assert 256 * len(alone) == 4096


@pytest.mark.parametrize(("size", "seen"), [(9, 20), (40, 10), (40, 100), (400, 20)])
def test_a_bandits_state_is_told_from_smaller_ones(size: int, seen: int) -> None:
    bandit = LinUCB()
    bandit.start(["a", "b"], size)
    for number in range(2 * seen):
        context = torch.randn(1, size, dtype=torch.float64)
        bandit.update(context, torch.tensor([number % 2]), torch.zeros(1, dtype=torch.float64))

    def bytes_of(state: Any) -> int:
        if isinstance(state, torch.Tensor):
            return state.nbytes
        values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
        return sum(map(bytes_of, values))

    assert bandit_state(LinUCB(), ["a", "b"], size, seen) == pytest.approx(bytes_of(bandit.state_dict()), rel=0.15)


@pytest.mark.parametrize("pairs", [RandomPairs(3), BestWorst(3), TopBottom(3)])
@pytest.mark.parametrize("n", [4, 12])
def test_pairs_use_no_more_responses_than_they_say(
    rollouts: Callable[..., Any], pairs: RandomPairs | BestWorst | TopBottom, n: int
) -> None:
    batch = rollouts([[[3 + response, 1] for response in range(n)]])
    found = pairs.pair(batch, torch.arange(n).double()[None], seed=0)
    used = len(set(found.chosen.tolist()) | set(found.rejected.tolist()))
    assert 0 < used <= pairs.most_used(n)
    if isinstance(pairs, BestWorst):
        assert used == pairs.most_used(n)


def test_old_rollouts_are_not_counted_where_they_are_removed() -> None:
    assert [at_most_kept(5, keep) for keep in (None, 1, 4, 9)] == [5, 2, 5, 5]
    assert ContextPreparation().size(8) == 9
    assert Finding("x") == Finding("x", stops=False)
