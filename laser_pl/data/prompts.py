"""From rows to prompts: columns, template, splits, length."""

from __future__ import annotations

import hashlib
import logging
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from laser_pl.batches import Message, Prompt, PromptBatch
from laser_pl.data.messages import refuse_unusable, without_unwritable
from laser_pl.data.tables import Row, Table
from laser_pl.data.templates import Plain, SandboxedText, Template, content_of
from laser_pl.errors import ConfigurationError
from laser_pl.messages.suggestions import closest, perhaps
from laser_pl.messages.terminal import shown

log = logging.getLogger(__name__)

Overlong = Literal["drop", "cut", "middle"]
"""What becomes of long prompts: ``drop`` leaves them out, ``cut`` takes away the oldest tokens, ``middle`` those in the
middle, as LongBench does, since instructions stand at both ends."""


TEXTS_TOGETHER = 1000
"""Texts that a tokenizer reads at once."""

_SETTINGS = ("prompt", "answer", "category", "response")


@dataclass
class Columns:
    """Which column holds what: a column's name, or a Jinja template over all columns where none holds it as it is.

    Attributes:
        prompt: The prompt, a text or messages with ``role`` and ``content``.
        answer: The reference answer; null where there is none. In a row, null, NaN and blanks are none.
        category: The category; null puts all prompts into one.
        response: What a supervised policy learns to answer. It is read for nothing else.
    """

    prompt: str = "prompt"
    answer: str | None = "answer"
    category: str | None = "category"
    response: str | None = None

    def readers(self) -> dict[str, Callable[[Row], Any]]:
        """What takes prompt, answer, category and response out of a row.

        >>> read = Columns(answer="{{ 'ABCD'[key] }}", category=None).readers()
        >>> row = {"prompt": "Which?", "key": 2}
        >>> read["prompt"](row), read["answer"](row), read["category"](row)
        ('Which?', 'C', None)
        """
        return {name: _reader(getattr(self, name), name) for name in _SETTINGS}


def _reader(source: str | None, name: str) -> Callable[[Row], Any]:
    if source is None:
        return lambda row: None
    if is_template(source):
        return SandboxedText(source, f"data.columns.{name}").fill
    return lambda row: row.get(source)


def is_template(source: str | None) -> bool:
    """Whether a setting of ``Columns`` is a template, and no column's name."""
    return source is not None and ("{{" in source or "{%" in source)


def prompts_from(table: Table, columns: Columns, template: Template, tokenizer: Any) -> list[Prompt]:
    """Read and render all prompts of a table; what the policy would read twice, with the same answer, is kept once.

    Raises:
        ConfigurationError: If a column is missing, or a prompt is empty, of another type, or no chat to answer.
    """
    rows = table.rows()
    for setting in _SETTINGS:
        name = getattr(columns, setting)
        if name is not None and not is_template(name) and name not in rows[0]:
            raise ConfigurationError(
                f"'{table.path}' has no column '{name}', only {', '.join(map(str, rows[0]))}."
                f" Set data.columns.{setting}{'' if setting == 'prompt' else ' to one of them, or to null'}."
                + perhaps(closest(name, map(str, rows[0])))
            )
    read = columns.readers()
    prompts = without_repeats(
        _prompt(row, columns, read, template, tokenizer, where=f"{table.path}, row {number}")
        for number, row in enumerate(rows, start=1)
    )
    if len(prompts) < len(rows):
        log.info("%s: %d of %d rows repeat a prompt with its answer, and count once.", table.path,
                 len(rows) - len(prompts), len(rows))  # fmt: skip
    return prompts


def without_repeats(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The first of those that the policy reads alike, and that want the same answer and the same response."""
    found: dict[tuple[str | None, ...], Prompt] = {}
    for prompt in prompts:
        found.setdefault((prompt.text, prompt.answer, prompt.response), prompt)
    return list(found.values())


def _prompt(
    row: Row, columns: Columns, read: Mapping[str, Callable[[Row], Any]], template: Template, tokenizer: Any, where: str
) -> Prompt:
    prompt, answer, category, response = (read[name](row) for name in _SETTINGS)
    prompt = without_unwritable(prompt)
    refuse_unusable(prompt, f"{where}: column '{columns.prompt}'")
    others = {name: value for name, value in row.items() if name != columns.prompt}
    text = template.render(prompt, others, tokenizer)
    for written in (content_of(prompt), text):
        _refuse_half_characters(written, f"{where}: the prompt")
    response = _response(_label(response, columns.response, where), columns.response, where)
    return Prompt(
        id=content_hash(prompt, answer, template.shown(others), response),
        prompt=prompt,
        text=text,
        answer=_label(answer, columns.answer, where),
        category=_category(_label(category, columns.category, where), where),
        columns=others,
        response=response,
    )


def _label(value: Any, column: str | None, where: str) -> str | None:
    if isinstance(value, (list, dict, bytes)):
        raise ConfigurationError(f"{where}: column '{column}' must be a text or a number, got {type(value).__name__}.")
    if value is None or value != value or not str(value).strip():
        return None
    _refuse_half_characters(str(value), f"{where}: column '{column}'")
    return str(value)


def _response(text: str | None, column: str | None, where: str) -> str | None:
    if column is not None and text is None:
        raise ConfigurationError(f"{where}: column '{column}' holds no response to learn from. Take the row out.")
    return text


def _category(name: str | None, where: str) -> str:
    """A name that metrics and tables can have."""
    if name == "average":
        raise ConfigurationError(f"{where}: the category 'average' would be taken for the mean of all. Rename it.")
    return "all" if name is None else shown(name)


def _refuse_half_characters(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{what} holds half a character, {error.object[error.start]!r}, which no text in UTF-8 can."
        ) from None


def content_hash(
    prompt: str | list[Message], answer: Any, shown: Mapping[str, Any] = {}, response: str | None = None
) -> str:
    """A short name that follows from a row's content alone, so that splits survive a reordered file.

    The text that the policy reads follows from it too, but for what a template takes from elsewhere, such as the date.

    Args:
        prompt: The prompt.
        answer: Its reference answer.
        shown: Other columns that the template shows.
        response: The written response.
    """
    parts = (prompt, answer, *_asked_beside(shown), *([] if response is None else [response]))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _asked_beside(shown: Mapping[str, Any]) -> list[Any]:
    return [sorted(shown.items())] if shown else []


def digest_of_prompts(prompts: Sequence[Prompt]) -> str:
    """What distinguishes prompts from others, or from another order: their rows, whatever a template makes of them."""
    plain = (str, int, float, type(None))  # what else a column may hold does not always print alike
    columns = [sorted((k, v) for k, v in prompt.columns.items() if isinstance(v, plain)) for prompt in prompts]
    rows = [(prompt.id, prompt.category, shown) for prompt, shown in zip(prompts, columns, strict=True)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def split_by_hash(
    prompts: Sequence[Prompt],
    fraction: float,
    seed: int,
    salt: str,
    template: Template = Plain(),  # noqa: B008 - stateless
) -> tuple[list[Prompt], list[Prompt]]:
    """Take about ``fraction`` of the prompts out, chosen by a hash of the question alone.

    The same question with another answer lands on the same side, so nothing leaks. Of what ``template`` shows beside
    the prompt, such as a document, the question is a part.

    Returns:
        The rest and the part taken out.
    """
    rest: list[Prompt] = []
    taken: list[Prompt] = []
    for prompt in prompts:
        question = (salt, seed, prompt.prompt, *_asked_beside(template.shown(prompt.columns)))
        digest = hashlib.sha256(repr(question).encode()).digest()
        (taken if int.from_bytes(digest[:8], "big") < fraction * 2**64 else rest).append(prompt)
    return rest, taken


def prompt_ids(text: str, tokenizer: Any, special_tokens: bool = True) -> list[int]:
    """Token ids of a text that something is to follow.

    Args:
        text: The text.
        tokenizer: Any Hugging Face tokenizer.
        special_tokens: Whether the tokenizer sets its own; a chat template has set them already.

    Returns:
        The ids, with one BOS at most, and without the EOS that some tokenizers put behind every text.
    """
    # verbose: how long a text may be is reported elsewhere, in the user's own terms.
    ids: list[int] = tokenizer(text, add_special_tokens=special_tokens, verbose=False)["input_ids"]
    return to_go_on_from(ids, text, tokenizer)


def to_go_on_from(ids: list[int], text: str, tokenizer: Any) -> list[int]:
    """A text's ids with one BOS at most, and without the EOS that some tokenizers put behind every text."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    if eos is not None and ids[-1:] == [eos] and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    return ids


def fit_to_length(
    prompts: Sequence[Prompt],
    tokenizer: Any,
    limit: int,
    overlong: Overlong,
    special_tokens: bool = True,
) -> tuple[list[Prompt], int]:
    """Drop prompts of more than ``limit`` tokens, or leave them to be cut when they are encoded.

    Returns:
        The prompts that stay, and how many were too long.

    Raises:
        ConfigurationError: If the tokenizer cannot read a prompt, or makes no token of it.
    """
    fits = [length <= limit for length in token_lengths([prompt.text for prompt in prompts], tokenizer, special_tokens)]
    kept = list(prompts) if overlong != "drop" else [p for p, fit in zip(prompts, fits, strict=True) if fit]
    return kept, fits.count(False)


def token_lengths(texts: Sequence[str], tokenizer: Any, special_tokens: bool) -> Iterator[int]:
    """Tokens of each text. Many are read together, which a tokenizer does several times faster."""
    for start in range(0, len(texts), TEXTS_TOGETHER):
        some = list(texts[start : start + TEXTS_TOGETHER])
        try:
            rows = tokenizer(some, add_special_tokens=special_tokens, verbose=False)["input_ids"]
        except Exception:  # some tokenizers have no token for what they do not know, and raise no more than that
            rows = [_ids_of(text, tokenizer, special_tokens) for text in some]
        for text, ids in zip(some, rows, strict=True):
            length = len(to_go_on_from(ids, text, tokenizer))
            if length == 0:
                raise ConfigurationError(
                    f"The prompt {reprlib.repr(text)} comes to no token of '{tokenizer.name_or_path}'. Change"
                    " data.template, or take it out."
                )
            yield length


def _ids_of(text: str, tokenizer: Any, special_tokens: bool) -> list[int]:
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=special_tokens, verbose=False)["input_ids"]
    except Exception as error:
        raise ConfigurationError(
            f"The tokenizer of '{tokenizer.name_or_path}' cannot read the prompt {reprlib.repr(text)}: {error}. Take"
            " the prompt out, or another tokenizer."
        ) from error
    return ids


def encode(
    prompts: Sequence[Prompt], tokenizer: Any, limit: int, special_tokens: bool = True, overlong: Overlong = "cut"
) -> PromptBatch:
    """Token ids of some prompts, padded on the left; those beyond ``limit`` tokens are cut, but for their BOS."""
    start = _start(tokenizer)
    rows = [_cut(prompt_ids(prompt.text, tokenizer, special_tokens), limit, overlong, start) for prompt in prompts]
    return padded(prompts, rows, tokenizer.pad_token_id)


def padded(prompts: Sequence[Prompt], rows: Sequence[Sequence[int]], pad_id: int) -> PromptBatch:
    """Prompts and their token ids as a batch, padded on the left."""
    width = max(len(ids) for ids in rows)
    tokens = torch.full((len(rows), width), pad_id)
    mask = torch.zeros_like(tokens)
    for row, ids in enumerate(rows):
        tokens[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    return PromptBatch(tuple(prompts), tokens, mask)


def _start(tokenizer: Any) -> list[int]:
    """What the tokenizer sets before every text: BOS, or GLM's two tokens; where a template has to set it, BOS."""
    bos = tokenizer.bos_token_id
    return prompt_ids("", tokenizer) or ([] if bos is None else [bos])


def _cut(ids: list[int], limit: int, overlong: Overlong, start: list[int]) -> list[int]:
    """At most ``limit`` ids, ``start`` among them if the text begins with it and there is room for more."""
    if len(ids) <= limit:
        return ids
    kept = len(start) if ids[: len(start)] == start and len(start) < limit else 0
    last = limit // 2 if overlong == "middle" else limit - kept
    return [*ids[: limit - last], *ids[len(ids) - last :]]
