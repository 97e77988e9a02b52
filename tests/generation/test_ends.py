"""Written responses end as sampled ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from laser_pl.batches import Prompt, PromptBatch
from laser_pl.data.templates import Chat, Plain
from laser_pl.data.written import written_batch
from laser_pl.generation.ends import end_ids, ends_of_turn

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
# Qwen's and SmolLM2's kind, Llama 2's kind, and one that writes nothing behind a turn.
IM_END = "{% for m in messages %}<{{ m.role }}>{{ m.content }}#\n{% endfor %}"
SPACE_EOS = "{% for m in messages %}[{{ m.content }}]{% if m.role == 'assistant' %} <eos>{% endif %}{% endfor %}"
NOTHING = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def written(tokenizer: Any, ends: list[int], response: str, limit: int = 20) -> tuple[list[int], bool]:
    ones = torch.ones(1, 1, dtype=torch.long)
    prompt = Prompt("p", "p", "p", response=response)
    batch = written_batch(PromptBatch((prompt,), ones, ones), tokenizer, limit, 0, ends)
    return batch.responses.tokens[0, 0].tolist(), bool(batch.responses.finished[0, 0])


@pytest.mark.parametrize(
    ("configured", "own", "expected"),
    [([2, 7], 1, [1, 2, 7]), (1, 1, [1]), (None, 1, [1]), ([7, 2], None, [7, 2]), (7, None, [7]), (None, None, [])],
)
def test_all_that_end_a_response(tokenizer: Any, configured: Any, own: int | None, expected: list[int]) -> None:
    tokenizer.eos_token_id = own
    assert end_ids(GenerationConfig(eos_token_id=configured), tokenizer) == expected


@pytest.mark.parametrize(("template", "first"), [(IM_END, "#"), (SPACE_EOS, "<eos>"), (NOTHING, "<eos>")])
def test_the_chat_templates_end_of_turn_comes_first(tokenizer: Any, template: str, first: str) -> None:
    """If sampling ends there too; otherwise the tokenizer's EOS does."""
    tokenizer.chat_template = template
    end, eos = tokenizer.convert_tokens_to_ids(["#", "<eos>"])
    after = Chat().closing(tokenizer)
    assert ends_of_turn([eos, end], after, tokenizer)[0] == tokenizer.convert_tokens_to_ids(first)
    assert ends_of_turn([eos], after, tokenizer) == [eos]
    assert ends_of_turn([eos, end], Plain().closing(tokenizer), tokenizer) == [eos, end]


def test_a_written_response_ends_once(tokenizer: Any) -> None:
    yes, no = tokenizer("yes")["input_ids"], tokenizer("no")["input_ids"]
    assert written(tokenizer, [1, 2], "yes") == ([*yes, 1], True)
    assert written(tokenizer, [2, 1], "yes") == ([*yes, 2], True)
    assert written(tokenizer, [1, 2], "yes<eos>") == ([*yes, 1], True)
    assert written(tokenizer, [2, 1], "yes<eos>no") == ([*yes, 1], True)
    assert written(tokenizer, [1], "no", limit=2) == (no, False)
    assert written(tokenizer, [1], "no", limit=3) == ([*no, 1], True)
