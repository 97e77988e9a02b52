"""Which of two responses a judge holds to be better."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from laser_pl.batches import Prompt
from laser_pl.command_line.config_files import refuse_broken_yaml
from laser_pl.data.plan import split_every
from laser_pl.errors import ConfigurationError
from laser_pl.rewards.base import RewardModel
from laser_pl.rewards.pool import Pool
from laser_pl.run.line_cache import Line, cached_lines, digest_of
from laser_pl.run.pair_record import plain
from laser_pl.winrate.responses import Responses

PROMPTS_AT_ONCE = 16
"""Of which the judge is asked together, and whose scores are kept together."""


@dataclass(frozen=True)
class Comparison:
    """Two responses to a prompt.

    Attributes:
        prompt_id: The prompt.
        category: Its category.
        won: 1 if the first response has the higher score, 0 if the second has, 1/2 if they are equal; None without an
            opinion on both.
        lengths: Of both, in characters.
    """

    prompt_id: str
    category: str
    won: float | None
    lengths: tuple[int, int]


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ConfigurationError(" ".join(message.split()))


def read_judge(path: Path) -> tuple[RewardModel, str]:
    """A reward model from a file.

    It holds a ``class_path`` and ``init_args``, as they stand under ``selection.reward_models`` in a configuration.

    Returns:
        The reward model, and a digest of the file.

    Raises:
        ConfigurationError: If there is no such file, or no such reward model in it.
    """
    if not path.is_file():
        raise ConfigurationError(f"There is no file '{path}'. Set --judge.")
    refuse_broken_yaml(["--config", str(path)])
    text = path.read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    if set(settings) - {"class_path", "init_args"} or "class_path" not in settings:
        raise ConfigurationError(
            f"'{path}' must hold a reward model's class_path, its init_args where it needs any, and nothing else; it"
            f" has {', '.join(map(str, settings))}."
        )
    parser = _Parser(exit_on_error=False)
    parser.add_argument("--judge", type=RewardModel)
    try:
        judge = parser.instantiate(parser.parse_object({"judge": settings}))["judge"]
    except ConfigurationError as error:
        raise ConfigurationError(f"'{path}' is no reward model: {error}") from error
    except Exception as error:  # whatever a constructor raises, or an import in its module
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"'{path}' is no reward model: {reason}") from error
    return judge, hashlib.sha256(text.encode()).hexdigest()


def compare(
    judge: RewardModel,
    judge_digest: str,
    prompts: Sequence[Prompt],
    ours: Responses,
    theirs: Responses,
    folder: Path,
    device: torch.device,
) -> list[Comparison]:
    """Ask a judge about each two responses to each prompt, the first with the first, and so on.

    Two responses that are the same, word for word, are equal without a question. Scores are kept in
    ``folder/judgements-<digest>.jsonl``, so that no question is asked twice, but for those that failed.

    Args:
        judge: Whoever scores two responses to a prompt.
        judge_digest: Of its configuration.
        prompts: The prompts.
        ours: The first responses, by prompt id.
        theirs: The second ones, as many.
        folder: Where scores are kept.
        device: Where the judge is to run.

    Raises:
        ConfigurationError: If it has no opinion on anything.
    """
    _refuse_other_numbers(prompts, ours, theirs)
    judge.check()
    texts = [text for responses in (*ours.values(), *theirs.values()) for text in responses]
    judge.check_texts(prompts, lambda: "".join(sorted(set("".join(texts)))))
    pool = Pool({"judge": judge})
    failures: list[str] = []

    def ask(number: int, some: Sequence[Prompt]) -> tuple[list[Line], bool]:
        games = [[*zip(ours[prompt.id], theirs[prompt.id], strict=True)] for prompt in some]
        asked = [(prompt, game) for prompt, own in zip(some, games, strict=True) for game in own if game[0] != game[1]]
        with torch.no_grad():
            answer = pool.ask("judge", [prompt for prompt, _ in asked], [game for _, game in asked], device)
        failures.extend([] if answer.failure is None else [answer.failure])
        scores = iter(map(plain, answer.labels))
        lines: list[Line] = [
            {"prompt_id": prompt.id, "category": prompt.category,
             "scores": [next(scores) if a != b else None for a, b in own]}
            for prompt, own in zip(some, games, strict=True)
        ]  # fmt: skip
        return lines, answer.missing.total() == answer.missing["none"]

    of_what = {
        "judge": judge_digest,
        "prompts": [[prompt.id, prompt.category, ours[prompt.id], theirs[prompt.id]] for prompt in prompts],
    }
    path = folder / f"judgements-{digest_of(of_what)}.jsonl"
    try:
        lines = cached_lines(path, split_every(prompts, PROMPTS_AT_ONCE), ask, "Judging")
    finally:
        judge.unload()
    games = [
        (prompt, scores, a, b)
        for prompt, line in zip(prompts, lines, strict=True)
        for scores, a, b in zip(line["scores"], ours[prompt.id], theirs[prompt.id], strict=True)
    ]
    asked = [scores for _, scores, a, b in games if a != b]
    if asked and all(won(scores) is None for scores in asked):
        reason = f"; it failed: {failures[-1]}" if failures else ""
        raise ConfigurationError(f"The judge has no opinion on any of {len(asked)} comparisons{reason}.")
    return [
        Comparison(prompt.id, prompt.category, 0.5 if a == b else won(scores), (len(a), len(b)))
        for prompt, scores, a, b in games
    ]


def won(scores: Sequence[float | None]) -> float | None:
    """Whether the first of two responses is the better one.

    >>> won([2.0, 1.0]), won([1.0, 2.0]), won([1.0, 1.0]), won([1.0, None])
    (1.0, 0.0, 0.5, None)
    """
    ours, theirs = scores
    if ours is None or theirs is None:
        return None
    return 0.5 if ours == theirs else float(ours > theirs)


def _refuse_other_numbers(prompts: Sequence[Prompt], ours: Responses, theirs: Responses) -> None:
    for prompt in prompts:
        numbers = len(ours[prompt.id]), len(theirs[prompt.id])
        if numbers[0] != numbers[1]:
            raise ConfigurationError(
                f"To the prompt '{prompt.id}' one side has {numbers[0]} responses and the other {numbers[1]}. Give as"
                " many; --sampled takes as many as model.evaluation.n says, otherwise it is one."
            )


def by_category(comparisons: Sequence[Comparison]) -> Mapping[str, list[Comparison]]:
    """Comparisons of each category, sorted by its name."""
    found: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.category, []).append(comparison)
    return dict(sorted(found.items()))
