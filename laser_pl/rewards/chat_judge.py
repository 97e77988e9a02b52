"""A language model behind a chat endpoint, as a judge."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx
import torch

from laser_pl.batches import Prompt
from laser_pl.data.plan import split_every
from laser_pl.data.templates import SandboxedText
from laser_pl.errors import ConfigurationError
from laser_pl.messages.keys import masked
from laser_pl.messages.places import absolute
from laser_pl.rewards.chat_reply import Reply, received
from laser_pl.rewards.judge import filled
from laser_pl.rewards.pairwise_judge import COMPARE, both_orders, schedule, standings
from laser_pl.rewards.pointwise_judge import RATE
from laser_pl.rewards.protocols import ProtocolError
from laser_pl.rewards.reply_cache import ReplyCache, refuse_as_folder
from laser_pl.rewards.served import ServedReward
from laser_pl.runtime import progress
from laser_pl.runtime.http_client import OversizedError, RefusedError, Request, UnavailableError

_ABOUT_THE_TEXT = {400, 413, 422}
"""Statuses that refuse one text (too long, filtered); others are about the key, the model or the address."""
_QUOTED = 500
"""Most characters of what a server said in messages and in the cache."""


class ChatJudge(ServedReward):
    r"""Asks an OpenAI-compatible chat endpoint for ratings, or which of two responses is better.

    The rating is the expected one, :math:`\sum_a v_a \, p(a)` over the answers' probabilities, where the server gives
    log-probabilities, else the one that was said. Comparisons are made in both orders, as ``PairwiseJudge`` makes them.
    A reply that gives none of the answers, and a text that the server refuses, are no opinion. A text that comes twice
    is sent once. Requests are repeated as ``laser_pl.runtime.http_client.HttpClient`` says; ``Retry-After`` is obeyed.

    Args:
        url: The endpoint, such as ``http://localhost:8000/v1/chat/completions``.
        model: The name under which the server knows the model.
        template: A Jinja template of the user's turn; null asks as the judges with weights do. In Jinja's sandbox it
            sees ``prompt`` (a string), ``messages`` (the prompt as a chat), ``response``, or ``response_a`` and
            ``response_b``, ``answer``, and every other column by its name.
        answers: What each answer is worth; null for ratings from 1 to 5, or for A and B. In comparisons it is how much
            of the win goes to the response that is shown first: ``{A: 1, B: 0, tie: 0.5}``.
        opponents: How many others each response meets at least; null rates each response alone.
        max_tokens: Longest reply.
        extra_body: What requests hold besides, by name. Null as a value leaves a field out, such as ``logprobs`` for a
            server that knows none.
        timeout: Seconds for one attempt, from the look-up of the server's name to the last byte.
        retries: Attempts after the first.
        pause: Most seconds of the pause before the first of them.
        concurrency: Requests at a time.
        api_key_variable: The environment variable with the server's key; null sends none. It is sent as a bearer token.
        max_answer_bytes: Longest answer in bytes.
        cache: A folder where replies are kept, so that no run pays for one twice; null keeps none.
        prompt_price: Price of a million tokens that are sent.
        completion_price: Price of a million tokens that are received.
    """

    def __init__(
        self,
        url: str,
        model: str,
        template: str | None = None,
        answers: dict[str, float] | None = None,
        opponents: int | None = None,
        max_tokens: int = 16,
        extra_body: dict[str, Any] | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        pause: float = 1.0,
        concurrency: int = 8,
        api_key_variable: str | None = None,
        max_answer_bytes: int = 2**20,
        cache: str | None = None,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
    ) -> None:
        counts = {"max_tokens": max_tokens, "concurrency": concurrency, "max_answer_bytes": max_answer_bytes,
                  "opponents": 1 if opponents is None else opponents}  # fmt: skip
        for name, value in counts.items():
            if value < 1:
                raise ConfigurationError(f"{name} must be >= 1, got {value}. Set the chat judge's {name}.")
        super().__init__("chat judge", url, timeout, retries, pause, concurrency, api_key_variable, max_answer_bytes)
        for name, price in {"prompt_price": prompt_price, "completion_price": completion_price}.items():
            if not 0 <= price < math.inf:
                raise ConfigurationError(f"{name} must be >= 0, got {price}. Set the chat judge's {name}.")
        _check_endpoint(url)
        self.answers = _checked_answers(answers, compares=opponents is not None)
        self.model = model
        default = RATE if opponents is None else COMPARE
        self.template = SandboxedText(default if template is None else template, "The chat judge's template")
        self.opponents = opponents
        self.max_tokens = max_tokens
        self.extra_body = dict(extra_body or {})
        self.cache = None if cache is None else str(absolute(cache))
        self.prompt_price = prompt_price
        self.completion_price = completion_price
        self._kept: ReplyCache | None = None
        self._spent: Counter[str] = Counter()

    def check(self) -> None:
        """See whether the key is there, and whether replies could be kept.

        Raises:
            ConfigurationError: If not.
        """
        super().check()
        if self.cache is not None:
            refuse_as_folder(self.cache)

    def check_texts(self, prompts: Sequence[Prompt], characters: Callable[[], str]) -> None:
        """See whether the template can be filled from every prompt's row."""
        for prompt in prompts:
            self._texts(prompt, ["", ""])

    def forwards_per_response(self, n: int) -> float:
        """Replies; two for each comparison, shared by its two responses."""
        return 1.0 if self.opponents is None else 2.0 * len(schedule(n, self.opponents)) / n

    def load(self, device: torch.device) -> None:
        """Get a client, which connects when it first asks, and read the replies that were kept.

        Raises:
            ConfigurationError: If the key is not there, or replies cannot be kept.
        """
        super().check()  # before a folder is made
        if self._kept is None and self.cache is not None:
            self._kept = ReplyCache(Path(self.cache), self.answers)
        super().load(device)

    def unload(self) -> None:
        """Close the connections, and forget the replies that were read."""
        super().unload()
        self._kept = None

    def spent(self) -> Mapping[str, float]:
        """Requests that were answered, replies from the cache, tokens, cost, and replies of two kinds.

        Those that gave no answer (``unread``), and those whose answer came without probabilities (``parsed``).
        """
        if not self._spent or not (self.prompt_price or self.completion_price):
            return dict(self._spent)
        prices = {"prompt_tokens": self.prompt_price, "completion_tokens": self.completion_price}
        return {**self._spent, "cost": sum(self._spent[what] * price for what, price in prices.items()) / 1e6}

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> list[list[float | None]]:
        """Ratings, or the share of comparisons that were won: ``B`` lists of ``n``; None where nothing was said.

        Raises:
            TimeoutError: If the server did not answer in time, on any attempt.
            RuntimeError: If it could not be reached, failed, or refused everything.
            ProtocolError: If its answer is no chat completion.
            ConfigurationError: If a reply cannot be kept.
        """
        n = len(responses[0])
        texts = [text for prompt, row in zip(prompts, responses, strict=True) for text in self._texts(prompt, row)]
        worths = [reply.worth(self.answers) for reply in self._replies(texts)]
        if self.opponents is None:
            return split_every(worths, n)
        if not texts:  # an only response has nobody to be compared with
            return [[None] * n for _ in prompts]
        first = torch.tensor([math.nan if one is None else one for one in worths], dtype=torch.float64)
        won = standings(first.view(len(prompts), -1, 2), schedule(n, self.opponents), n)
        return [[None if math.isnan(share) else share for share in row] for row in won.tolist()]

    def _texts(self, prompt: Prompt, responses: Sequence[str]) -> list[str]:
        """The template filled for all that has to be asked about a prompt's responses."""
        if self.opponents is None:
            return [filled(self.template, prompt, response=response) for response in responses]
        return both_orders(self.template, prompt, responses, schedule(len(responses), self.opponents))

    def _replies(self, texts: Sequence[str]) -> list[Reply]:
        """From the cache, and the others from the server."""
        bodies = [self._body(text) for text in texts]
        digests = [self._digest(body) for body in bodies]
        found: dict[str, Reply] = {}
        for digest in digests:
            known = None if self._kept is None else self._kept.find(digest)
            if known is not None and digest not in found:
                found[digest] = known
                self._spent["cached"] += 1
        times = Counter(digests)
        progress.advance(sum(times[digest] for digest in found))
        wanted = {digest: body for digest, body in zip(digests, bodies, strict=True) if digest not in found}
        found |= self._asked(wanted, times)
        for reply in found.values():
            self._spent["unread"] += reply.answer is None
            self._spent["parsed"] += reply.answer is not None and not reply.probabilities
        return [found[digest] for digest in digests]

    def _asked(self, bodies: Mapping[str, bytes], times: Mapping[str, int]) -> dict[str, Reply]:
        """What the server replies, by digest. Each reply is kept as it comes."""
        assert self._client is not None
        digests = list(bodies)
        refusals: list[RefusedError] = []

        def answered(number: int, answer: bytes) -> Reply:
            got = self._decoded(answer, lambda body: received(body, self.answers))
            self._spent.update({"requests": 1, "prompt_tokens": got.tokens[0], "completion_tokens": got.tokens[1]})
            if self._kept is not None:
                self._kept.keep(digests[number], got.reply, masked(got.text[: 2 * _QUOTED], self._key)[:_QUOTED])
            progress.advance(times[digests[number]])
            return got.reply

        def refused(number: int, error: RefusedError) -> Reply:
            if error.status not in _ABOUT_THE_TEXT:
                raise error
            refusals.append(error)
            progress.advance(times[digests[number]])
            return Reply()

        try:
            replies = self._client.ask([Request(self.url, body) for body in bodies.values()], answered, refused)
            if refusals and len(refusals) == len(digests):
                raise refusals[0]
        except OversizedError as error:
            raise ProtocolError(str(error)) from None
        except (RefusedError, UnavailableError, ProtocolError) as error:
            self._tell(error)
        return dict(zip(digests, replies, strict=True))

    def _tell(self, error: Exception) -> NoReturn:
        """Raise it with what the server said, which knows the key."""
        answer = " ".join(getattr(error, "answer", "").split())
        said = f", saying {answer[:_QUOTED]!r}" if answer else ""
        kind = ProtocolError if isinstance(error, ProtocolError) else RuntimeError
        raise kind(masked(f"{error}{said}", self._key)) from None

    def _body(self, text: str) -> bytes:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "logprobs": True,
            "top_logprobs": 20,
            **self.extra_body,
        }
        sent = {name: value for name, value in body.items() if value is not None}
        return json.dumps(sent, ensure_ascii=False).encode("utf-8", "replace")

    def _digest(self, body: bytes) -> str:
        """Of all that a reply's reading depends on; never of the key."""
        return hashlib.sha256(json.dumps([self.url, sorted(self.answers)]).encode() + body).hexdigest()


def _check_endpoint(url: str) -> None:
    path = httpx.URL(url).path.rstrip("/")
    if not path or path.endswith("/v1"):
        raise ConfigurationError(
            f"'{url}' is the address of a server, not of its chat endpoint. Set the chat judge's url, usually to"
            " .../v1/chat/completions."
        )


def _checked_answers(answers: Mapping[str, float] | None, compares: bool) -> dict[str, float]:
    if answers is None:
        return {"A": 1.0, "B": 0.0} if compares else {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5": 5.0}
    if len(answers) < 2 or not all(name == name.strip() and name for name in answers):
        raise ConfigurationError(
            f"A chat judge needs two answers or more, without white space around them, got {list(answers)}. Set its"
            " answers."
        )
    if not all(math.isfinite(worth) and (not compares or 0 <= worth <= 1) for worth in answers.values()):
        bounds = "from 0 to 1 in comparisons" if compares else "a finite number"
        raise ConfigurationError(f"What an answer is worth must be {bounds}, got {dict(answers)}. Set its answers.")
    return {name: float(worth) for name, worth in answers.items()}
