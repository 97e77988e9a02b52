"""A reward model behind HTTP."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import torch
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from laser_pl.batches import Prompt
from laser_pl.data.plan import split_every
from laser_pl.data.templates import SandboxedText, content_of, messages_of
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.protocols import Item, Protocol, ProtocolError, checked


class UnavailableError(RuntimeError):
    """The server cannot answer now; asking again may help."""


class RemoteReward(RewardModel):
    """Asks a server, in several requests at a time over connections that are kept open.

    A request that fails for want of a connection, of time, or with a status that may pass (408, 429, 5xx) is repeated
    after a random pause that doubles. What stays failed raises, and the pool counts it. Only ``url`` is ever asked:
    redirects are refused, and an answer of more than ``max_answer_bytes`` is not read.

    Args:
        url: Where to POST to, such as ``http://localhost:5000/get_reward``.
        protocol: What is sent and answered.
        text: A Jinja template, in Jinja's sandbox, of the text that a server without a template of its own reads. It
            sees ``prompt`` (a string), ``messages`` (the prompt as a chat), ``response``, and every other column.
        timeout: Seconds for one attempt, from connecting to the last byte.
        retries: Attempts after the first.
        pause: Seconds of the first pause at most.
        batch_size: Responses per request.
        concurrency: Requests at a time.
        api_key_variable: The environment variable that holds the server's key, sent as a bearer token; null sends none.
        max_answer_bytes: Longest answer.
    """

    def __init__(
        self,
        url: str,
        protocol: Protocol,
        text: str = "{{ prompt }}{{ response }}",
        timeout: float = 60.0,
        retries: int = 3,
        pause: float = 1.0,
        batch_size: int = 64,
        concurrency: int = 4,
        api_key_variable: str | None = None,
        max_answer_bytes: int = 16 * 2**20,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("concurrency", concurrency)):
            if value < 1:
                raise ConfigurationError(f"{name} must be >= 1, got {value}. Set the remote reward model's {name}.")
        if not timeout > 0 or pause < 0 or retries < 0:
            raise ConfigurationError(
                f"A remote reward model needs timeout > 0, retries >= 0 and pause >= 0, got {timeout}, {retries} and"
                f" {pause}. Set them in its config."
            )
        address = httpx.URL(url)
        if address.scheme not in {"http", "https"} or not address.host:
            raise ConfigurationError(f"'{url}' is no http or https address. Set the remote reward model's url.")
        self.url = url
        self.protocol = protocol
        self.text = SandboxedText(text, "The remote reward model's text")
        self.timeout = timeout
        self.retries = retries
        self.pause = pause
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.api_key_variable = api_key_variable
        self.max_answer_bytes = max_answer_bytes
        self._client: httpx.Client | None = None

    def check(self) -> None:
        """See whether the key is there.

        Raises:
            ConfigurationError: If it is not.
        """
        if self.api_key_variable is not None and not os.environ.get(self.api_key_variable):
            raise ConfigurationError(
                f"The environment variable {self.api_key_variable} is not set, which holds the key for {self.url}."
                " Set it, or leave api_key_variable out."
            )

    def load(self, device: torch.device) -> None:
        """Get a client; it connects when it first asks."""
        if self._client is None:
            key = os.environ.get(self.api_key_variable or "")
            self._client = httpx.Client(
                timeout=self.timeout,
                follow_redirects=False,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                limits=httpx.Limits(max_connections=self.concurrency),
            )

    def unload(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """What the server answers: ``B`` lists of ``n``.

        Raises:
            TimeoutError: If it did not answer in time, on any attempt.
            RuntimeError: If it could not be reached, or failed.
            ProtocolError: If its answer is not what the protocol says.
        """
        items = [
            self._item(prompt, response) for prompt, row in zip(prompts, responses, strict=True) for response in row
        ]
        with ThreadPoolExecutor(self.concurrency) as threads:
            parts = list(threads.map(self._ask, split_every(items, self.batch_size)))
        return split_every([score for part in parts for score in part], len(responses[0]))

    def _item(self, prompt: Prompt, response: str) -> Item:
        content = content_of(prompt.prompt)
        known = {"prompt": content, "messages": messages_of(prompt.prompt), "response": response}
        return Item(content, response, self.text.fill({**prompt.columns, **known}), prompt.answer)

    def _ask(self, items: Sequence[Item]) -> list[float | None]:
        attempts = Retrying(
            stop=stop_after_attempt(self.retries + 1),
            wait=wait_random_exponential(multiplier=self.pause, max=60),
            retry=retry_if_exception_type((UnavailableError, TimeoutError)),
            reraise=True,
        )
        body = attempts(self._post, self.protocol.request(items))
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise ProtocolError(f"{self.url} did not answer in JSON: {error}") from None
        try:
            return checked(self.protocol.scores(answer), len(items))
        except ProtocolError as error:
            raise ProtocolError(f"{self.url}: {error}") from None

    def _post(self, body: dict[str, Any]) -> bytes:
        """One attempt."""
        assert self._client is not None
        deadline = time.monotonic() + self.timeout
        received = bytearray()
        try:
            with self._client.stream("POST", self.url, json=body) as answer:
                status = answer.status_code
                if status in {408, 429} or status >= 500:
                    raise UnavailableError(f"{self.url} answered with status {status}")
                if status != 200:
                    where = f" to {answer.headers['location']}" if "location" in answer.headers else ""
                    raise RuntimeError(f"{self.url} answered with status {status}{where}")
                for part in answer.iter_bytes():
                    received += part
                    if len(received) > self.max_answer_bytes:
                        raise ProtocolError(f"{self.url} answered with more than {self.max_answer_bytes} bytes")
                    # httpx bounds the wait for each piece; a server that drips would never be too late.
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{self.url} did not finish its answer within {self.timeout} seconds")
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{self.url} did not answer within {self.timeout} seconds") from error
        except httpx.TransportError as error:
            raise UnavailableError(f"{self.url} cannot be reached: {error}") from error
        return bytes(received)
