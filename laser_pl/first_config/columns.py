"""Which column holds prompt, answer, category and written response, guessed from names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from laser_pl.data.prompts import Columns
from laser_pl.errors import ConfigurationError
from laser_pl.first_config.guess import Guess
from laser_pl.metrics.matchers import Choice

Row = Mapping[str, Any]

LOOKED_AT = 1000
"""Rows whose values are looked at, about."""
PROMPTS = ("prompt", "question", "instruction", "query", "problem", "request", "userprompt", "task", "input",
           "sentence")  # fmt: skip
CONTEXTS = ("context", "passage", "document", "article")
CHATS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog")
OPTIONS = ("choices", "options")
ANSWERS = ("answer", "answers", "referenceanswer", "reference", "finalanswer", "groundtruth", "gold", "target",
           "correctanswer", "expectedanswer", "expected", "solution", "answerkey", "label")  # fmt: skip
CATEGORIES = ("category", "categories", "subject", "topic", "domain", "task", "tasktype", "type", "kind", "skill",
              "source", "dataset", "level", "difficulty", "language", "lang", "subset")  # fmt: skip
RESPONSES = ("response", "output", "completion", "chosen", "solution", "rationale", "answer")
MOST_CATEGORIES = 100
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Guessed:
    """What a table's columns seem to hold.

    Attributes:
        prompt: Of ``data.columns``, as the others.
        answer: The reference answer.
        category: The category.
        response: The written response, which nothing but a supervised policy reads.
        matcher: What compares answers, as ``model.matcher`` has it; None where there are none.
    """

    prompt: Guess
    answer: Guess
    category: Guess
    response: Guess
    matcher: Guess | None

    def columns(self) -> Columns:
        """As the library reads them."""
        return Columns(self.prompt.value, self.answer.value, self.category.value)


@dataclass(frozen=True)
class _Column:
    """A column, or what lies in one.

    Attributes:
        name: Its last name, in small letters without anything between them.
        source: What ``data.columns`` calls it: its name, or a template.
        shown: What to call it in a comment.
        values: Of the rows looked at.
    """

    name: str
    source: str
    shown: str
    values: list[Any]


def guess_columns(rows: Sequence[Row], where: str) -> Guessed:
    """Guess what each column holds.

    Args:
        rows: Of the table; ``LOOKED_AT`` of them are looked at.
        where: The table's path, for the message.

    Raises:
        ConfigurationError: If no column holds texts or chats to answer.
    """
    rows = rows[:: -(-len(rows) // LOOKED_AT)]  # from all over the table, which may be sorted
    columns = list(_columns(rows))
    prompt, of_prompt = _prompt(columns, where)
    rest = [column for column in columns if column not in of_prompt]
    options = next((column for column in of_prompt if column.name in OPTIONS), None)
    answer, response = _answer(rest, options)
    taken = {answer.value, response.value}
    category = _category([column for column in rest if column.source not in taken])
    matcher = _matcher(_values(rows, answer.value)) if answer.value else None
    return Guessed(prompt, answer, category, response, matcher)


def _columns(rows: Sequence[Row], above: str = "", shown: str = "") -> Iterator[_Column]:
    """Columns, and of those that hold mappings what lies in them; a ``text`` in one goes by the name of that."""
    names = dict.fromkeys(name for row in rows for name in row if isinstance(name, str))
    for name in names:
        values = [row.get(name) for row in rows]
        path = f"{above}[{name!r}]" if above else name
        there = [value for value in values if value is not None]
        if there and name.isidentifier() and all(isinstance(value, dict) for value in there):
            yield from _columns([value or {} for value in values], path, f"{shown}{name}.")
        else:
            source = f"{{{{ {path} }}}}" if above else name
            called = shown.rstrip(".").rpartition(".")[2] if above and name == "text" else name
            yield _Column(re.sub(r"[\W_]", "", called.lower()), source, f"{shown}{name}", values)


def _prompt(columns: Sequence[_Column], where: str) -> tuple[Guess, list[_Column]]:
    """The prompt, and the columns that it takes in."""
    texts = [column for column in columns if _mostly(column.values, _is_text)]
    chats = [column for column in columns if _mostly(column.values, _is_chat)]
    main = _named([column for column in columns if column in texts or column in chats], PROMPTS)
    if main is None and (chats or not texts):
        chat = _named(chats, CHATS) or _named(chats, ("chosen",)) or next(iter(chats), None)
        if chat is None:
            names = ", ".join(column.shown for column in columns) or "none at all"
            raise ConfigurationError(
                f"init: no column of '{where}' holds texts or chats that could be prompts, among {names}. Give a file"
                " with a column of prompts."
            )
        return _of_chat(chat), [chat]
    if main is None:
        main = max(texts, key=lambda column: median(len(value or "") for value in column.values))
        only = len(texts) == 1
        why = f"'{main.shown}' is the {'only' if only else 'longest'} column of texts"
        return Guess(main.source, why, "" if only else f"'{main.shown}' was taken for the prompt; name another"), [main]
    if main in chats:
        return _of_chat(main), [main]
    return _with_what_belongs(main, columns)


def _with_what_belongs(main: _Column, columns: Sequence[_Column]) -> tuple[Guess, list[_Column]]:
    """A text with the document it asks about before it, and its input or choices behind it."""
    others = [column for column in columns if column is not main]
    context = _named([column for column in others if _mostly(column.values, _is_text)], CONTEXTS)
    given = _named([column for column in others if any(map(_is_text, column.values))], ("input",))
    given = given if main.name in ("instruction", "task", "prompt") else None
    options = _named([column for column in others if _mostly(column.values, _is_list)], OPTIONS)
    if options and _lists(main, options):
        options = None
    parts = [column for column in (context, main, given, options) if column is not None]
    if len(parts) == 1 or not all(_inner(part).partition("[")[0].isidentifier() for part in parts):
        parts = [main]
        return Guess(main.source, f"'{main.shown}' is a column of texts"), parts
    text = f"{{{{ {_inner(main)} }}}}"
    if context:
        text = f"{_if_there(context)}{{{{ {_inner(context)} }}}}\n\n{{% endif %}}{text}"
    if given:
        text += f"{_if_there(given)}\n\n{{{{ {_inner(given)} }}}}{{% endif %}}"
    if options:
        text += f"{{% for one in {_inner(options)} %}}\n{{{{ '{LETTERS}'[loop.index0] }}}}. {{{{ one }}}}{{% endfor %}}"
    names = " and ".join(f"'{part.shown}'" for part in parts)
    return Guess(text, f"{names} are asked together"), parts


def _if_there(column: _Column) -> str:
    return f"{{% if {_inner(column)} is defined and {_inner(column)} %}}"


def _lists(question: _Column, options: _Column) -> bool:
    """Whether the questions list their choices already."""
    pairs = zip(question.values, options.values, strict=True)
    return all(str(one) in (text or "") for text, some in pairs for one in some or [])


def _of_chat(chat: _Column) -> Guess:
    """A chat up to where the assistant is to answer."""
    filled = [value for value in chat.values if value]
    role, content = ("role", "content") if "role" in filled[0][0] else ("from", "value")
    users = {"user", "human"}
    if role == "role" and all(value[-1].get(role) in users | {"tool"} for value in filled):
        return Guess(chat.source, f"'{chat.shown}' holds chats that end with the user's turn")
    turns = max(sum(message.get(role) in users for message in value) for value in filled)
    text = f"{{{{ ({_inner(chat)} | selectattr('{role}', 'in', ['user', 'human']) | first)['{content}'] }}}}"
    why = f"'{chat.shown}' holds whole chats: the user's first turn is asked"
    system = any(value[0].get(role) == "system" for value in filled)
    left = [*(["later turns"] if turns > 1 else []), *(["system messages"] if system else [])]
    return Guess(text, why, f"{' and '.join(left)} of '{chat.shown}' are left out of the prompts" if left else "")


def _answer(columns: Sequence[_Column], options: _Column | None) -> tuple[Guess, Guess]:
    """The reference answer, and the written response."""
    written = _named([column for column in columns if _mostly(column.values, _is_text)], RESPONSES)
    found = _named([column for column in columns if any(v is not None for v in column.values)], ANSWERS)
    response = Guess(None, "no column of written responses")
    if written is not None and (written is not found or _words(written.values) > 20):
        response = Guess(written.source, f"'{written.shown}' could teach a supervised policy")
    if found is None and written is not None and written.name != "chosen" and _words(written.values) <= 3:
        found = written
    if found is None:
        return Guess(None, "no column holds reference answers"), response
    values = [value for value in found.values if value is not None]
    if options is not None and (numbered := _numbered(found, _numbers(values), options)):
        return numbered, response
    if all(isinstance(value, list) for value in values):
        return Guess(f"{_if_there(found)}{{{{ {_inner(found)}[0] }}}}{{% endif %}}",
                     f"'{found.shown}' holds several answers: the first counts",
                     f"only the first of several in '{found.shown}' counts as right"), response  # fmt: skip
    if not all(isinstance(value, str | int | float) for value in values):
        return Guess(None, f"'{found.shown}' holds neither texts nor numbers"), response
    if _words(values) > 20 and not all("####" in str(value) for value in values):
        response = Guess(found.source, f"'{found.shown}' holds long texts, which could teach a supervised policy")
        return Guess(None, f"'{found.shown}' holds texts too long to be compared"), response
    return Guess(found.source, f"'{found.shown}' holds short answers"), response


def _numbers(values: Sequence[Any]) -> list[int]:
    """Whole numbers, written as such or as texts; none if any is something else."""
    texts = [str(value).strip() for value in values if not isinstance(value, bool)]
    whole = len(texts) == len(values) and all(re.fullmatch(r"-?\d{1,3}", text) for text in texts)
    return [int(text) for text in texts] if whole else []


def _numbered(column: _Column, numbers: Sequence[int], options: _Column) -> Guess | None:
    """The letter of a choice that is given by its number, from 0 or from 1; one below that is none.

    None where numbers are no places among the choices.
    """
    choices, last = max(len(some or []) for some in options.values), max(numbers, default=-1)
    first = 1 if 0 not in numbers and last >= choices else 0
    if not 0 <= last - first < min(choices, len(LETTERS)):
        return None
    which, letters = f"({_inner(column)} | int(-1))", f"'{LETTERS}'"
    less = f" - {first}" if first else ""
    text = f"{{{{ {letters}[{which}{less}] if {which} >= {first} else '' }}}}"
    ask = "" if 0 in numbers else f"'{column.shown}' was taken to number the choices from {first}, by its values alone"
    return Guess(text, f"'{column.shown}' numbers the choices from {first}", ask)


def _category(columns: Sequence[_Column]) -> Guess:
    """A column with few different values, each of which comes back."""
    for column in [c for name in CATEGORIES for c in columns if c.name == name]:
        if kinds := _kinds(column.values):
            if "average" in kinds:
                return Guess(None, f"'{column.shown}' has a category 'average', which tables use for the mean of all")
            return Guess(column.source, f"'{column.shown}' has {len(kinds)} values: {_some(kinds)}")
    for column in columns:
        kinds = _kinds(column.values)
        short = all(isinstance(value, str) and len(value) <= 40 for value in column.values)
        if short and 2 <= len(kinds) <= 20 and column.name not in ("id", "split", "label"):
            return Guess(column.source, f"'{column.shown}' has {len(kinds)} values: {_some(kinds)}",
                         f"'{column.shown}' was taken for the category, by its few values alone")  # fmt: skip
    return Guess(None, "no column has few values that come back")


def _matcher(values: Sequence[str]) -> Guess:
    """What compares such answers."""
    small = [value.strip().lower().rstrip(".") for value in values]
    if all(value in ("yes", "no", "true", "false") for value in small):
        return _matcher_of("YesNo", "answers are yes and no")
    if all(len(value) == 1 and value in LETTERS[:12].lower() for value in small):
        last = max(map(LETTERS.lower().index, small), default=0)
        letters = {"letters": LETTERS[: last + 1]} if last >= len(Choice().letters) else {}
        return _matcher_of("Choice", "answers are letters of choices", **letters)
    if all(re.fullmatch(r"[-+]?\$?[\d,]*\.?\d+ ?%?", value.split("####")[-1].strip()) for value in small):
        return _matcher_of("Number", "answers are numbers" if "####" not in small[0] else "answers end in a number")
    if any("\\frac" in value or "\\sqrt" in value or "\\boxed" in value for value in small):
        return _matcher_of("Mathematical", "answers are formulas in LaTeX; needs pip install 'laser_pl[math]'")
    ask = "a right answer in other words counts as wrong (model.matcher)"
    return replace(_matcher_of("Exact", "answers are texts, compared word for word"), ask=ask)


def _matcher_of(name: str, why: str, **settings: Any) -> Guess:
    given = {"class_path": f"laser_pl.metrics.matchers.{name}"}
    return Guess({**given, "init_args": settings} if settings else given, why)


def _values(rows: Sequence[Row], source: str | None) -> list[str]:
    read = Columns(answer=source).readers()["answer"]
    found = [str(value) for value in (read(dict(row)) for row in rows) if value is not None and value == value]
    return [value for value in found if value.strip()]


def _named(columns: Sequence[_Column], names: Sequence[str]) -> _Column | None:
    """The column with the first of some names."""
    return next((column for name in names for column in columns if column.name == name), None)


def _inner(column: _Column) -> str:
    return column.source[2:-2].strip() if column.source.startswith("{{") else column.source


def _kinds(values: Sequence[Any]) -> list[str]:
    """Different values, if they are few and come back."""
    if not all(isinstance(value, str | int) and str(value).strip() for value in values):
        return []
    kinds = list(dict.fromkeys(map(str, values)))
    return kinds if 2 <= len(kinds) <= min(MOST_CATEGORIES, len(values) / 2) else []


def _some(kinds: Sequence[str]) -> str:
    return ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")


def _words(values: Sequence[Any]) -> float:
    return median([len(str(value).split()) for value in values if value is not None] or [0])


def _mostly(values: Sequence[Any], of: Callable[[Any], bool]) -> bool:
    return sum(map(of, values)) >= 0.95 * len(values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_chat(value: Any) -> bool:
    keys = ({"role", "content"}, {"from", "value"})
    return _is_list(value) and all(isinstance(one, dict) and any(pair <= one.keys() for pair in keys) for one in value)
