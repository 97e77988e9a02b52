"""Written responses in the place of sampled ones, for a supervised policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laser_pl.batches import PromptBatch, RolloutBatch
from laser_pl.data.behind import ids_behind
from laser_pl.data.rollout_store import rollout_batch
from laser_pl.errors import ConfigurationError
from laser_pl.generation.ends import end_ids, ended


def written_batch(
    prompts: PromptBatch, tokenizer: Any, limit: int, iteration: int, ends: Sequence[int]
) -> RolloutBatch:
    """Each prompt's written response as its only one (``n`` = 1), as if the policy had sampled it: ended as those end.

    Nobody chooses among them, so contexts are empty and reference log-probabilities 0.

    Args:
        prompts: Prompts with responses.
        tokenizer: The policy's.
        limit: Tokens of the longest response; what is longer is cut, as a sampled one is, and has no end.
        iteration: Counted from 0.
        ends: Ids that end a response; the first is put behind those that have none.
    """
    rows = []
    for prompt, read in zip(prompts.prompts, prompts.ids(), strict=True):
        assert prompt.response is not None
        ids = ended(ids_behind(prompt.response, prompt.text, tokenizer), ends)
        rows.append(
            {
                "text": prompt.text,
                "prompt_tokens": read,
                "tokens": [ids[:limit]],
                "responses": [prompt.response],
                "finished": [len(ids) <= limit],
                "context": [0.0],
                "reference_logprobs": [0.0],
            }
        )
    return rollout_batch(prompts.prompts, rows, tokenizer.pad_token_id, iteration)


def ends_to_learn(generation_config: Any, tokenizer: Any, name: str) -> list[int]:
    """Ids that end a response.

    Args:
        generation_config: The policy's.
        tokenizer: The policy's.
        name: What its weights are called.

    Raises:
        ConfigurationError: If there is none.
    """
    ends = end_ids(generation_config, tokenizer)
    if not ends:
        raise ConfigurationError(
            f"Neither the tokenizer of '{name}' nor its generation_config.json names a token that ends a response, so a"
            " supervised policy could not learn to end. Set eos_token_id in generation_config.json."
        )
    return ends
