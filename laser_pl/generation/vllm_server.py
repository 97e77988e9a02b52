"""A running vLLM server, and one sentence for whatever goes wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from laser_pl.errors import ConfigurationError
from laser_pl.generation.vllm_protocol import Asked, NonsenseError, Served, Written, highest_rank, probe, probed
from laser_pl.runtime import progress
from laser_pl.runtime.http_client import (
    HttpClient,
    OversizedError,
    RefusedError,
    Request,
    UnavailableError,
    check_address,
    check_attempts,
    key_of,
)

T = TypeVar("T")

_LONGEST_ANSWER = 2**30
_KEPT = "What has been sampled is kept: --resume goes on from there."


class VLLMServer:
    """Asks a server; every failure is a ConfigurationError that says what to do.

    Args:
        url: Where it listens, such as ``http://localhost:8000``.
        concurrency: Requests at a time.
        timeout: Seconds for one attempt of a request.
        retries: Attempts after the first.
        pause: Most seconds of the pause before the first of them, which doubles.
        api_key_variable: The environment variable with its key; null sends none.
    """

    def __init__(
        self, url: str, concurrency: int, timeout: float, retries: int, pause: float, api_key_variable: str | None
    ) -> None:
        check_address(url, "the vLLM engine")
        check_attempts(timeout, retries, pause, "The vLLM engine", "model.engine")
        if concurrency < 1:
            raise ConfigurationError(
                f"The vLLM engine needs concurrency >= 1, got {concurrency}. Set it in model.engine."
            )
        self.url = url.rstrip("/")
        self.concurrency = concurrency
        self.timeout = timeout
        self.retries = retries
        self.pause = pause
        self.api_key_variable = api_key_variable

    def models(self) -> Served:
        """What it serves."""
        return self._ask_one("/v1/models", None, Served.read)

    def highest_rank(self) -> int | None:
        """The highest rank of an adapter that it takes; None where it does not say.

        Raises:
            ConfigurationError: If it takes no adapters.
        """
        request = self._request("/server_info?config_format=json", None)
        try:
            return self._ask_all([request], lambda _, answer: highest_rank(answer))[0]
        except RefusedError:
            return None  # it tells only those who started it for development

    def load(self, name: str, folder: Path) -> None:
        """Have it load an adapter."""
        try:
            self._ask_one("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, _ignored)
        except ConfigurationError:
            # Asked again for want of an answer, it refuses what the first attempt did. Other weights have other names.
            if name not in self.models().adapters:
                raise

    def unload(self, name: str) -> None:
        """Have it forget an adapter."""
        self._ask_one("/v1/unload_lora_adapter", {"lora_name": name}, _ignored)

    def wake(self) -> None:
        """Have it take up its memory again; one that is awake stays so."""
        self._ask_one("/wake_up", {}, _ignored)

    def put_to_sleep(self) -> None:
        """Have it give back the card's memory, and keep its weights aside."""
        self._ask_one("/sleep?level=1", {}, _ignored)

    def probe(self, model: str, prompt: str | Sequence[int]) -> tuple[list[int], list[float]]:
        """The ids of a text, and the log-probabilities of all but the first, in nats."""
        return self._ask_one("/v1/completions", probe(model, prompt), probed)

    def complete(self, every: Sequence[Asked], vocabulary: int) -> list[list[Written]]:
        """The responses to all prompts of all requests, in order.

        Args:
            every: The requests.
            vocabulary: How many ids the model has.
        """

        def answered(number: int, answer: bytes) -> list[list[Written]]:
            rows = every[number].read(answer, vocabulary)
            progress.advance(sum(map(len, rows)))
            return rows

        parts = self._told([self._request("/v1/completions", asked.settings()) for asked in every], answered)
        return [row for part in parts for row in part]

    def _request(self, path: str, body: Any) -> Request:
        return Request(self.url + path, None if body is None else json.dumps(body).encode())

    def _ask_one(self, path: str, body: Any, read: Callable[[bytes], T]) -> T:
        return self._told([self._request(path, body)], lambda _, answer: read(answer))[0]

    def _told(self, requests: Sequence[Request], answered: Callable[[int, bytes], T]) -> list[T]:
        try:
            return self._ask_all(requests, answered)
        except RefusedError as error:
            said = f"The vLLM server refused: {error}, saying {error.answer!r}."
            raise ConfigurationError(f"{said} {_advice(error)}") from error

    def _ask_all(self, requests: Sequence[Request], answered: Callable[[int, bytes], T]) -> list[T]:
        client = HttpClient(
            timeout=self.timeout,
            retries=self.retries,
            pause=self.pause,
            concurrency=self.concurrency,
            max_answer_bytes=_LONGEST_ANSWER,
            key=key_of(self.api_key_variable, self.url),
        )
        try:
            return client.ask(requests, answered)
        except (UnavailableError, TimeoutError) as error:
            answer = getattr(error, "answer", "")
            said = f", saying {answer!r}" if answer else ""
            raise ConfigurationError(
                f"The vLLM server cannot be asked: {error}{said}. See that it runs, and what it printed. {_KEPT}"
            ) from error
        except (NonsenseError, OversizedError) as error:
            raise ConfigurationError(
                f"The server at {self.url} answered with {error}. See that it is a vLLM server of a version that knows"
                f" return_token_ids. {_KEPT}"
            ) from error
        finally:
            client.close()


def _ignored(answer: bytes) -> None:
    """What it says when it has done something."""


def _advice(error: RefusedError) -> str:
    """What to do, by what was refused."""
    said = error.answer.lower()
    if "rank" in said:
        return "Start it with a higher --max-lora-rank, or lower model.lora.rank."
    if error.status == 404:
        return (
            "Start it with --enable-lora, and with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and, for sleep,"
            " VLLM_SERVER_DEV_MODE=1 in its environment."
        )
    if error.status in {401, 403}:
        return "Name the environment variable with its key in api_key_variable."
    if "lora" in said and ("no such file" in said or "not found" in said or "no adapter" in said):
        return "Set the engine's adapters to a folder that the server sees by the same path."
    return "Put right what it says."
