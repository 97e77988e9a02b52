"""What kinds of values the records of a run may hold: they may be damaged, or anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], bool]

LARGEST = 2**53
"""Above it not every integer is a float; no run counts so far."""


def number(value: Any) -> bool:
    """Any that a float can be; NaN and infinity are gaps, and a run writes both."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)


def count(value: Any) -> bool:
    """Of steps, iterations, responses."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def text(value: Any) -> bool:
    """Any string."""
    return isinstance(value, str)


def anything(value: Any) -> bool:
    """No matter what."""
    return True


def or_null(kind: Kind) -> Kind:
    """Null, or of that kind."""
    return lambda value: value is None or kind(value)


def many(kind: Kind) -> Kind:
    """A list of such."""
    return lambda value: isinstance(value, list) and all(map(kind, value))


def by_name(kind: Kind) -> Kind:
    """A mapping to such."""
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def holds(line: Any, required: Mapping[str, Kind], optional: Mapping[str, Kind]) -> bool:
    """Whether a line has all that it must have, and nothing of a wrong kind."""
    return (
        isinstance(line, dict)
        and all(name in line and kind(line[name]) for name, kind in required.items())
        and all(kind(line[name]) for name, kind in optional.items() if name in line)
    )


_NUMBERS, _COUNTS, _NAMES = by_name(or_null(number)), by_name(count), or_null(many(text))

OF_DECISION: Mapping[str, Kind] = {
    "iteration": count, "step": count, "prompt_ids": many(text), "arm": text, "mean": by_name(number),
    "bonus": by_name(number),
}  # fmt: skip
ALSO_OF_DECISION: Mapping[str, Kind] = {
    "category": or_null(text), "passed_over": _NAMES, "tied": _NAMES, "pairs": or_null(count), "loss": or_null(number),
    "reward": or_null(by_name(number)),
    "observed": or_null(by_name(number)), "forbidden": or_null(_COUNTS), "missing": or_null(by_name(_COUNTS)),
    "reward_model_seconds": number, "reward_model_forwards": by_name(number), "prompts_without_pairs": count,
}  # fmt: skip
OF_JUDGED: Mapping[str, Kind] = {
    "iteration": count, "step": count, "prompt_id": text, "category": text, "prompt": text, "arm": text,
    "responses": many(text), "scores": by_name(many(or_null(number))), "pairs": many(many(count)),
}  # fmt: skip
ALSO_OF_JUDGED: Mapping[str, Kind] = {
    "question": text,
    "right": or_null(many(or_null(anything))), "finished": or_null(many(anything)), "lengths": or_null(many(count)),
}  # fmt: skip
OF_PROBED: Mapping[str, Kind] = {
    "iteration": count, "step": count, "prompt_id": text, "scores": by_name(many(or_null(number)))
}  # fmt: skip
OF_ANSWERS: Mapping[str, Kind] = {
    "iteration": count, "step": count, "category": text, "answers": count, "without": by_name(number),
    "by_answers": by_name(number), "worth": by_name(number), "misled": or_null(number),
}  # fmt: skip
OF_PAIRS: Mapping[str, Kind] = {
    "iteration": count, "step": count, "prompt_id": text, "arm": text, "scores": many(or_null(number)),
    "pairs": many(many(count)),
}  # fmt: skip
OF_SUMMARY: Mapping[str, Kind] = {
    "accuracy": by_name(or_null(by_name(number))), "arm_share": by_name(by_name(number)), "seconds": by_name(number),
    "reward_model_forwards": by_name(number), "reward_model_forwards_avoided": number,
    "reward_model_spending": by_name(by_name(number)), "constraints": by_name(by_name(_NUMBERS)),
    "labels_missing": by_name(by_name(number)), "versions": by_name(text),
    "prompts_too_long": by_name(_COUNTS),
    "iterations": number, "steps": number, "steps_without_pairs": number, "steps_not_finite": number,
}  # fmt: skip


def lies_within(line: Mapping[str, Any], responses: int) -> bool:
    """Whether all that a line says of a prompt's responses is of responses that there are."""
    lists = [*line["scores"].values()] if isinstance(line["scores"], dict) else [line["scores"]]
    lists += [line[name] for name in ("right", "finished", "lengths") if line.get(name) is not None]
    pairs = line["pairs"]
    return all(len(one) == responses for one in lists) and all(len(p) == 2 and max(p) < responses for p in pairs)
