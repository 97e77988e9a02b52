"""A reward model that a server holds: its address, its connections, its key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.protocols import ProtocolError
from laser_pl.runtime.http_client import HttpClient, check_address, check_attempts, key_of

T = TypeVar("T")


class ServedReward(RewardModel):
    """Asks one address. Requests are repeated as ``laser_pl.runtime.http_client.HttpClient`` says.

    Args:
        name: What it is, for messages: "remote reward model".
        url: Where to POST to.
        timeout: Seconds for one attempt.
        retries: Attempts after the first.
        pause: Most seconds of the pause before the first of them.
        concurrency: Requests at a time.
        api_key_variable: The environment variable with the server's key; null sends none.
        max_answer_bytes: Longest answer in bytes.
    """

    def __init__(
        self,
        name: str,
        url: str,
        timeout: float,
        retries: int,
        pause: float,
        concurrency: int,
        api_key_variable: str | None,
        max_answer_bytes: int,
    ) -> None:
        check_attempts(timeout, retries, pause, f"A {name}", "its config")
        check_address(url, f"the {name}")
        self.url = url
        self.timeout = timeout
        self.retries = retries
        self.pause = pause
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

    @property
    def _key(self) -> str | None:
        return os.environ.get(self.api_key_variable or "")

    def _decoded(self, answer: bytes, read: Callable[[Any], T]) -> T:
        """What ``read`` makes of an answer.

        Raises:
            ProtocolError: If it is no JSON, or not what the protocol says.
        """
        try:
            return read(json.loads(answer))
        except ProtocolError as error:
            raise ProtocolError(f"{self.url}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{self.url} did not answer in JSON that can be read: {error}") from None
