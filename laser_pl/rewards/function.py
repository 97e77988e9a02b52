"""A Python function as reward model, with the signature TRL gives its reward functions."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.asker import GIVEN, Asker
from laser_pl.rewards.base import RewardModel

Values = Sequence[float | None]
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class FunctionReward(RewardModel):
    """Scores a response by a function of your own, or any reward function of TRL's.

    ``function(prompts=..., completions=..., **columns) -> list[float | None]`` is called, which may be ``async``. The
    lists hold one entry per response; the columns are the data set's others, repeated likewise, as far as the function
    takes them. Columns named ``prompts`` or ``completions`` give way to what is asked about. Where the prompt is a
    chat, prompt and completion are lists of messages, as TRL has them. None is no opinion. In a run there are also
    ``completion_ids``, ``trainer_state``, ``log_metric`` (to every logger, as ``reward/<name>``) and ``log_extra``
    (which keeps nothing).

    A function that ends the process (``sys.exit``) has failed, no more. One whose calls all end in a TypeError is a
    mistake of the set-up: the second in a row, with no success before, ends the run.

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
        self._asker: Asker | None = None
        self._type_errors: float = 0  # so far; minus infinity once a call went well

    def asked_by(self, asker: Asker) -> None:
        """Have what TRL passes from now on."""
        self._asker = asker

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether the function can be called with the columns that there are.

        Raises:
            ConfigurationError: If it asks for one that is not there.
        """
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):  # some that are written in C have no signature
            return
        given = {"prompts", "completions", *GIVEN, *(name for prompt in prompts for name in prompt.columns)}
        missing = [
            parameter.name
            for parameter in parameters
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and not (parameter.name in given and parameter.kind in _BY_NAME)
        ]
        if missing:
            columns = ", ".join(sorted({name for prompt in prompts for name in prompt.columns})) or "none"
            raise ConfigurationError(
                f"The reward function {_name(self.function)} cannot be called: nobody gives it {', '.join(missing)}."
                f" It can have, by name, prompts, completions, {', '.join(GIVEN)} and the data set's other columns"
                f" (here: {columns}). Rename the parameter, or give it a default."
            )

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """What the function returns: ``B`` lists of ``n``.

        Raises:
            ConfigurationError: If it does not return a number, or None, for each response, or can never be called.
            RuntimeError: If it tries to end the process.
            TimeoutError: If it takes longer than ``timeout``.
        """
        name, count = _name(self.function), sum(map(len, responses))
        try:
            values = self._call(self._arguments(prompts, responses))
        except TypeError as error:
            self._type_errors += 1
            if self._type_errors > 1:
                raise ConfigurationError(
                    f"The reward function {name} has failed at every call: TypeError: {error}. Mend it."
                ) from error
            raise
        self._type_errors = -float("inf")
        if isinstance(values, (str, bytes, Mapping, Set)):
            raise ConfigurationError(
                f"The reward function {name} must return a list of numbers: it returned a {type(values).__name__}."
            )
        try:
            scores = [None if value is None else float(value) for value in values]
        except (TypeError, ValueError, OverflowError) as error:
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
        asker = self._asker
        trl = {} if asker is None else asker.arguments(repeated, [text for row in responses for text in row])
        given = {**columns, **trl, "prompts": [prompt.prompt for prompt in repeated], "completions": completions}
        return {name: value for name, value in given.items() if _takes(self.function, name)}

    def _call(self, arguments: dict[str, Any]) -> Values:
        def call() -> Values:
            try:
                result = self.function(**arguments)
                values: Values = asyncio.run(_wait(result, self.timeout)) if inspect.isawaitable(result) else result
                return list(values) if isinstance(values, Iterator) else values
            except (SystemExit, asyncio.CancelledError) as error:
                raise RuntimeError(f"it tried to end the process ({error!r})") from error
            except KeyboardInterrupt as error:
                # A run listens to signals itself, so that this one is the function's own.
                if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                    raise
                raise RuntimeError("it raised KeyboardInterrupt") from error

        # A notebook runs a loop in this thread, and a loop cannot run inside another.
        if self.timeout is None and not inspect.iscoroutinefunction(self.function):
            return call()
        patience = 0.0 if self.timeout is None else min(1.0, self.timeout)  # for a coroutine to be stopped in
        return in_thread(call, self.timeout, patience if inspect.iscoroutinefunction(self.function) else 0.0)


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


async def _wait(result: Any, timeout: float | None) -> Values:
    """What it comes to; it is stopped where that takes too long."""
    task: asyncio.Future[Values] = asyncio.ensure_future(result)
    done, _ = await asyncio.wait({task}, timeout=timeout)
    if not done:
        task.cancel()
        raise TimeoutError(f"no answer within {timeout} seconds")
    return task.result()


def in_thread(call: Callable[[], Values], timeout: float | None, patience: float = 0.0) -> Values:
    """What ``call`` returns or raises, from a thread of its own.

    Raises:
        TimeoutError: If that takes longer than ``timeout`` seconds, and ``patience`` more in which it may end itself.
            The thread is left behind; it does not keep the process from ending.
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
    thread.join(None if timeout is None else timeout + patience)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {timeout} seconds")
    if failure:
        raise failure[0]
    return outcome[0]
