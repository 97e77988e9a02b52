"""A classifier's scores are those of each whole text alone, however texts are batched."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.models.language_model import Weights
from laser_pl.rewards import SequenceClassifier

CPU = torch.device("cpu")
CHATML = (
    "{{ bos_token or '' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def loaded(folder: Path, **kwargs: Any) -> SequenceClassifier:
    reward = SequenceClassifier(Weights(str(folder)), **kwargs)
    reward.load(CPU)
    return reward


@torch.no_grad()
def slow_score(folder: Path, ids: list[int]) -> float:
    """The head on the last hidden state of one text, without padding and without transformers' pooling."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    return float(model.score.weight[0] @ hidden)


def ids_of(tokenizer: Any, *parts: str) -> list[int]:
    """One id per character; a part that is a special token counts as one."""
    tokens = [t for part in parts for t in ([part] if part in tokenizer.all_special_tokens else part)]
    ids: list[int] = tokenizer.convert_tokens_to_ids(tokens)
    return ids


def written(prompt: Prompt) -> str:
    return prompt.prompt if isinstance(prompt.prompt, str) else "1+1?\n\n2\n\n2+2?"


@pytest.mark.parametrize("name", ["a", "b"])
def test_equals_the_head_on_the_end_of_each_text(
    questions: list[Prompt], responses: list[list[str]], classifier_folders: dict[str, Path], tokenizer: Any, name: str
) -> None:
    """EOS is read too, and it is there that the score is taken."""
    folder = classifier_folders[name]
    expected = [
        [slow_score(folder, ids_of(tokenizer, written(prompt), response, "<eos>")) for response in row]
        for prompt, row in zip(questions, responses, strict=True)
    ]
    found = loaded(folder).score(questions, responses)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_tokens_per_batch", [1, 70, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_text_alone_scores_as_in_any_batch(
    questions: list[Prompt],
    responses: list[list[str]],
    classifier_folders: dict[str, Path],
    max_tokens_per_batch: int,
    seed: int,
) -> None:
    alone, together = (
        loaded(classifier_folders["a"]),
        loaded(classifier_folders["a"], max_tokens_per_batch=max_tokens_per_batch),
    )
    order = random.Random(seed).sample(range(3), 3)
    prompts, responses = [questions[i] for i in order], [responses[i] for i in order]
    found = together.score(prompts, responses)
    expected = [[float(alone.score([p], [[r]])) for r in row] for p, row in zip(prompts, responses, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


def test_a_tokenizer_without_pad_token_still_reads_eos(
    questions: list[Prompt], classifier_folders: dict[str, Path], tokenizer: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "no_pad"
    model = AutoModelForSequenceClassification.from_pretrained(classifier_folders["a"])
    model.config.pad_token_id = None
    model.save_pretrained(folder)
    expected = slow_score(folder, ids_of(tokenizer, "1+1=", "2", "<eos>"))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    found = loaded(folder).score(questions[:1], [["2", "a longer one", "x"]])
    assert float(found[0, 0]) == pytest.approx(expected, abs=1e-5)


def test_a_batch_may_use_the_whole_vocabulary(
    questions: list[Prompt], classifier_folders: dict[str, Path], tokenizer: Any
) -> None:
    """Whatever pads must not be the last token of a text; that is all."""
    everything = "".join(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    reward = loaded(classifier_folders["a"])
    found = reward.score(questions[:1], [[everything, "2"]])
    assert float(found[0, 1]) == pytest.approx(float(reward.score(questions[:1], [["2"]])), abs=1e-5)


@pytest.fixture
def with_bos(tmp_path: Path, tokenizer_with: Callable[..., Any], llama_config: Callable[..., Any]) -> tuple[Path, Any]:
    """A classifier whose tokenizer puts BOS before every text, and that tokenizer."""
    tokenizer = tokenizer_with(bos_token="<bos>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        LlamaForSequenceClassification(llama_config(len(tokenizer), num_labels=1)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path, tokenizer


def test_one_bos_and_one_eos(questions: list[Prompt], with_bos: tuple[Path, Any]) -> None:
    folder, tokenizer = with_bos
    expected = slow_score(folder, ids_of(tokenizer, "<bos>", "1+1=", "2", "<eos>"))
    assert float(loaded(folder).score(questions[:1], [["2"]])) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("chat_template", "question", "text"),
    [
        (None, 0, ["<bos>", "[user]1+1=|[assistant]2|"]),
        (True, 2, ["<bos>", "[user]1+1?|[assistant]2|[user]2+2?|[assistant]2|"]),
        (False, 0, ["<bos>", "1+1=2", "<eos>"]),
    ],
    ids=["found", "a chat", "switched off"],
)
def test_a_chat_template_writes_bos_and_the_end_itself(
    questions: list[Prompt], with_bos: tuple[Path, Any], chat_template: bool | None, question: int, text: list[str]
) -> None:
    folder, tokenizer = with_bos
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    found = loaded(folder, chat_template=chat_template).score([questions[question]], [["2"]])
    assert float(found) == pytest.approx(slow_score(folder, ids_of(tokenizer, *text)), abs=1e-5)


def test_a_template_that_ends_the_turn_with_eos_gets_no_second(
    questions: list[Prompt], with_bos: tuple[Path, Any]
) -> None:
    folder, tokenizer = with_bos
    tokenizer.chat_template = CHATML.replace("|", "{{ eos_token if m.role == 'assistant' else '|' }}")
    tokenizer.save_pretrained(folder)
    expected = slow_score(folder, ids_of(tokenizer, "<bos>", "[user]1+1=|[assistant]2", "<eos>"))
    assert float(loaded(folder).score(questions[:1], [["2"]])) == pytest.approx(expected, abs=1e-5)


def test_a_long_text_loses_its_oldest_tokens(
    questions: list[Prompt], classifier_folders: dict[str, Path], tokenizer: Any
) -> None:
    expected = slow_score(classifier_folders["a"], ids_of(tokenizer, "1+1=", "2", "<eos>")[-4:])
    found = loaded(classifier_folders["a"], max_length=4).score(questions[:1], [["2"]])
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_cut_on_the_right_a_long_text_keeps_eos(
    questions: list[Prompt], classifier_folders: dict[str, Path], tokenizer: Any
) -> None:
    expected = slow_score(classifier_folders["a"], ids_of(tokenizer, "1+1=", "tw", "<eos>"))
    found = loaded(classifier_folders["a"], max_length=7, truncation="right").score(questions[:1], [["two or three"]])
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_a_long_text_keeps_its_one_bos(questions: list[Prompt], with_bos: tuple[Path, Any]) -> None:
    folder, tokenizer = with_bos
    expected = slow_score(folder, ids_of(tokenizer, "<bos>", "1=", "2", "<eos>"))
    assert float(loaded(folder, max_length=5).score(questions[:1], [["2"]])) == pytest.approx(expected, abs=1e-5)


def test_narrow_weights_give_float32_scores(
    questions: list[Prompt], responses: list[list[str]], classifier_folders: dict[str, Path]
) -> None:
    reward = SequenceClassifier(Weights(str(classifier_folders["a"]), dtype="bfloat16"))
    reward.load(CPU)
    assert reward.score(questions, responses).dtype == torch.float32


def test_a_language_model_is_no_classifier(policy_folder: Path) -> None:
    """transformers would put a random head on it, and only warn."""
    with pytest.raises(ConfigurationError, match=r"is no sequence classifier but LlamaForCausalLM\. .*Likelihood"):
        loaded(policy_folder)


def test_two_outputs_are_no_reward(classifier_folders: dict[str, Path], tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(
        classifier_folders["a"], num_labels=2, ignore_mismatched_sizes=True
    ).save_pretrained(tmp_path)
    with pytest.raises(
        ConfigurationError,
        match=r"has 2 outputs, .* 1 counts\. Set head_weights to a list of 2 numbers, how much LABEL_0, LABEL_1 count",
    ):
        SequenceClassifier(Weights(str(tmp_path))).check()


@pytest.mark.parametrize("head_weights", [[-1.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
def test_outputs_of_several_heads_count_by_their_weights(
    questions: list[Prompt],
    responses: list[list[str]],
    tokenizer: Any,
    llama_config: Callable[..., Any],
    tmp_path: Path,
    head_weights: list[float],
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        LlamaForSequenceClassification(llama_config(len(tokenizer), num_labels=3)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    expected = []
    for prompt, row in zip(questions, responses, strict=True):
        for response in row:
            ids = torch.tensor([ids_of(tokenizer, written(prompt), response, "<eos>")])
            with torch.no_grad():
                heads = model.score(model.model(input_ids=ids).last_hidden_state[0, -1]).tolist()
            expected.append(sum(weight * head for weight, head in zip(head_weights, heads, strict=True)))
    found = loaded(tmp_path, head_weights=head_weights).score(questions, responses)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_as_many_head_weights_as_outputs(classifier_folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"has 1 outputs, .* each of 2 counts"):
        SequenceClassifier(Weights(str(classifier_folders["a"])), head_weights=[0.5, 0.5]).check()


def test_a_missing_folder_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="Cannot load a tokenizer from 'no/such_model'") as caught:
        loaded(Path("no/such_model"))
    assert "\n" not in str(caught.value)
