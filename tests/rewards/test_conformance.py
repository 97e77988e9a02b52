"""What every kind of reward model promises, kind by kind: the right text, bounded forwards, memory that comes back."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from laser_pl.batches import Prompt
from laser_pl.logprobs.manner import manner_of
from laser_pl.metrics.matchers import Number
from laser_pl.models.language_model import Weights
from laser_pl.rewards import (
    AgreementEnsemble,
    ByCategory,
    CautiousEnsemble,
    FunctionReward,
    ImplicitReward,
    Likelihood,
    MeanEnsemble,
    MinEnsemble,
    PairwiseJudge,
    PointwiseJudge,
    Pool,
    RemoteReward,
    RewardModel,
    SequenceClassifier,
    Verifier,
    WeightedEnsemble,
)
from laser_pl.rewards.judge import Judge
from laser_pl.rewards.local import LocalModel
from laser_pl.rewards.protocols import OpenRLHF, VllmClassify, VllmScore
from laser_pl.rewards.scores import as_tensor

CPU = torch.device("cpu")
BOS, EOS = 3, 1
CHATML = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TURNS = [("user", "1+1?"), ("assistant", "2"), ("user", "2+2?")]
PROMPTS = [
    Prompt("p", "1+1=", "unused", answer="2", category="sums"),
    Prompt("q", "a rather long question?", "unused", answer="no", category="words"),
    Prompt("c", [{"role": role, "content": content} for role, content in TURNS], "unused", answer="4", category="sums"),
]
RESPONSES = [["2", "", "two, I think"], ["no", "a much longer answer than any of the others", "z"], ["4", "5", "66"]]


# -- models, functions and a server to judge by ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_with: Callable[..., Any], llama_config: Callable[..., Any]
) -> dict[str, Path]:
    """Language models ``one`` and ``two``, classifiers of one head and of three, an adapter on ``one``.

    The tokenizer puts BOS before every text and has no template. The layers are as wide as bitsandbytes' blocks.
    """
    tokenizer = tokenizer_with(bos_token="<bos>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (BOS, EOS)
    found: dict[str, Path] = {}
    classes = {
        "one": (LlamaForCausalLM, 1),
        "two": (LlamaForCausalLM, 1),
        "head": (LlamaForSequenceClassification, 1),
        "heads": (LlamaForSequenceClassification, 3),
    }
    with torch.random.fork_rng():
        for seed, (name, (model_class, outputs)) in enumerate(classes.items()):
            torch.manual_seed(seed)
            shape = {"hidden_size": 64, "intermediate_size": 128, "num_labels": outputs}
            found[name] = tmp_path_factory.mktemp(name)
            model_class(llama_config(len(tokenizer), **shape)).save_pretrained(found[name])
            tokenizer.save_pretrained(found[name])
        found["adapter"] = tmp_path_factory.mktemp("adapter")
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(found["one"]),
            LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
        )
        adapted.save_pretrained(found["adapter"])
    return found


def lengths(completions: Sequence[Any], **columns: Any) -> list[float]:
    return [float(len(c) if isinstance(c, str) else len(c[0]["content"])) for c in completions]


async def lengths_later(completions: Sequence[Any], **columns: Any) -> list[float]:
    return lengths(completions)


class Handler(BaseHTTPRequestHandler):
    """Scores by length, in the words of three protocols."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/get_reward":
            answer: dict[str, Any] = {"rewards": [len(text) for text in body["query"]]}
        elif self.path == "/classify":
            answer = {"data": [{"index": i, "probs": [len(text)]} for i, text in enumerate(body["input"])]}
        else:
            answer = {"data": [{"index": i, "score": len(text)} for i, text in enumerate(body["text_2"])]}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Not on the screen."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where that server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# -- the kinds ---------------------------------------------------------------------------------------------------------

Make = Callable[..., RewardModel]


def weights(folder: Path, **how: Any) -> Weights:
    return Weights(str(folder), **how)


LOCAL: dict[str, Callable[[dict[str, Path], dict[str, Any], dict[str, Any]], LocalModel]] = {
    "classifier": lambda f, how, kw: SequenceClassifier(weights(f["head"], **how), **kw),
    "classifier with three heads": lambda f, how, kw: SequenceClassifier(
        weights(f["heads"], **how), head_weights=[0.5, -1.0, 2.0], **kw
    ),
    "likelihood, mean": lambda f, how, kw: Likelihood(weights(f["one"], **how), **kw),
    "likelihood, sum": lambda f, how, kw: Likelihood(weights(f["one"], **how), reduction="sum", **kw),
    "implicit reward, two models": lambda f, how, kw: ImplicitReward(
        weights(f["one"], **how), reference=weights(f["two"], **how), **kw
    ),
    "implicit reward, adapter": lambda f, how, kw: ImplicitReward(
        weights(f["one"], **how), adapter=str(f["adapter"]), **kw
    ),
    "pointwise judge": lambda f, how, kw: PointwiseJudge(weights(f["one"], **how), **kw),
    "pairwise judge": lambda f, how, kw: PairwiseJudge(weights(f["one"], **how), **kw),
}


def members(f: dict[str, Path]) -> dict[str, RewardModel]:
    return {"judge": SequenceClassifier(weights(f["head"])), "likely": Likelihood(weights(f["two"])),
            "long": FunctionReward(lengths)}  # fmt: skip


OTHER: dict[str, Callable[[dict[str, Path], str], RewardModel]] = {
    "function": lambda f, url: FunctionReward(lengths),
    "async function": lambda f, url: FunctionReward(lengths_later, timeout=30),
    "verifier": lambda f, url: Verifier(Number()),
    "remote, OpenRLHF": lambda f, url: RemoteReward(f"{url}/get_reward", OpenRLHF(), batch_size=2),
    "remote, vLLM classify": lambda f, url: RemoteReward(f"{url}/classify", VllmClassify("m"), batch_size=2),
    "remote, vLLM score": lambda f, url: RemoteReward(f"{url}/score", VllmScore("m"), batch_size=2),
    "mean ensemble": lambda f, url: MeanEnsemble(members(f)),
    "weighted ensemble": lambda f, url: WeightedEnsemble(members(f)),
    "min ensemble": lambda f, url: MinEnsemble(members(f)),
    "cautious ensemble": lambda f, url: CautiousEnsemble(members(f), caution=1.0),
    "agreement ensemble": lambda f, url: AgreementEnsemble(members(f)),
    "by category": lambda f, url: ByCategory({"sums": FunctionReward(lengths), "words": Likelihood(weights(f["one"]))}),
}
# Their scores are about a prompt's responses together.
RELATIVE = {
    "pairwise judge",
    "mean ensemble",
    "weighted ensemble",
    "min ensemble",
    "cautious ensemble",
    "agreement ensemble",
}


@pytest.fixture
def make(folders: dict[str, Path], address: str) -> Iterator[Callable[[str], RewardModel]]:
    """Make a reward model of a kind, loaded; unloaded in the end."""
    made: list[RewardModel] = []

    def one(kind: str) -> RewardModel:
        reward_model: RewardModel = LOCAL[kind](folders, {}, {}) if kind in LOCAL else OTHER[kind](folders, address)
        reward_model.check()
        reward_model.load(CPU)
        made.append(reward_model)
        return reward_model

    yield one
    for reward_model in made:
        reward_model.unload()


@pytest.fixture
def make_local(folders: dict[str, Path]) -> Callable[..., LocalModel]:
    """Make a reward model with weights, loaded: ``make_local(kind, how, **arguments)``."""

    def one(kind: str, how: dict[str, Any] | None = None, **arguments: Any) -> LocalModel:
        reward_model = LOCAL[kind](folders, how or {}, arguments)
        reward_model.check()
        reward_model.load(CPU)
        return reward_model

    return one


def scores_of(
    reward_model: RewardModel,
    prompts: Sequence[Prompt] = PROMPTS,
    responses: Sequence[Sequence[str]] = RESPONSES,
) -> Tensor:
    return as_tensor(reward_model.score(prompts, responses), (len(prompts), len(responses[0])), "it")


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likelihoods read every response behind a prompt of its own, so that each row can be looked at."""
    monkeypatch.setattr("laser_pl.rewards.likelihood.why_not_shared", lambda model: "rows are looked at")


class Forwards:
    """Watches what goes through a reward model's networks: the real tokens of each row, and each forward's size."""

    def __init__(self, reward_model: LocalModel, limit: int | None = None) -> None:
        self.rows: list[list[int]] = []
        self.sizes: list[int] = []
        self.refused: list[int] = []
        self.by_text = False
        if isinstance(reward_model, Likelihood):  # whose last tokens are predicted, but not read
            self._note_texts_of(reward_model)
        for model in reward_model.models:
            watched = model.get_base_model() if hasattr(model, "get_base_model") else model
            if isinstance(reward_model, (Likelihood, Judge)):
                watched = manner_of(watched).decoder  # which reads; the trial of how it does is over by then
            watched.register_forward_pre_hook(lambda module, args, kw: self._see(kw, limit), with_kwargs=True)

    def _note_texts_of(self, reward_model: Likelihood) -> None:
        read = reward_model.read

        def noting(*args: Any) -> list[tuple[list[int], list[int]]]:
            parts = read(*args)
            self.rows += [[*head, *tail] for head, tail in parts]
            return parts

        reward_model.read = noting  # type: ignore[method-assign]
        self.by_text = True

    def _see(self, inputs: dict[str, Any], limit: int | None) -> None:
        tokens, mask = inputs["input_ids"], inputs.get("attention_mask")
        if mask is None:  # nothing is read, logits are made of what was
            return
        if limit is not None and tokens.numel() > limit:
            self.refused.append(tokens.numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.sizes.append(tokens.numel())
        if not self.by_text:
            self.rows += [row[seen.bool()].tolist() for row, seen in zip(tokens, mask, strict=True)]


# -- every kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*LOCAL, *OTHER])
def test_strings_and_chats_get_a_number_for_each_response(make: Callable[[str], RewardModel], kind: str) -> None:
    scores = scores_of(make(kind))
    assert scores.shape == (3, 3)
    assert scores.isfinite().all()
    assert all(len(set(row.tolist())) > 1 for row in scores[[0, 2]])  # an opinion


@pytest.mark.parametrize("kind", [*LOCAL, *OTHER])
def test_a_sample_alone_scores_as_in_any_batch(make: Callable[[str], RewardModel], kind: str) -> None:
    reward_model = make(kind)
    together = scores_of(reward_model)
    order = [2, 0, 1]
    turned = scores_of(reward_model, [PROMPTS[i] for i in order], [RESPONSES[i] for i in order])
    torch.testing.assert_close(turned, together[order], rtol=0, atol=1e-5)
    for row in range(3):
        prompt, responses = [PROMPTS[row]], RESPONSES[row]
        if kind in RELATIVE:
            alone = scores_of(reward_model, prompt, [responses])[0]
        else:
            alone = torch.cat([scores_of(reward_model, prompt, [[text]])[0] for text in responses])
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [*LOCAL, *OTHER])
def test_memory_comes_back_and_a_second_load_scores_the_same(make: Callable[[str], RewardModel], kind: str) -> None:
    reward_model = make(kind)
    before = scores_of(reward_model)
    assert reward_model.size() == bytes_held_by(reward_model)
    for give_up in (reward_model.unload, reward_model.offload, reward_model.offload):
        give_up()
        reward_model.load(CPU)
        assert torch.equal(scores_of(reward_model), before)
    held = [weakref.ref(p) for m in getattr(reward_model, "models", []) for p in m.parameters()]
    reward_model.unload()
    assert bytes_held_by(reward_model) == 0
    assert not any(parameter() is not None for parameter in held)  # at once, and not when garbage is collected


def bytes_held_by(reward_model: RewardModel) -> int:
    """Of weights, adapters left out."""
    if not isinstance(reward_model, LocalModel):
        return sum(bytes_held_by(member) for member in getattr(reward_model, "reward_models", {}).values())
    tensors = {
        tensor.data_ptr(): tensor
        for model in reward_model.models
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if "lora_" not in name
    }
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@pytest.mark.parametrize("kind", [*LOCAL, *OTHER])
def test_the_pool_takes_it_as_it_comes(make: Callable[[str], RewardModel], kind: str) -> None:
    reward_model = make(kind)
    expected = scores_of(reward_model)
    reward_model.unload()
    pool = Pool({"it": reward_model})
    pool.check(PROMPTS, lambda: "")
    assert torch.equal(pool.score("it", PROMPTS, RESPONSES, CPU), expected)
    # Two models; three games of each prompt in two orders; three members.
    forwards = 18 if "implicit" in kind or kind == "pairwise judge" else 27 if "ensemble" in kind else 9
    assert (pool.forwards, pool.missing) == ({"it": forwards}, {"it": {}})


# -- kinds with weights: the right text --------------------------------------------------------------------------------


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("template", [None, CHATML], ids=["no template", "chat template"])
@pytest.mark.parametrize("kind", LOCAL)
def test_a_text_has_one_bos_and_one_eos_unless_a_template_says_otherwise(
    make_local: Callable[..., LocalModel], folders: dict[str, Path], kind: str, template: str | None
) -> None:
    reward_model = make_local(kind)
    reward_model._tokenizer.chat_template = template
    seen = Forwards(reward_model)
    scores_of(reward_model)
    assert seen.rows
    assert all(row[0] == BOS and row.count(BOS) == 1 for row in seen.rows)
    ends = 0 if "judge" in kind or template else 1  # a judge is to say what comes next; a template ends turns itself
    assert all(row.count(EOS) == ends for row in seen.rows)
    assert all((row[-1] == EOS) == bool(ends) for row in seen.rows)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", LOCAL)
def test_the_tokenizers_padding_side_does_not_matter(
    make_local: Callable[..., LocalModel], folders: dict[str, Path], tmp_path: Path, kind: str, side: str
) -> None:
    expected = scores_of(make_local(kind))
    copies = {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in folders.items()}
    for name in ("one", "two", "head", "heads"):
        AutoTokenizer.from_pretrained(copies[name], padding_side=side).save_pretrained(copies[name])
    reward_model = LOCAL[kind](copies, {}, {})
    reward_model.load(CPU)
    assert torch.equal(scores_of(reward_model), expected)


@pytest.mark.parametrize("kind", LOCAL)
def test_a_tokenizer_without_pad_token_serves(
    make_local: Callable[..., LocalModel], folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    expected = scores_of(make_local(kind))
    copies = {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in folders.items()}
    for name in ("one", "two", "head", "heads"):
        tokenizer = AutoTokenizer.from_pretrained(copies[name])
        tokenizer.pad_token = None
        tokenizer.save_pretrained(copies[name])
    reward_model = LOCAL[kind](copies, {}, {})
    reward_model.load(CPU)
    torch.testing.assert_close(scores_of(reward_model), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", LOCAL)
def test_no_input_is_longer_than_the_limit(make_local: Callable[..., LocalModel], kind: str, side: str) -> None:
    reward_model = make_local(kind, max_length=12, truncation=side)
    seen = Forwards(reward_model)
    assert scores_of(reward_model).isfinite().all()
    assert max(map(len, seen.rows)) == 12
    assert all(row[0] == BOS for row in seen.rows)


@pytest.mark.parametrize("kind", LOCAL)
def test_columns_that_only_a_template_reads_change_nothing_else(
    make_local: Callable[..., LocalModel], kind: str
) -> None:
    reward_model = make_local(kind)
    more = [replace(prompt, columns={"level": 3, "prompt": "not this one"}) for prompt in PROMPTS]
    assert torch.equal(scores_of(reward_model, more), scores_of(reward_model))


# -- kinds with weights: bounded forwards ------------------------------------------------------------------------------


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("kind", LOCAL)
def test_a_forward_holds_no_more_tokens_than_allowed(make_local: Callable[..., LocalModel], kind: str) -> None:
    expected = scores_of(make_local(kind))
    whole = make_local(kind)
    seen = Forwards(whole)
    scores_of(whole)
    longest, most = max(map(len, seen.rows)), max(seen.sizes)
    for limit in (1, longest, 3 * longest):
        reward_model = make_local(kind, max_tokens_per_batch=limit)
        seen = Forwards(reward_model)
        torch.testing.assert_close(scores_of(reward_model), expected, rtol=1e-6, atol=1e-5)
        assert all(size <= max(limit, longest) for size in seen.sizes)
        assert max(seen.sizes) < most


@pytest.mark.parametrize("kind", [kind for kind in LOCAL if "likelihood" in kind or "implicit" in kind])
@pytest.mark.parametrize("limit", [40, 16384])
def test_a_prompt_is_read_once_for_its_responses_to_the_same_effect(
    make_local: Callable[..., LocalModel], kind: str, limit: int, request: pytest.FixtureRequest
) -> None:
    reward_model = make_local(kind, max_tokens_per_batch=limit)
    tokens: list[int] = []
    for model in map(base_of, reward_model.models):
        model.get_decoder().register_forward_pre_hook(
            lambda module, args, inputs: tokens.append(inputs["input_ids"].numel()), with_kwargs=True
        )
    found, shared = scores_of(reward_model), sum(tokens)
    assert max(tokens) <= max(limit, 70)  # the longest text alone
    request.getfixturevalue("unpacked")
    torch.testing.assert_close(found, scores_of(reward_model), rtol=1e-6, atol=1e-5)  # sums reach 250 nats
    if limit == 16384:
        assert shared < 0.7 * (sum(tokens) - shared)


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("kind", LOCAL)
def test_out_of_memory_halves_the_batch_once_for_each_size(
    make_local: Callable[..., LocalModel], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = scores_of(make_local(kind))
    reward_model = make_local(kind)
    plain = Forwards(reward_model)
    scores_of(reward_model)
    limit = max(max(map(len, plain.rows)), max(plain.sizes) // 3)
    reward_model = make_local(kind)
    seen = Forwards(reward_model, limit)
    with caplog.at_level(logging.WARNING):
        found = scores_of(reward_model)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
        first = len(seen.refused)
        assert torch.equal(scores_of(reward_model), found)
    assert first >= 1
    assert len(seen.refused) == first  # the second time nothing is tried that failed before
    assert len(set(seen.refused)) == len(seen.refused)
    assert sum("Out of memory" in message for message in caplog.messages) == first


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("kind", LOCAL)
def test_one_text_that_does_not_fit_costs_the_labels_of_its_call(
    make_local: Callable[..., LocalModel], kind: str
) -> None:
    reward_model = make_local(kind)
    Forwards(reward_model, limit=3)
    pool = Pool({"it": reward_model})
    assert pool.score("it", PROMPTS, RESPONSES, CPU).isnan().all()
    assert pool.missing == {"it": {"exception": 9}}


# -- kinds with weights: precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("kind", LOCAL)
def test_quantised_weights_score_for_real(make_local: Callable[..., LocalModel], kind: str, quantization: str) -> None:
    """Really in 4 or 8 bits, in less memory, and of nearly the same opinion."""
    reward_model = make_local(kind, {"quantization": quantization, "dtype": "float32"})
    assert all(model.is_quantized for model in map(base_of, reward_model.models))
    assert reward_model.size() == pytest.approx(bytes_held_by(reward_model), rel=0.03)
    full = make_local(kind)
    assert bytes_held_by(reward_model) < 0.7 * bytes_held_by(full)
    give_rounded_weights(reward_model, full)
    found, expected = scores_of(reward_model), scores_of(full)
    assert found.isfinite().all()
    agreement = torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]
    assert agreement > 0.95
    held = [weakref.ref(parameter) for model in reward_model.models for parameter in model.parameters()]
    reward_model.offload()  # which cannot move them and gives them up
    assert reward_model.models == []
    assert not any(parameter() is not None for parameter in held)


def give_rounded_weights(rounded: LocalModel, exact: LocalModel) -> None:
    """What the quantised layers stand for, as the weights of a reward model that is not quantised."""
    modules = {(i, name): module for i, model in enumerate(exact.models) for name, module in model.named_modules()}
    own = [((i, name), module) for i, model in enumerate(rounded.models) for name, module in model.named_modules()]
    for name, module in own:
        if isinstance(module, bnb.nn.Linear4bit):
            values = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            own_state = module.weight if module.weight.CB is not None else module.state  # from the first forward on
            values = own_state.CB.float() * own_state.SCB[:, None] / 127
        else:
            continue
        modules[name].weight.data.copy_(values)


def base_of(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@pytest.mark.parametrize("how", [{"dtype": "bfloat16"}, {"dtype": "float64"}, {"attention": "eager"}])
@pytest.mark.parametrize("kind", LOCAL)
def test_element_type_and_attention_are_each_models_own(
    make_local: Callable[..., LocalModel], kind: str, how: dict[str, str]
) -> None:
    reward_model = make_local(kind, how)
    for model in map(base_of, reward_model.models):
        assert model.dtype == getattr(torch, how.get("dtype", "float32"))
        assert model.config._attn_implementation == how.get("attention", "sdpa")
    scores = reward_model.score(PROMPTS, RESPONSES)
    assert isinstance(scores, Tensor)
    assert scores.dtype == (torch.float64 if how.get("dtype") == "float64" else torch.float32)
    assert reward_model.size() == bytes_held_by(reward_model)
    torch.testing.assert_close(
        scores.double(), scores_of(make_local(kind)), rtol=0.3, atol=1.0 if "bfloat16" in how.values() else 1e-3
    )
