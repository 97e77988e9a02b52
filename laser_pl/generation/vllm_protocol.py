"""What is said to a vLLM server, and what its answers mean."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laser_pl.errors import ConfigurationError
from laser_pl.generation.sampling import Sampling

MOST_PROMPTS = 1024
"""Prompts that the server takes in one request."""
_FORBIDDING = -100.0
"""The lowest bias that it takes: what is forbidden is drawn once in 10^43 tokens."""


class NonsenseError(RuntimeError):
    """An answer is not what was asked for."""


@dataclass(frozen=True)
class Written:
    """One response.

    Attributes:
        tokens: Its ids, EOS included.
        logprobs: Their log-probabilities under the server's model in nats, before temperature and bias.
    """

    tokens: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Asked:
    """A request for responses.

    Attributes:
        model: The name of the policy at the server.
        prompts: Token ids of each prompt.
        sampling: How they are answered.
        never: Ids that are not to be drawn.
        eos: Ids that end a response.
        seed: Where the server's random numbers start; None leaves it to the server.
    """

    model: str
    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    never: Sequence[int]
    eos: Sequence[int]
    seed: int | None

    @property
    def n(self) -> int:
        """Responses to ask for: greedy ones are all the same, and the server refuses more than one."""
        return self.sampling.n if self.sampling.temperature > 0 else 1

    def settings(self) -> dict[str, Any]:
        """What is POSTed to ``/v1/completions``.

        Every field that says how tokens are drawn is there, since the server fills what is missing from the model's
        generation_config.json.
        """
        return {
            "model": self.model,
            "prompt": [list(prompt) for prompt in self.prompts],
            "n": self.n,
            "max_tokens": self.sampling.max_new_tokens,
            "min_tokens": 0,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logit_bias": {str(token): _FORBIDDING for token in self.never},
            "ignore_eos": True,  # the server's own idea of it; ours are below
            "stop_token_ids": list(self.eos),
            "stop": self.sampling.stop,
            "include_stop_str_in_output": True,
            "skip_special_tokens": True,  # they complete no stop string
            "add_special_tokens": False,
            "logprobs": 0,  # of the tokens that were drawn
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stream": False,
            "seed": self.seed,
        }

    def read(self, answer: bytes, vocabulary: int) -> list[list[Written]]:
        """The responses to each prompt.

        Args:
            answer: What the server sent.
            vocabulary: How many ids the model has.

        Raises:
            NonsenseError: If it is not what was asked for.
        """
        choices = _field(_decoded(answer), "choices", list)
        if len(choices) != len(self.prompts) * self.n:
            raise NonsenseError(f"{len(choices)} responses, where {len(self.prompts) * self.n} were asked for")
        found: dict[int, Written] = {}
        for choice in choices:
            number = _field(choice, "index", int)
            found[number] = self._written(choice, number, vocabulary)
        if sorted(found) != list(range(len(choices))):
            raise NonsenseError("responses that are not numbered through")
        rows = [[found[row * self.n + i] for i in range(self.n)] for row in range(len(self.prompts))]
        return rows if self.n == self.sampling.n else [row * self.sampling.n for row in rows]

    def _written(self, choice: Any, number: int, vocabulary: int) -> Written:
        if not 0 <= number < len(self.prompts) * self.n:
            raise NonsenseError(f"a response numbered {number}")
        read = choice.get("prompt_token_ids")
        if read is not None and read != list(self.prompts[number // self.n]):
            raise NonsenseError("other prompts than it was sent")
        tokens = _field(choice, "token_ids", list)
        if not 0 < len(tokens) <= self.sampling.max_new_tokens:
            raise NonsenseError(f"a response of {len(tokens)} tokens, where 1 to {self.sampling.max_new_tokens} fit")
        if choice.get("finish_reason") == "length" and len(tokens) < self.sampling.max_new_tokens:
            raise NonsenseError(
                f"a response that it cut after {len(tokens)} of {self.sampling.max_new_tokens} tokens, which its"
                " --max-model-len makes it do"
            )
        if any(type(token) is not int or not 0 <= token < vocabulary for token in tokens):
            raise NonsenseError(f"ids that are none of the {vocabulary} of the model")
        if forbidden := sorted(set(tokens).intersection(self.never)):
            raise NonsenseError(f"token {forbidden[0]}, which was forbidden by logit_bias")
        logprobs = _field(_field(choice, "logprobs", dict), "token_logprobs", list)
        if len(logprobs) != len(tokens) or not all(_is_logprob(value) for value in logprobs):
            raise NonsenseError("log-probabilities that do not fit its tokens")
        return Written(tokens, [float(value) for value in logprobs])


def probe(model: str, prompt: str | Sequence[int]) -> dict[str, Any]:
    """A request for the ids of a text, or for the log-probabilities of the tokens of one."""
    return {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else [list(prompt)],
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
    }


def probed(answer: bytes) -> tuple[list[int], list[float]]:
    """The ids of a probe, and the log-probabilities of all but its first token.

    Raises:
        NonsenseError: If the answer holds none.
    """
    choices = _field(_decoded(answer), "choices", list)
    if len(choices) != 1:
        raise NonsenseError(f"{len(choices)} responses, where 1 was asked for")
    ids = _field(choices[0], "prompt_token_ids", list)
    told = _field(choices[0], "prompt_logprobs", list)
    if len(told) != len(ids):
        raise NonsenseError("log-probabilities that do not fit its tokens")
    try:
        return ids, [float(at[str(token)]["logprob"]) for token, at in zip(ids[1:], told[1:], strict=True)]
    except (KeyError, TypeError, ValueError):
        raise NonsenseError("log-probabilities that do not fit its tokens") from None


@dataclass(frozen=True)
class Served:
    """What the server has.

    Attributes:
        base: The name of the base model.
        adapters: Names of adapters that are loaded.
        longest: Most tokens of a prompt with its response; None where it does not say.
    """

    base: str
    adapters: list[str]
    longest: int | None

    @staticmethod
    def read(answer: bytes) -> Served:
        """From the answer to ``/v1/models``.

        Raises:
            NonsenseError: If it is none.
        """
        models = _field(_decoded(answer), "data", list)
        bases = [model for model in models if isinstance(model, dict) and model.get("parent") is None]
        if not bases or not all(isinstance(model, dict) and isinstance(model.get("id"), str) for model in models):
            raise NonsenseError("no list of models")
        longest = bases[0].get("max_model_len")
        adapters = [model["id"] for model in models if model.get("parent") is not None]
        return Served(bases[0]["id"], adapters, longest if isinstance(longest, int) else None)


def highest_rank(answer: bytes) -> int | None:
    """The highest rank of an adapter that the server takes, from the answer to ``/server_info``; None if it hides it.

    Raises:
        ConfigurationError: If it takes no adapter at all.
    """
    try:
        settings = json.loads(answer)["vllm_config"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    lora = settings.get("lora_config") if isinstance(settings, dict) else None
    if isinstance(settings, dict) and "lora_config" in settings and lora is None:
        raise ConfigurationError(
            "The vLLM server was started without --enable-lora, and takes no adapter. Start it with --enable-lora and"
            " VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment."
        )
    rank = lora.get("max_lora_rank") if isinstance(lora, dict) else None
    return rank if isinstance(rank, int) else None


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise NonsenseError("no JSON") from None


def _field(of: Any, name: str, kind: type) -> Any:
    value = of.get(name) if isinstance(of, dict) else None
    if type(value) is not kind:
        raise NonsenseError(f"no {name}")
    return value


def _is_logprob(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value <= 1e-3
