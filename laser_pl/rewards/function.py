"""A Python function as reward model, with the signature TRL gives its reward functions."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel

Values = Sequence[float | None]
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class FunctionReward(RewardModel):
    """Scores a response by a function of your own, or any reward function of TRL's.

    ``function(prompts=..., completions=..., **columns) -> list[float | None]`` is called, which may be ``async``. The
    lists hold one entry per response; the columns are the data set's others, repeated likewise, as far as the function
    takes them. Columns named ``prompts`` or ``completions`` give way to what is asked about. Where the prompt is a
    chat, prompt and completion are lists of messages, as TRL has them. None is no opinion.

    Args:
        function: The function, or in a config its import path, such as ``my_rewards.length``.
        timeout: Seconds after which a call is given up; null waits for ever. A function that is no coroutine cannot be
            stopped and goes on in the background.
    """

    def __init__(self, function: Callable[..., Any], timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"timeout must be > 0 seconds, got {timeout}. Set it in the function's config.")
        self.function = function
        self.timeout = timeout

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether the function can be called with the columns that there are.

        Raises:
            ConfigurationError: If it asks for one that is not there.
        """
        try:
            inspect.signature(self.function).bind(**self._arguments(prompts, [[""]] * len(prompts)))
        except TypeError as error:
            columns = ", ".join(sorted({name for prompt in prompts for name in prompt.columns})) or "none"
            raise ConfigurationError(
                f"The reward function {_name(self.function)} cannot be called: {error}. It can have prompts,"
                f" completions and the data set's other columns (here: {columns})."
            ) from error
        except ValueError:  # some that are written in C have no signature
            pass

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """What the function returns: ``B`` lists of ``n``.

        Raises:
            ConfigurationError: If it does not return a number, or None, for each response.
            TimeoutError: If it takes longer than ``timeout``.
        """
        values = self._call(self._arguments(prompts, responses))
        name, count = _name(self.function), sum(map(len, responses))
        try:
            scores = [None if value is None else float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"The reward function {name} must return a list of numbers: {error}.") from error
        if len(scores) != count:
            raise ConfigurationError(f"The reward function {name} returned {len(scores)} values for {count} responses.")
        n = len(responses[0])
        return [scores[start : start + n] for start in range(0, len(scores), n)]

    def _arguments(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> dict[str, Any]:
        """What the function is given, by name: lists with an entry for each response."""
        repeated = [prompt for prompt, row in zip(prompts, responses, strict=True) for _ in row]
        completions = [
            response if isinstance(prompt.prompt, str) else [{"role": "assistant", "content": response}]
            for prompt, row in zip(prompts, responses, strict=True)
            for response in row
        ]
        names = {name for prompt in prompts for name in prompt.columns}
        columns = {name: [prompt.columns.get(name) for prompt in repeated] for name in sorted(names)}
        given = {**columns, "prompts": [prompt.prompt for prompt in repeated], "completions": completions}
        return {name: value for name, value in given.items() if _takes(self.function, name)}

    def _call(self, arguments: dict[str, Any]) -> Values:
        def call() -> Values:
            result = self.function(**arguments)
            values: Values = asyncio.run(_wait(result)) if inspect.isawaitable(result) else result
            return values

        # A notebook runs a loop in this thread, and a loop cannot run inside another.
        if self.timeout is None and not inspect.iscoroutinefunction(self.function):
            return call()
        return in_thread(call, self.timeout)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function can be given an argument of that name.

    A method, a callable object and a partial have arguments already: ``self`` is one, whatever a column is called.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some that are written in C have none
        return True
    if name in parameters and parameters[name].kind in _BY_NAME:
        return True
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return False
    inner = function.func if isinstance(function, partial) else getattr(function, "__func__", type(function).__call__)
    has = None if inspect.isfunction(function) else inspect.signature(inner).parameters.get(name)
    return has is None or has.kind not in _BY_NAME


async def _wait(result: Any) -> Values:
    values: Values = await result
    return values


def in_thread(call: Callable[[], Values], timeout: float | None) -> Values:
    """What ``call`` returns or raises, from a thread of its own.

    Raises:
        TimeoutError: If that takes longer than ``timeout`` seconds. The thread is left behind; it does not keep the
            process from ending.
    """
    outcome: list[Values] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {timeout} seconds")
    if failure:
        raise failure[0]
    return outcome[0]
