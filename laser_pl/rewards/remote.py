"""A reward model behind HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import httpx
import torch
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from laser_pl.batches import Prompt
from laser_pl.data.plan import split_every
from laser_pl.data.templates import SandboxedText, content_of, messages_of
from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import key_in_address, masked, masked_in
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.protocols import Item, Protocol, ProtocolError, checked
from laser_pl.runtime import progress

T = TypeVar("T")


class UnavailableError(RuntimeError):
    """The server cannot answer now; asking again may help."""


class RemoteReward(RewardModel):
    """Asks a server, in several requests at a time over connections that are kept open.

    A request that fails for want of a connection, of time, or with a status that may pass (408, 429, 5xx) is repeated
    after a random pause that doubles. What stays failed raises, and the pool counts it. Only ``url`` is ever asked:
    redirects are refused, and the environment's proxies and ``.netrc`` are not used. An answer is asked for without
    compression, and is not read beyond ``max_answer_bytes``. Characters that UTF-8 lacks are sent as question marks.

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
        _check_address(url)
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
        self._background: Background | None = None
        self._client: httpx.AsyncClient | None = None

    def check(self) -> None:
        """See whether the key is there.

        Raises:
            ConfigurationError: If it is not, or cannot be sent.
        """
        self._authorization()

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
            self._client = httpx.AsyncClient(
                headers={"Accept-Encoding": "identity", "Content-Type": "application/json", **self._authorization()},
                timeout=None,  # each attempt has one as a whole: a server that drips would never be too late for this
                limits=httpx.Limits(max_connections=self.concurrency),
                follow_redirects=False,
                trust_env=False,  # neither its proxies nor the passwords in .netrc
                verify=httpx.create_ssl_context(),  # its certificates still count
            )
            self._background = Background()

    def unload(self) -> None:
        """Close the connections."""
        if self._client is not None and self._background is not None:
            self._background.wait(self._client.aclose())
            self._background.close()
            self._client = self._background = None

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """What the server answers: ``B`` lists of ``n``.

        Raises:
            TimeoutError: If it did not answer in time, on any attempt.
            RuntimeError: If it could not be reached, or failed.
            ProtocolError: If its answer is not what the protocol says.
        """
        assert self._background is not None
        items = [
            self._item(prompt, response) for prompt, row in zip(prompts, responses, strict=True) for response in row
        ]
        try:
            parts = self._background.wait(self._ask_all(split_every(items, self.batch_size)))
        except (RuntimeError, ProtocolError) as error:  # their messages quote the server, which knows the key
            raise type(error)(masked(str(error), self._key)) from None
        return split_every([score for part in parts for score in part], len(responses[0]))

    @property
    def _key(self) -> str | None:
        return os.environ.get(self.api_key_variable or "")

    def _authorization(self) -> dict[str, str]:
        if self.api_key_variable is None:
            return {}
        key = os.environ.get(self.api_key_variable, "")
        if not key:
            raise ConfigurationError(
                f"The environment variable {self.api_key_variable} is not set, which holds the key for {self.url}."
                " Set it, or leave api_key_variable out."
            )
        if not key.isascii() or not key.isprintable() or " " in key:  # a header's error message would show it
            raise ConfigurationError(
                f"The environment variable {self.api_key_variable} holds a space, a line break or another character"
                f" that cannot stand in a key for {self.url}. Set it to the key alone."
            )
        return {"Authorization": f"Bearer {key}"}

    def _item(self, prompt: Prompt, response: str) -> Item:
        content = content_of(prompt.prompt)
        known = {"prompt": content, "messages": messages_of(prompt.prompt), "response": response}
        return Item(content, response, self.text.fill({**prompt.columns, **known}), prompt.answer)

    async def _ask_all(self, groups: Sequence[Sequence[Item]]) -> list[list[float | None]]:
        free = asyncio.Semaphore(self.concurrency)

        async def ask(items: Sequence[Item]) -> list[float | None]:
            async with free:
                scores = await self._ask(items)
            progress.advance(len(items))
            return scores

        tasks = [asyncio.create_task(ask(items)) for items in groups]
        try:
            return await asyncio.gather(*tasks)
        finally:  # the first failure ends the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, items: Sequence[Item]) -> list[float | None]:
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self.retries + 1),
            wait=wait_random_exponential(multiplier=self.pause, max=60),
            retry=retry_if_exception_type((UnavailableError, TimeoutError)),
            reraise=True,
        )
        body = json.dumps(self.protocol.request(items), ensure_ascii=False).encode("utf-8", "replace")
        answer: bytes = await attempts(self._attempt, body)
        return self.read(answer, len(items))

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

    async def _attempt(self, body: bytes) -> bytes:
        try:
            return await asyncio.wait_for(self._post(body), self.timeout)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            raise TimeoutError(f"{self.url} did not answer within {self.timeout} seconds") from None
        except httpx.TransportError as error:
            raise UnavailableError(f"{self.url} cannot be reached ({type(error).__name__}: {error})") from error

    async def _post(self, body: bytes) -> bytes:
        assert self._client is not None
        received = bytearray()
        async with self._client.stream("POST", self.url, content=body) as answer:
            status = answer.status_code
            if status in {408, 429} or status >= 500:
                raise UnavailableError(f"{self.url} answered with status {status}")
            if status != 200:
                location = masked(answer.headers.get("location", ""), self._key)[:200]
                where = f" to {location!r}" if location else ""
                raise RuntimeError(f"{self.url} answered with status {status}{where}")
            async for part in answer.aiter_raw():  # as it came: what unpacks to gigabytes is never unpacked
                received += part
                if len(received) > self.max_answer_bytes:
                    raise ProtocolError(f"{self.url} answered with more than {self.max_answer_bytes} bytes")
        return bytes(received)


class Background:
    """An event loop in a thread of its own; a notebook runs one in ours, and a loop cannot run inside another.

    All that waits in it can be given up at any time, which a thread that waits for a socket cannot.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises; an interrupt ends it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End loop and thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _check_address(url: str) -> None:
    """See whether something can be sent there.

    Raises:
        ConfigurationError: If not.
    """
    try:
        address = httpx.URL(url)
        host, port = address.host, 80 if address.port is None else address.port
        address.raw_host.decode().encode("idna")  # as the look-up will, if only when the first score is asked for
    except (httpx.InvalidURL, UnicodeError, TypeError) as error:
        raise ConfigurationError(f"{url!r} is no address: {error}. Set the remote reward model's url.") from error
    if found := key_in_address(url):
        raise ConfigurationError(
            f"The remote reward model's url holds {found} for {host}, and would stand in logs. Leave it out,"
            " and name the environment variable that holds a key in api_key_variable."
        )
    if address.scheme not in {"http", "https"} or not host or "%" in host or not 0 < port < 2**16:
        raise ConfigurationError(f"'{url}' is no http or https address. Set the remote reward model's url.")
