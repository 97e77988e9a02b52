"""The vLLM engine's contract, against a stub that answers as the real server does, or against the real one.

``LASER_VLLM`` names the address of a running server for ``LASER_VLLM_MODEL``'s folder (``make test-vllm``); without it
a stub serves a model made here.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.commands.cli import main
from laser_pl.data.prompts import encode
from laser_pl.errors import ConfigurationError
from laser_pl.generation import Sampling, TransformersEngine, VLLMEngine
from laser_pl.logprobs.logprob_model import LogprobModel, ResponseBatch
from laser_pl.models.language_model import Lora
from laser_pl.policy.policy import Policy
from laser_pl.run.state import digest, run_state
from laser_pl.runtime.process_group import ProcessGroup
from tests.runs import Fit, decisions_of
from tests.servable import make_servable
from tests.vllm_stub import VLLMStub

pytestmark = pytest.mark.slow

TEXTS = ["12+30=", "9", "Rcba=", "abc"]
GREEDY = Sampling(n=1, temperature=0, max_new_tokens=12)
WARM = Sampling(n=3, temperature=1.0, max_new_tokens=12)
ALONE = ProcessGroup()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The served model's."""
    if given := os.environ.get("LASER_VLLM_MODEL"):
        return Path(given)
    return make_servable(tmp_path_factory.mktemp("servable"))


@pytest.fixture
def stub(folder: Path) -> Iterator[VLLMStub]:
    stub = VLLMStub(folder)
    yield stub
    stub.close()


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """The real server's, or a stub's."""
    given = os.environ.get("LASER_VLLM")
    return given if given is not None else str(request.getfixturevalue("stub").url)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def policy_of(folder: Path, seed: int = 0, **lora: Any) -> Any:
    """The base with an adapter that does something."""
    model = Lora(**{"rank": 8, "dropout": 0.0, "targets": "all-linear", **lora}).wrap(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def engine_of(url: str, tmp_path: Path, **settings: Any) -> VLLMEngine:
    """Without seeds, of which builds for CPUs die."""
    return VLLMEngine(url, str(tmp_path / "adapters"), **{"seeded": False, "pause": 0.0, "retries": 1, **settings})


def prompts_of(tokenizer: Any, texts: list[str] = TEXTS) -> PromptBatch:
    return encode([Prompt(text, text, text) for text in texts], tokenizer, limit=200)


# -- the contract ------------------------------------------------------------------------------------------------------


def test_greedy_ids_are_those_of_the_transformers_engine_for_base_and_adapters(
    folder: Path, url: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Two adapters, loaded one after the other, and the base that both lie on."""
    ours, theirs, prompts = TransformersEngine(), engine_of(url, tmp_path, prompts_per_request=3), prompts_of(tokenizer)
    seen = []
    for seed in (0, 1):
        model = policy_of(folder, seed)
        for engine in (ours, theirs):
            engine.publish(model, tokenizer, ALONE)
        expected, found = (engine.respond(prompts, GREEDY, 0) for engine in (ours, theirs))
        assert torch.equal(found.tokens, expected.tokens)
        assert torch.equal(found.mask, expected.mask)
        assert torch.equal(found.finished, expected.finished)
        assert found.texts == expected.texts
        seen.append(found.tokens.tolist())
    with model.disable_adapter():
        for engine in (ours, theirs):
            engine.publish(model, tokenizer, ALONE)
        expected, found = (engine.respond(prompts, GREEDY, 0) for engine in (ours, theirs))
        assert torch.equal(found.tokens, expected.tokens)
        seen.append(found.tokens.tolist())
    assert len({str(one) for one in seen}) == 3


@pytest.mark.parametrize("sampling", [WARM, GREEDY, Sampling(n=2, temperature=0.7, top_p=0.8, max_new_tokens=9)])
def test_log_probabilities_are_the_trainers(
    folder: Path, url: str, tokenizer: Any, tmp_path: Path, sampling: Sampling
) -> None:
    model, engine, prompts = policy_of(folder), engine_of(url, tmp_path), prompts_of(tokenizer)
    engine.publish(model, tokenizer, ALONE)
    found = engine.respond(prompts, sampling, 0)
    expected = LogprobModel(model.eval(), 1000).all_logprobs(ResponseBatch.of(prompts, found))
    assert found.logprobs is not None
    torch.testing.assert_close(found.logprobs.flatten(), expected, rtol=0, atol=1e-4)
    assert not (found.tokens[found.mask.bool()] == tokenizer.pad_token_id).any()
    assert found.tokens.shape[:2] == (len(TEXTS), sampling.n)


def test_stop_strings_cut_as_in_process(folder: Path, url: str, tokenizer: Any, tmp_path: Path) -> None:
    ours, theirs, prompts, model = (
        TransformersEngine(),
        engine_of(url, tmp_path),
        prompts_of(tokenizer),
        policy_of(folder),
    )
    for engine in (ours, theirs):
        engine.publish(model, tokenizer, ALONE)
    (long,) = ours.respond(prompts.part([0]), GREEDY, 0).texts[0]
    how = Sampling(n=1, temperature=0, max_new_tokens=12, stop=[long[3:5]])
    expected, found = (engine.respond(prompts, how, 0) for engine in (ours, theirs))
    assert found.texts == expected.texts
    assert torch.equal(found.mask, expected.mask)
    assert torch.equal(found.finished, expected.finished)
    assert bool(found.finished[0, 0])


def test_responses_are_drawn_from_the_policys_distribution(
    folder: Path, url: str, tokenizer: Any, tmp_path: Path
) -> None:
    """First tokens of many responses, by their expected share; PAD never, though the model would."""
    model, engine, prompts = policy_of(folder), engine_of(url, tmp_path), prompts_of(tokenizer, ["12+30="])
    engine.publish(model, tokenizer, ALONE)
    n = 400
    first = engine.respond(prompts, Sampling(n=n, temperature=1.0, max_new_tokens=1), 0).tokens[0, :, 0]
    with torch.no_grad():
        logits = model.eval()(prompts.tokens).logits[0, -1]
    logits[tokenizer.pad_token_id] = -torch.inf
    expected = logits.softmax(-1)
    found = torch.bincount(first, minlength=len(expected)) / n
    assert float((found - expected).abs().max()) < 4 * math.sqrt(0.25 / n)
    assert found[tokenizer.pad_token_id] == 0


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_another_base_is_refused(folder: Path, url: str, tokenizer: Any, tmp_path: Path) -> None:
    other = make_servable(tmp_path / "other", seed=7)
    with pytest.raises(ConfigurationError, match=r"differ from those of the policy's base by \d+\.\d\d nats"):
        engine_of(url, tmp_path).publish(policy_of(other), tokenizer, ALONE)


def test_another_tokenizer_is_refused(folder: Path, url: str, tokenizer: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(tokenizer)
    other._tokenizer.normalizer = normalizers.Replace("0", "1")
    with pytest.raises(ConfigurationError, match="cuts texts up into other tokens than the policy does"):
        engine_of(url, tmp_path).publish(policy_of(folder), other, ALONE)


def test_a_rank_above_the_servers_is_refused_before_anything_is_loaded(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.lora\.rank is 32, .* --max-lora-rank 16"):
        engine_of(url, tmp_path).check(32, lambda: 100)


def test_texts_beyond_its_context_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"reads 400 tokens, and prompts with their responses may have 401"):
        engine_of(url, tmp_path).check(8, lambda: 401)
    engine_of(url, tmp_path).check(8, lambda: 400)


@pytest.mark.parametrize(("setting", "value"), [("use_dora", True), ("bias", "all"), ("modules_to_save", ["lm_head"])])
def test_adapters_that_vllm_cannot_serve_are_refused(
    folder: Path, url: str, tokenizer: Any, tmp_path: Path, setting: str, value: Any
) -> None:
    model = policy_of(folder)
    setattr(model.peft_config["default"], setting, value)
    with pytest.raises(ConfigurationError, match=f"serves no adapter with {setting}"):
        engine_of(url, tmp_path).publish(model, tokenizer, ALONE)


def test_nobody_listens(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be asked: http://127\.0\.0\.1:9/v1/models cannot be reached"):
        engine_of("http://127.0.0.1:9", tmp_path).check(8, lambda: 100)


# -- how adapters come and go (the stub alone shows it) ----------------------------------------------------------------


def test_an_adapter_has_a_name_of_its_own_and_stays_for_one_more(
    folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path
) -> None:
    engine = engine_of(stub.url, tmp_path)
    names = []
    for seed in (0, 1, 2):
        engine.publish(policy_of(folder, seed), tokenizer, ALONE)
        engine.publish(policy_of(folder, seed), tokenizer, ALONE)  # the same weights, so nothing new to load
        names.append(list(stub.loaded))
    assert [len(loaded) for loaded in names] == [1, 2, 2]
    assert names[2][0] == names[1][1]
    assert len({name for loaded in names for name in loaded}) == 3
    assert sorted(path.name for path in (tmp_path / "adapters").iterdir()) == sorted(names[2])
    assert stub.paths().count("/v1/load_lora_adapter") == 3


def test_a_server_that_was_started_again_is_given_the_adapter_again(
    folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path
) -> None:
    engine = engine_of(stub.url, tmp_path)
    engine.publish(policy_of(folder), tokenizer, ALONE)
    stub.loaded.clear()
    engine.publish(policy_of(folder), tokenizer, ALONE)
    assert len(stub.loaded) == 1


def test_an_adapter_that_was_loaded_while_the_answer_was_lost_is_there(
    folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = stub.answer

    def lossy(path: str, body: Any) -> Any:
        found = answer(path, body)
        if path == "/v1/load_lora_adapter":
            raise ConnectionResetError
        return found

    monkeypatch.setattr(stub, "answer", lossy)
    monkeypatch.setattr(stub._server, "handle_error", lambda *_: None)
    engine_of(stub.url, tmp_path).publish(policy_of(folder), tokenizer, ALONE)
    assert stub.paths().count("/v1/load_lora_adapter") == 2
    assert len(stub.loaded) == 1


def test_it_sleeps_while_nobody_asks(folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path) -> None:
    engine = engine_of(stub.url, tmp_path, sleep=True)
    for _ in range(2):
        engine.publish(policy_of(folder), tokenizer, ALONE)
        assert not stub.asleep
        engine.respond(prompts_of(tokenizer), GREEDY, 0)
        engine.rest(ALONE)
        assert stub.asleep
    still = engine_of(stub.url, tmp_path)
    still.rest(ALONE)
    assert stub.paths().count("/sleep?level=1") == 2


def test_every_request_says_all_that_generation_config_would_fill_in(
    folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path
) -> None:
    engine = engine_of(stub.url, tmp_path, seeded=True, prompts_per_request=2)
    engine.publish(policy_of(folder), tokenizer, ALONE)
    engine.respond(prompts_of(tokenizer), WARM, 5)
    bodies = [body for path, body in stub.asked if path == "/v1/completions" and "prompt_logprobs" not in body]
    assert [len(body["prompt"]) for body in bodies] == [2, 2]
    assert len({body["seed"] for body in bodies}) == 2
    for body in bodies:
        assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (1.0, 1.0, 0, 0.0)
        assert body["repetition_penalty"] == 1.0
        assert body["ignore_eos"]
        assert body["stop_token_ids"] == [tokenizer.eos_token_id]
        assert str(tokenizer.pad_token_id) in body["logit_bias"]


# -- a server that fails -----------------------------------------------------------------------------------------------


def test_a_server_that_fails_once_is_asked_again(folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path) -> None:
    engine = engine_of(stub.url, tmp_path)
    engine.publish(policy_of(folder), tokenizer, ALONE)
    stub.refuses = 1
    assert len(engine.respond(prompts_of(tokenizer), GREEDY, 0).texts) == len(TEXTS)


CHOICE = {"index": 0, "token_ids": [5], "logprobs": {"token_logprobs": [-0.5]}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("says", "what"),
    [
        (b"<html>", "no JSON"),
        (b"[]", "no choices"),
        (b'{"choices": []}', "0 responses, where 1 were asked for"),
        ([{**CHOICE, "index": 3}], "a response numbered 3"),
        ([{**CHOICE, "token_ids": []}], "a response of 0 tokens"),
        ([{**CHOICE, "token_ids": [5] * 13}], "a response of 13 tokens"),
        ([{**CHOICE, "token_ids": [99999]}], "ids that are none of the"),
        ([{**CHOICE, "token_ids": [True]}], "ids that are none of the"),
        ([{**CHOICE, "token_ids": [0]}], "token 0, which was forbidden"),
        ([{**CHOICE, "logprobs": None}], "no logprobs"),
        ([{**CHOICE, "logprobs": {"token_logprobs": [None]}}], "log-probabilities that do not fit"),
        ([{**CHOICE, "logprobs": {"token_logprobs": [0.5]}}], "log-probabilities that do not fit"),
        ([{**CHOICE, "prompt_token_ids": [1, 2]}], "other prompts than it was sent"),
        ([{**CHOICE, "finish_reason": "length"}], "a response that it cut after 1 of 12 tokens"),
    ],
)
def test_an_answer_that_is_none_ends_the_run_in_one_sentence(
    folder: Path, stub: VLLMStub, tokenizer: Any, tmp_path: Path, says: Any, what: str
) -> None:
    engine = engine_of(stub.url, tmp_path)
    engine.publish(policy_of(folder), tokenizer, ALONE)
    stub.says = says if isinstance(says, bytes) else json.dumps({"choices": says}).encode()
    with pytest.raises(ConfigurationError, match=f"answered with {what}.*--resume goes on from there"):
        engine.respond(prompts_of(tokenizer, ["12+30="]), GREEDY, 0)


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(folder: Path, url: str, tmp_path: Path) -> list[str]:
    engine = {"class_path": "VLLMEngine", "init_args": {"url": url, "adapters": str(tmp_path / "adapters"),
              "seeded": False, "pause": 0.0, "retries": 0}}  # fmt: skip
    return [f"--model.weights.name={folder}", f"--model.engine={json.dumps(engine)}", "--trainer.max_epochs=2",
            "--model.lora.rank=8", "--model.lora.dropout=0", "--model.evaluation.n=2",
            "--optimizer.lr=0.01"]  # fmt: skip


def test_a_run_of_two_iterations(fit: Fit, settings: list[str], tmp_path: Path) -> None:
    run = fit(tmp_path / "run", *settings)
    decisions = decisions_of(run)
    assert len(decisions) == run.trainer.global_step
    for iteration in (0, 1):
        first = next(one for one in decisions if one["iteration"] == iteration and one["pairs"])
        assert first["dpo"] == pytest.approx(math.log(2), abs=1e-5)  # the reference is the trainer's own
    apart = [float(value) for value in mismatches(run.folder.metrics)]
    assert len(apart) == 2
    assert max(apart) < 1e-4
    assert "engine against policy" in run.folder.report.read_text()


def mismatches(metrics: Path) -> list[str]:
    head, *rows = [line.split(",") for line in metrics.read_text().splitlines()]
    place = head.index("rollouts/mismatch")
    return [row[place] for row in rows if row[place]]


def test_a_server_that_dies_costs_nothing_that_was_sampled(
    fit_command: Callable[..., list[str]], stub: VLLMStub, folder: Path, settings: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In the middle of the second iteration's rollouts; another one goes on with what lies on disk."""
    settings = [one.replace(os.environ.get("LASER_VLLM", stub.url), stub.url) for one in settings]
    command = fit_command(tmp_path / "run", *settings, "--data.rollout_batch_size=4")
    answer, served = stub.answer, []

    def dying(path: str, body: Any) -> Any:
        if path == "/v1/completions" and body.get("n") == 6:
            served.append(body["model"])
            if len(set(served)) == 2 and served.count(served[-1]) == 3:
                stub.refuses = -1
        return answer(path, body)

    monkeypatch.setattr(stub, "answer", dying)
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "cannot be asked" in said
    assert "status 500" in said
    assert "Traceback" not in said
    kept = {path: path.read_bytes() for path in (tmp_path / "run/runs/small/rollouts").rglob("*.parquet")}
    assert sum("iteration-001" in str(path) for path in kept) == 2
    stub.refuses = 0
    monkeypatch.setattr(stub, "answer", answer)
    run = main([*command, "--resume"])
    assert run.trainer.current_epoch == 2
    assert all(path.read_bytes() == content for path, content in kept.items())


# -- sampling beside training ------------------------------------------------------------------------------------------

STALE = ["--data.staleness=1", "--trainer.max_epochs=3", "--data.rollout_batch_size=8"]  # two chunks an iteration


@pytest.fixture
def stale(settings: list[str], stub: VLLMStub) -> list[str]:
    """Against the stub, which draws the same for one seed."""
    own = [one.replace(os.environ.get("LASER_VLLM", stub.url), stub.url) for one in settings]
    return [one.replace('"seeded": false', '"seeded": true') for one in own] + STALE


def is_rollout(path: str, body: Any) -> bool:
    return path == "/v1/completions" and body.get("n") == 6


def test_the_next_iteration_is_sampled_by_the_policy_before_this_one(
    fit: Fit, stub: VLLMStub, stale: list[str], tmp_path: Path
) -> None:
    """Validation publishes others meanwhile, twice an iteration."""
    run = fit(tmp_path / "run", *stale, "--trainer.val_check_interval=2")
    models = [body["model"] for path, body in stub.asked if is_rollout(path, body)]
    assert len(models) == 6
    first, second = models[0], models[-1]
    assert models == [first, first, first, first, second, second]
    fresh = [body["lora_name"] for path, body in stub.asked if path == "/v1/load_lora_adapter"]
    assert fresh.index(second) == 2  # the policy after the first iteration, behind that after its second step
    for iteration in range(3):
        one = next(one for one in decisions_of(run) if one["iteration"] == iteration and one["pairs"])
        assert one["dpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert len(mismatches(run.folder.metrics)) == 1  # later ones would count what training has changed


def test_training_goes_on_meanwhile(
    fit: Fit, stub: VLLMStub, stale: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps the second iteration's responses back until a step of the first one has ended."""
    stepped, waited, asked = Event(), [], []
    answer, end = stub.answer, Policy.on_train_batch_end

    def slow(path: str, body: Any) -> Any:
        if is_rollout(path, body):
            asked.append(body)
            if len(asked) in {3, 4}:
                waited.append(stepped.wait(60))
        return answer(path, body)

    def step(policy: Policy, *args: Any) -> None:
        stepped.set()
        end(policy, *args)

    monkeypatch.setattr(stub, "answer", slow)
    monkeypatch.setattr(Policy, "on_train_batch_end", step)
    fit(tmp_path / "run", *stale, "--trainer.max_epochs=2")
    assert waited == [True, True]


def test_a_run_that_is_killed_meanwhile_goes_on_as_if_nothing_had_happened(
    fit: Fit, stale: list[str], tmp_path: Path, plug: Callable[..., str]
) -> None:
    whole = fit(tmp_path / "whole", *stale, "--checkpoint_every=2")
    with pytest.raises(RuntimeError, match="the plug was pulled"):
        fit(tmp_path / "run", *stale, "--checkpoint_every=2", plug("on_train_batch_end", 6))
    run = fit(tmp_path / "run", *stale, "--checkpoint_every=2", "--resume")
    ours, theirs = run_state(run.folder), run_state(whole.folder)
    assert {part: digest(ours[part]) for part in ours} == {part: digest(theirs[part]) for part in theirs}


def test_a_server_that_dies_meanwhile_ends_the_run_which_goes_on(
    fit_command: Callable[..., list[str]], stub: VLLMStub, stale: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What it sampled stays; the rest is sampled when the iteration begins."""
    command, answer, asked = fit_command(tmp_path / "run", *stale), stub.answer, []

    def dying(path: str, body: Any) -> Any:
        if is_rollout(path, body):
            asked.append(body)
            stub.refuses = -(len(asked) == 4)
        return answer(path, body)

    monkeypatch.setattr(stub, "answer", dying)
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2
    assert "The vLLM server cannot be asked" in capsys.readouterr().err
    folder = tmp_path / "run/runs/small/rollouts/iteration-001"
    assert [path.name for path in folder.iterdir()] == ["ahead-00000.parquet"]
    stub.refuses = 0
    monkeypatch.setattr(stub, "answer", answer)
    assert main([*command, "--resume"]).trainer.current_epoch == 3


def test_a_server_that_sleeps_while_the_policy_is_trained_samples_before(
    fit: Fit, stub: VLLMStub, stale: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(tmp_path / "run", *(one.replace('"seeded"', '"sleep": true, "seeded"') for one in stale))
    assert "VLLMEngine cannot sample beside training" in caplog.text
    assert sum(is_rollout(path, body) for path, body in stub.asked) == 6


def test_without_a_server_a_run_ends_before_its_first_rollout(
    fit_command: Callable[..., list[str]], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = {"class_path": "laser_pl.generation.VLLMEngine", "init_args": {"url": "http://127.0.0.1:9", "retries": 0}}
    with pytest.raises(SystemExit) as end:
        main(fit_command(tmp_path, f"--model.weights.name={folder}", f"--model.engine={json.dumps(engine)}"))
    assert end.value.code == 2
    assert "The vLLM server cannot be asked" in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("*.parquet"))
