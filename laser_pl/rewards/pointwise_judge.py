"""A language model that rates one response at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.language_model import Weights
from laser_pl.rewards.judge import Judge
from laser_pl.rewards.text import Side

RATE = """\
Below are a request and a response to it.

Request:
{{ prompt }}

Response:
{{ response }}

Rate how well the response serves the request, from 1 (not at all) to 5 (perfectly). Answer with the number alone."""


class PointwiseJudge(Judge):
    r"""Scores a response by the rating to expect, :math:`\sum_a v_a \, p(a \mid \text{template})` over the ratings.

    The expected value tells responses apart to which the likeliest rating is the same.

    Args:
        weights: The model.
        template: A Jinja template, in Jinja's sandbox. It sees ``prompt`` (a string), ``messages`` (the prompt as a
            chat), ``response``, ``answer``, and every other column by its name.
        ratings: What each rating is worth; every rating must be one token of the model.
        chat_template: Whether the filled template is sent as the user's turn of a chat; null does so if the tokenizer
            has a chat template.
        max_length: Longest input in tokens.
        truncation: Which end of longer inputs is cut off.
        max_tokens_per_batch: Bound on a forward's tokens, padding included.
    """

    def __init__(
        self,
        weights: Weights,
        template: str = RATE,
        ratings: dict[str, float] = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5},  # noqa: B006 - copied
        chat_template: bool | None = None,
        max_length: int = 2048,
        truncation: Side = "left",
        max_tokens_per_batch: int = 16384,
    ) -> None:
        super().__init__(weights, template, ratings, chat_template, max_length, truncation, max_tokens_per_batch)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The expected rating of each response. Shape ``(B, n)``, float32 or wider."""
        texts = [
            self.fill(prompt, response=response)
            for prompt, row in zip(prompts, responses, strict=True)
            for response in row
        ]
        return self.expected_worth(texts).view(len(prompts), -1)
