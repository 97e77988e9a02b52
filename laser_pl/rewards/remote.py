"""A reward model behind HTTP."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence

import torch

from laser_pl.batches import Prompt
from laser_pl.data.plan import split_every
from laser_pl.data.templates import SandboxedText, content_of, messages_of
from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked, masked_in
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.protocols import Item, Protocol, ProtocolError, checked
from laser_pl.runtime import progress
from laser_pl.runtime.http_client import HttpClient, OversizedError, Request, check_address, key_of


class RemoteReward(RewardModel):
    """Asks a server, in several requests at a time.

    Requests are repeated as ``laser_pl.runtime.http_client.HttpClient`` says; only ``url`` is ever asked. What stays
    failed raises, and the pool counts it. Characters that UTF-8 lacks are sent as question marks.

    Args:
        url: Where to POST to, such as ``http://localhost:5000/get_reward``. Without a name or password, since it stands
            in messages and logs.
        protocol: What is sent and answered.
        text: A Jinja template of what a server reads that has none of its own. In Jinja's sandbox it
            sees ``prompt`` (a string), ``messages`` (the prompt as a chat), ``response``, and every other column.
        timeout: Seconds for one attempt, from the look-up of the server's name to the last byte.
        retries: Attempts after the first.
        pause: Most seconds of the pause before the first of them.
        batch_size: Responses per request.
        concurrency: Requests at a time.
        api_key_variable: The environment variable with the server's key; null sends none. It is sent as a bearer token.
        max_answer_bytes: Longest answer in bytes.
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
        max_answer_bytes: int = 2**20,
    ) -> None:
        counts = {"batch_size": batch_size, "concurrency": concurrency, "max_answer_bytes": max_answer_bytes}
        for name, value in counts.items():
            if value < 1:
                raise ConfigurationError(f"{name} must be >= 1, got {value}. Set the remote reward model's {name}.")
        if not timeout > 0 or not pause >= 0 or retries < 0:
            raise ConfigurationError(
                f"A remote reward model needs timeout > 0, retries >= 0 and pause >= 0, got {timeout}, {retries} and"
                f" {pause}. Set them in its config."
            )
        check_address(url, "the remote reward model")
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
        self._client: HttpClient | None = None

    def check(self) -> None:
        """See whether the key is there.

        Raises:
            ConfigurationError: If it is not, or cannot be sent.
        """
        key_of(self.api_key_variable, self.url)

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether ``text`` can be filled from every prompt's row."""
        for prompt in prompts:
            self._item(prompt, "")

    def load(self, device: torch.device) -> None:
        """Get a client; it connects when it first asks.

        Raises:
            ConfigurationError: If the key is not there, or cannot be sent.
        """
        if self._client is None:
            self._client = HttpClient(
                timeout=self.timeout,
                retries=self.retries,
                pause=self.pause,
                concurrency=self.concurrency,
                max_answer_bytes=self.max_answer_bytes,
                key=key_of(self.api_key_variable, self.url),
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
        assert self._client is not None
        items = [
            self._item(prompt, response) for prompt, row in zip(prompts, responses, strict=True) for response in row
        ]
        groups = split_every(items, self.batch_size)
        requests = [Request(self.url, self._body(group)) for group in groups]

        def answered(number: int, answer: bytes) -> list[float | None]:
            scores = self.read(answer, len(groups[number]))
            progress.advance(len(scores))
            return scores

        try:
            parts = self._client.ask(requests, answered)
        except OversizedError as error:
            raise ProtocolError(str(error)) from None
        except (RuntimeError, ProtocolError) as error:  # their messages quote the server, which knows the key
            kind = ProtocolError if isinstance(error, ProtocolError) else RuntimeError
            raise kind(masked(str(error), self._key)) from None
        return split_every([score for part in parts for score in part], len(responses[0]))

    def _body(self, items: Sequence[Item]) -> bytes:
        return json.dumps(self.protocol.request(items), ensure_ascii=False).encode("utf-8", "replace")

    @property
    def _key(self) -> str | None:
        return os.environ.get(self.api_key_variable or "")

    def _item(self, prompt: Prompt, response: str) -> Item:
        content = content_of(prompt.prompt)
        known = {"prompt": content, "messages": messages_of(prompt.prompt), "response": response}
        return Item(content, response, self.text.fill({**prompt.columns, **known}), prompt.answer)

    def read(self, answer: bytes, count: int) -> list[float | None]:
        """The scores in the body of an answer.

        Args:
            answer: Whatever the server sent.
            count: How many responses it was asked about.

        Raises:
            ProtocolError: If it is not what the protocol says.
        """
        try:
            return checked(self.protocol.scores(masked_in(json.loads(answer), self._key)), count)
        except ProtocolError as error:
            raise ProtocolError(f"{self.url}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{self.url} did not answer in JSON that can be read: {error}") from None
