"""A reward model behind HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from laser_pl.batches import Prompt
from laser_pl.data.plan import split_every
from laser_pl.data.templates import SandboxedText, content_of, messages_of
from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked, masked_in
from laser_pl.rewards.protocols import Item, Protocol, ProtocolError, checked
from laser_pl.rewards.served import ServedReward
from laser_pl.runtime import progress
from laser_pl.runtime.http_client import OversizedError, Request


class RemoteReward(ServedReward):
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
        super().__init__(
            "remote reward model", url, timeout, retries, pause, concurrency, api_key_variable, max_answer_bytes
        )
        self.protocol = protocol
        self.text = SandboxedText(text, "The remote reward model's text")
        self.batch_size = batch_size

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether ``text`` can be filled from every prompt's row."""
        for prompt in prompts:
            self._item(prompt, "")

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
        return self._decoded(answer, lambda found: checked(self.protocol.scores(masked_in(found, self._key)), count))
