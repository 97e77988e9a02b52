"""Asking a server over HTTP, several requests at a time, again where that may help."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import key_in_address, masked
from laser_pl.runtime.retry_after import seconds_to_wait

T = TypeVar("T")

_OF_A_REFUSAL = 2000
"""Most bytes that are read of an answer that says no."""
_LONGEST_PAUSE = 60.0
"""Seconds. A server that wants a longer one (a day's quota) is not asked again: the rest of the run need not wait."""


class UnavailableError(RuntimeError):
    """The server cannot answer now; asking again may help.

    Args:
        message: What happened.
        answer: The beginning of what it said, if it said anything.
        wait: Seconds for which it does not want to be asked.
    """

    def __init__(self, message: str, answer: str = "", wait: float = 0.0) -> None:
        super().__init__(message)
        self.answer = answer
        self.wait = wait


class RefusedError(RuntimeError):
    """The server answered, and not with what was asked for.

    Args:
        message: What happened.
        status: HTTP's.
        answer: The beginning of what it said.
    """

    def __init__(self, message: str, status: int, answer: str) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


class OversizedError(RuntimeError):
    """The server answered with more than will be read."""


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        url: Where.
        body: JSON to POST; None asks by GET.
    """

    url: str
    body: bytes | None = None


class HttpClient:
    """Asks over connections that are kept open.

    A request that fails for want of a connection, of time, or with a status that may pass (408, 429, 5xx) is repeated
    after a random pause that doubles. Where a 429 or 503 says ``Retry-After``, nothing is asked until then; a server
    that wants more than a minute of that is not asked again. Only what is named is ever asked: redirects are refused,
    and the environment's proxies and ``.netrc`` are not used. An answer is asked for without compression, and is not
    read beyond a limit.

    Args:
        timeout: Seconds for one attempt, from the look-up of the server's name to the last byte.
        retries: Attempts after the first.
        pause: Most seconds of the pause before the first of them.
        concurrency: Requests at a time.
        max_answer_bytes: Longest answer in bytes.
        key: Sent as a bearer token with every request, and shown by no message; None sends none.
    """

    def __init__(
        self,
        *,
        timeout: float,
        retries: int,
        pause: float,
        concurrency: int,
        max_answer_bytes: int,
        key: str | None = None,
    ) -> None:
        self.timeout = timeout
        self.retries = retries
        self.pause = pause
        self.concurrency = concurrency
        self.max_answer_bytes = max_answer_bytes
        self.key = key
        authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json", **authorization},
            timeout=None,  # each attempt has one as a whole: a server that drips would never be too late for this
            limits=httpx.Limits(max_connections=concurrency),
            follow_redirects=False,
            trust_env=False,  # neither its proxies nor the passwords in .netrc
            verify=httpx.create_ssl_context(),  # its certificates still count
        )
        self._background = Background()
        self._not_before = 0.0  # of the loop's clock: what one request is told, the others mind as well

    def close(self) -> None:
        """Close the connections."""
        self._background.wait(self._client.aclose())
        self._background.close()

    def ask(
        self,
        requests: Sequence[Request],
        answered: Callable[[int, bytes], T],
        refused: Callable[[int, RefusedError], T] | None = None,
    ) -> list[T]:
        """Ask all, and read each answer as it comes.

        Args:
            requests: They.
            answered: From a request's number and its answer to what becomes of it. What it raises ends the others.
            refused: The same where the server refuses it; null raises what it would be given.

        Returns:
            In the order of the requests.

        Raises:
            TimeoutError: If it did not answer in time, on any attempt.
            UnavailableError: If it could not be reached, or failed.
            RefusedError: If it answered with another status than 200.
            OversizedError: If its answer is too long.
        """
        return self._background.wait(self._ask_all(requests, answered, refused))

    async def _ask_all(
        self,
        requests: Sequence[Request],
        answered: Callable[[int, bytes], T],
        refused: Callable[[int, RefusedError], T] | None,
    ) -> list[T]:
        free = asyncio.Semaphore(self.concurrency)

        async def ask(number: int, request: Request) -> T:
            try:
                async with free:
                    answer: bytes = await self._attempts()(self._attempt, request)
            except RefusedError as error:
                if refused is None:
                    raise
                return refused(number, error)
            return answered(number, answer)

        tasks = [asyncio.create_task(ask(number, request)) for number, request in enumerate(requests)]
        try:
            return await asyncio.gather(*tasks)
        finally:  # the first failure ends the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _attempts(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=stop_after_attempt(self.retries + 1),
            wait=wait_random_exponential(multiplier=self.pause, max=_LONGEST_PAUSE),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )

    async def _attempt(self, request: Request) -> bytes:
        url, loop = request.url, asyncio.get_running_loop()
        while (wait := self._not_before - loop.time()) > 0:  # it may move on meanwhile
            await asyncio.sleep(wait)
        try:
            return await asyncio.wait_for(self._send(request), self.timeout)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            raise TimeoutError(f"{url} did not answer within {self.timeout} seconds") from None
        except httpx.TransportError as error:
            raise UnavailableError(f"{url} cannot be reached ({type(error).__name__}: {error})") from error

    async def _send(self, request: Request) -> bytes:
        method, url = "GET" if request.body is None else "POST", request.url
        async with self._client.stream(method, url, content=request.body) as answer:
            status = answer.status_code
            if status != 200:
                said = await _read(answer, _OF_A_REFUSAL)
                text = masked(said[:_OF_A_REFUSAL].decode("utf-8", "replace"), self.key)
                if status in {408, 429} or status >= 500:
                    wait = seconds_to_wait(answer.headers.get("retry-after")) if status in {429, 503} else 0.0
                    if wait <= _LONGEST_PAUSE:
                        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)
                    wants = f", and wants to be left alone for {wait:.0f} seconds" if wait > _LONGEST_PAUSE else ""
                    raise UnavailableError(f"{url} answered with status {status}{wants}", text, wait)
                location = masked(answer.headers.get("location", ""), self.key)[:200]
                where = f" to {location!r}" if location else ""
                raise RefusedError(f"{url} answered with status {status}{where}", status, text)
            received = await _read(answer, self.max_answer_bytes)
            if len(received) > self.max_answer_bytes:
                raise OversizedError(f"{url} answered with more than {self.max_answer_bytes} bytes")
        return received


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or (isinstance(error, UnavailableError) and error.wait <= _LONGEST_PAUSE)


async def _read(answer: httpx.Response, limit: int) -> bytes:
    """The body as it came, since what unpacks to gigabytes is never unpacked; a little more than a limit at most."""
    received = bytearray()
    async for part in answer.aiter_raw():
        received += part
        if len(received) > limit:
            break
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


def check_attempts(timeout: float, retries: int, pause: float, whose: str, where: str) -> None:
    """See whether requests could be made so often, and so long.

    Args:
        timeout: As of ``HttpClient``.
        retries: As there.
        pause: As there.
        whose: They are, for messages: "A remote reward model".
        where: They are set.

    Raises:
        ConfigurationError: If not.
    """
    if not timeout > 0 or not pause >= 0 or retries < 0:
        raise ConfigurationError(
            f"{whose} needs timeout > 0, retries >= 0 and pause >= 0, got {timeout}, {retries} and {pause}. Set them in"
            f" {where}."
        )


def check_address(url: str, whose: str) -> None:
    """See whether something can be sent there.

    Args:
        url: The address.
        whose: It belongs to, for messages: "the remote reward model".

    Raises:
        ConfigurationError: If not.
    """
    try:
        address = httpx.URL(url)
        host, port = address.host, 80 if address.port is None else address.port
        address.raw_host.decode().encode("idna")  # as the look-up will, if only when the first answer is asked for
    except (httpx.InvalidURL, UnicodeError, TypeError) as error:
        raise ConfigurationError(f"{url!r} is no address: {error}. Set {whose}'s url.") from error
    if found := key_in_address(url):
        raise ConfigurationError(
            f"{whose[0].upper()}{whose[1:]}'s url holds {found} for {host}, and would stand in logs. Leave it out,"
            " and name the environment variable that holds a key in api_key_variable."
        )
    if address.scheme not in {"http", "https"} or not host or "%" in host or not 0 < port < 2**16:
        raise ConfigurationError(f"'{url}' is no http or https address. Set {whose}'s url.")


def key_of(variable: str | None, url: str) -> str | None:
    """A server's key, from the environment.

    Args:
        variable: The name of the variable; None where the server wants no key.
        url: The server's address, for messages.

    Raises:
        ConfigurationError: If it is not there, or cannot be sent.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise ConfigurationError(
            f"The environment variable {variable} is not set, which holds the key for {url}. Set it, or leave"
            " api_key_variable out."
        )
    if not key.isascii() or not key.isprintable() or " " in key:  # a header's error message would show it
        raise ConfigurationError(
            f"The environment variable {variable} holds a space, a line break or another character that cannot stand in"
            f" a key for {url}. Set it to the key alone."
        )
    return key
