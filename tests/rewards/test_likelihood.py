"""The likelihood of a response under another model, counted token by token."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import Likelihood

CPU = torch.device("cpu")
CHATML = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def loaded(folder: Path, **kwargs: Any) -> Likelihood:
    reward = Likelihood(Weights(str(folder)), **kwargs)
    reward.load(CPU)
    return reward


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.convert_tokens_to_ids([*text])
    return ids


@torch.no_grad()
def slow_logprobs(folder: Path, head: list[int], tail: list[int]) -> list[float]:
    """Log-probability of each token of the tail, one forward each."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    found = []
    for t, token in enumerate(tail):
        logits = model(torch.tensor([head + tail[:t]])).logits[0, -1].double()
        found.append(float(logits[token] - logits.logsumexp(-1)))
    return found


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_counts_the_response_and_its_eos_only(
    questions: list[Prompt], responses: list[list[str]], policy_folder: Path, tokenizer: Any, reduction: Any
) -> None:
    expected = []
    for prompt, row in zip(questions, responses, strict=True):
        text = prompt.prompt if isinstance(prompt.prompt, str) else "1+1?\n\n2\n\n2+2?"
        for response in row:
            each = slow_logprobs(policy_folder, ids_of(tokenizer, text), [*ids_of(tokenizer, response), 1])
            expected.append(math.fsum(each) / (len(each) if reduction == "mean" else 1))
    found = loaded(policy_folder, reduction=reduction).score(questions, responses)
    assert found.shape == (3, 3)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5 * (1 if reduction == "mean" else 40))


@pytest.mark.parametrize("max_tokens_per_batch", [1, 70, 10_000])
def test_a_response_alone_scores_as_in_any_batch(
    questions: list[Prompt], responses: list[list[str]], policy_folder: Path, max_tokens_per_batch: int
) -> None:
    together, alone = loaded(policy_folder, max_tokens_per_batch=max_tokens_per_batch), loaded(policy_folder)
    expected = [[float(alone.score([p], [[r]])) for r in row] for p, row in zip(questions, responses, strict=True)]
    torch.testing.assert_close(together.score(questions, responses), torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("question", "head"),
    [(0, "[user]1+1=|[assistant]"), (2, "[user]1+1?|[assistant]2|[user]2+2?|[assistant]")],
    ids=["a string", "a chat"],
)
def test_a_chat_model_reads_its_own_template(
    questions: list[Prompt], policy_folder: Path, tokenizer: Any, tmp_path: Path, question: int, head: str
) -> None:
    """The text that ends a turn belongs to the response; no EOS does, which the template does not write."""
    AutoModelForCausalLM.from_pretrained(policy_folder).save_pretrained(tmp_path)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    each = slow_logprobs(tmp_path, ids_of(tokenizer, head), ids_of(tokenizer, "four|"))
    found = loaded(tmp_path).score([questions[question]], [["four"]])
    assert float(found) == pytest.approx(math.fsum(each) / len(each), abs=1e-5)


@pytest.mark.parametrize(
    ("max_length", "head", "tail"),
    [(9, "1+1=", "two,|"), (8, "+1=", "two,|"), (6, "=", "two,|"), (5, "=", "two,"), (2, "=", "t")],
)
def test_a_long_input_loses_the_prompts_oldest_tokens_first(
    questions: list[Prompt], policy_folder: Path, tokenizer: Any, max_length: int, head: str, tail: str
) -> None:
    """``|`` stands for EOS. Of a response that is too long by itself the end is left out."""
    tokens = [1 if char == "|" else tokenizer.convert_tokens_to_ids(char) for char in tail]
    each = slow_logprobs(policy_folder, ids_of(tokenizer, head), tokens)
    found = loaded(policy_folder, max_length=max_length).score(questions[:1], [["two,"]])
    assert float(found) == pytest.approx(math.fsum(each) / len(each), abs=1e-5)


@pytest.mark.parametrize(
    ("max_length", "head", "tail"),
    [(9, "1+1=", "two,|"), (8, "1+1=", "two,"), (6, "1+1=", "tw"), (5, "1+1=", "t"), (4, "+1=", "t"), (2, "=", "t")],
)
def test_cut_on_the_right_a_long_input_loses_the_responses_end(
    questions: list[Prompt], policy_folder: Path, tokenizer: Any, max_length: int, head: str, tail: str
) -> None:
    tokens = [1 if char == "|" else tokenizer.convert_tokens_to_ids(char) for char in tail]
    each = slow_logprobs(policy_folder, ids_of(tokenizer, head), tokens)
    found = loaded(policy_folder, max_length=max_length, truncation="right").score(questions[:1], [["two,"]])
    assert float(found) == pytest.approx(math.fsum(each) / len(each), abs=1e-5)


def test_without_eos_an_empty_response_has_no_score(
    questions: list[Prompt], policy_folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """There is no token to count: NaN, no opinion, and the others are as before."""
    AutoModelForCausalLM.from_pretrained(policy_folder).save_pretrained(tmp_path)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    found = loaded(tmp_path).score(questions[:1], [["", "2"]])[0]
    assert math.isnan(found[0])
    (expected,) = slow_logprobs(tmp_path, ids_of(tokenizer, "1+1="), ids_of(tokenizer, "2"))
    assert float(found[1]) == pytest.approx(expected, abs=1e-5)


def test_narrow_weights_give_float32_scores(
    questions: list[Prompt], responses: list[list[str]], policy_folder: Path
) -> None:
    reward = Likelihood(Weights(str(policy_folder), dtype="bfloat16"))
    reward.load(CPU)
    assert reward.score(questions, responses).dtype == torch.float32


def test_a_missing_folder_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="Cannot load a tokenizer from 'no/such_model'") as caught:
        loaded(Path("no/such_model"))
    assert "\n" not in str(caught.value)
