"""The configuration as it is written: YAML with what was seen behind every setting."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from laser_pl.data.tables import Table
from laser_pl.first_config.columns import Guessed
from laser_pl.first_config.guess import Guess
from laser_pl.first_config.policies import GuessedPolicy
from laser_pl.messages.keys import masked
from laser_pl.messages.terminal import shown

PROMPTS_PER_ITERATION, BATCH = 640, 16


@dataclass(frozen=True)
class FirstConfig:
    """All that was guessed.

    Attributes:
        name: Of the run.
        table: The prompts.
        rows: How many they are.
        policy: The policy.
        columns: What the table's columns hold.
        max_prompt_tokens: Longest prompt.
        arms: Reward models by name.
    """

    name: str
    table: Table
    rows: int
    policy: GuessedPolicy
    columns: Guessed
    max_prompt_tokens: Guess
    arms: Mapping[str, Guess]

    @property
    def open_questions(self) -> list[str]:
        """What the user should look at, since what was seen may mean something else."""
        policy, columns = self.policy, self.columns
        every = [policy.weights, policy.lora, policy.pad_token, policy.template, policy.max_new_tokens, columns.prompt,
                 columns.answer, columns.category, columns.matcher, self.max_prompt_tokens,
                 *self.arms.values()]  # fmt: skip
        found = [guess.ask for guess in every if guess is not None and guess.ask]
        if columns.answer.value is None:
            found.append("right answers: there are none, so accuracy is not measured")
        if len(self.arms) == 1 and "verifier" not in self.arms:
            found.append("other reward models: with one there is nothing to choose")
        return found


def written(config: FirstConfig, command: str, path: str, memory: Sequence[str] = ()) -> str:
    """The file's text.

    Args:
        config: What was guessed.
        command: That made it.
        path: Where it will lie.
        memory: What a run will need, a line for each device.
    """
    trusted = " --config preset:trusted" if config.columns.answer.value else ""
    why = "  # the bandit learns from your answers" if trusted else ""
    path = shlex.quote(path)
    head = [f"Written by {masked(command)}", f"Plan:   python -m laser_pl plan --config {path}",
            f"Run:    python -m laser_pl fit --config {path}{trusted}{why}"]  # fmt: skip
    head += [f"Memory: {line}" for line in memory]
    if config.open_questions:
        head.append("Could not be guessed, please look:")
        head += [f"  - {question}" for question in config.open_questions]
    lines = [row for line in head for row in textwrap.wrap(line, 118, subsequent_indent="    ", **_WHOLE)]
    return "\n".join([*(f"# {shown(line)}" for line in lines), *_sections(config)]) + "\n"


_WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False, "drop_whitespace": True}


def _sections(config: FirstConfig) -> Iterator[str]:
    policy, columns = config.policy, config.columns
    graded = columns.answer.value is not None
    length = policy.max_new_tokens
    yield f"name: {_plain(config.name)}"
    yield "trainer:"
    yield _line(2, "accelerator", Guess("auto", "a GPU where there is one"))
    yield _line(2, "devices", Guess(1, "several GPUs: their number, and strategy: ddp"))
    yield _line(2, "max_epochs", Guess(4, "iterations: each samples responses anew"))
    yield "model:"
    yield _line(2, "weights", Guess({"name": policy.weights.value}, policy.weights.why))
    yield _line(2, "lora", policy.lora)
    if policy.pad_token is not None:
        yield _line(2, "pad_token", policy.pad_token)
    if columns.matcher is not None:
        yield _line(2, "matcher", columns.matcher)
    sampled = "responses to each prompt of validation and test" if graded else "no answers: nothing is graded"
    yield _line(2, "evaluation", Guess({"n": 4, "max_new_tokens": length.value}, sampled))
    yield "data:"
    given = {name: value for name, value in vars(config.table).items() if value is not None}
    path = given if len(given) > 1 else config.table.path
    yield _line(2, "train", Guess(path, f"{config.rows:,} rows; a tenth each is kept for validation and test"))
    yield "  columns:"
    yield _line(4, "prompt", columns.prompt)
    yield _line(4, "answer", columns.answer)
    yield _line(4, "category", columns.category)
    if columns.response.value is not None:
        yield f"    # {_line(0, 'response', columns.response)}"
    yield _line(2, "template", Guess({"class_path": policy.template.value}, policy.template.why))
    rollouts = {"n": 8, "max_new_tokens": length.value}
    yield _line(2, "rollouts", Guess(rollouts, f"responses to each prompt; {length.why}"))
    yield _line(2, "max_prompt_tokens", config.max_prompt_tokens)
    trained = max(1, round(config.rows * 0.8))
    yield _line(2, "batch_size", Guess(min(BATCH, trained), "prompts per training step, scored by one reward model"))
    if trained > PROMPTS_PER_ITERATION:
        yield _line(2, "prompts_per_iteration", Guess(PROMPTS_PER_ITERATION, f"of about {trained:,}, in turn"))
    yield "selection:"
    yield "  reward_models:"
    for name, arm in config.arms.items():
        yield f"    {_plain(name)}:{_comment(arm.why)}"
        yield from (_line(6, setting, Guess(value, "")) for setting, value in arm.value.items())


def _line(indent: int, name: str, guess: Guess) -> str:
    return f"{' ' * indent}{name}: {_plain(guess.value)}{_comment(guess.why)}"


def _comment(why: str) -> str:
    """What was seen, on the same line: a column's name or value may hold anything."""
    return f"  # {shown(' '.join(why.split()))}" if why else ""


def _plain(value: Any) -> str:
    """A value on one line."""
    quoted = '"' if isinstance(value, str) and "\n" in value else None  # which has it as an escape
    options: Any = {"default_flow_style": True, "default_style": quoted, "sort_keys": False, "allow_unicode": True}
    text: str = yaml.safe_dump(value, width=2**31, **options)
    return text.removesuffix("...\n").rstrip("\n")
