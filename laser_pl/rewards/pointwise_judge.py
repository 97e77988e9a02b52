"""A language model that rates one response at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from laser_pl.batches import Prompt
from laser_pl.models.language_model import Weights
from laser_pl.rewards.judge import Judge

RATE = """\
Below are a request and a response to it.

Request:
{{ prompt }}

Response:
{{ response }}

Rate how well the response serves the request, from 1 (not at all) to 5 (perfectly). Answer with the number alone."""


class PointwiseJudge(Judge):
    r"""Scores a response by the rating to expect of a language model.

    It is :math:`\sum_a v_a \, p(a \mid \text{template})` over the ratings; the expected value
    distinguishes responses to which the likeliest rating is the same.

    Args:
        weights: The model.
        template: A Jinja template, in Jinja's sandbox. It sees ``prompt`` (a string), ``messages`` (the prompt as a
            chat), ``response``, ``answer``, and every other column by its name.
        ratings: What each rating is worth; every rating must be one token of the model.
        **reading: How texts are read: ``chat_template``, ``max_length``, ``truncation`` and ``max_tokens_per_batch`` of
            ``LocalModel``.
    """

    def __init__(
        self,
        weights: Weights,
        template: str = RATE,
        ratings: dict[str, float] = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5},  # noqa: B006 - copied
        **reading: Any,
    ) -> None:
        super().__init__(weights, template, ratings, **reading)

    def texts(self, prompt: Prompt, responses: Sequence[str]) -> list[str]:
        """One question for each response."""
        return [self.fill(prompt, response=response) for response in responses]

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """The expected rating of each response. Shape ``(B, n)``, float32 or wider."""
        texts = [text for prompt, row in zip(prompts, responses, strict=True) for text in self.texts(prompt, row)]
        return self.expected_worth(texts).view(len(prompts), -1)
