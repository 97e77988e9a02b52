"""How responses are sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from laser_pl.errors import ConfigurationError


@dataclass
class Sampling:
    """How responses are sampled. Defaults are the paper's.

    Attributes:
        n: Responses per prompt.
        temperature: Softmax temperature; 0 takes the likeliest token.
        top_p: Nucleus mass; 1 keeps the whole vocabulary.
        max_new_tokens: Longest response in tokens, EOS included. That of data.rollouts is what is trained on and what
            predict writes, that of model.evaluation what validation and test grade.
        tokens_at_once: Most tokens sampled together, prompts and longest responses. Prompts that exceed it are sampled
            in batches of like length, from other random numbers; a single prompt may exceed it.
        stop: Texts that end a response, as EOS does, where one first appears. Its text is cut before the string.
    """

    n: int = 30
    temperature: float = 0.8
    top_p: float = 1.0
    max_new_tokens: int = 256
    tokens_at_once: int = 262144
    stop: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigurationError(f"n must be >= 1, got {self.n}. Set the number of responses per prompt.")
        if not 0 <= self.temperature < math.inf:
            raise ConfigurationError(f"temperature must be >= 0 and finite, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.max_new_tokens < 1:
            raise ConfigurationError(f"max_new_tokens must be >= 1, got {self.max_new_tokens}.")
        if self.tokens_at_once < 1:
            raise ConfigurationError(f"tokens_at_once must be >= 1, got {self.tokens_at_once}.")
        if "" in self.stop:
            raise ConfigurationError("stop holds an empty text, which every response contains. Take it out.")
