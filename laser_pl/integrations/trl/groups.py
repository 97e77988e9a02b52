"""What TRL asks a reward function about, as prompts with their groups of responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laser_pl.batches import Prompt
from laser_pl.data.messages import refuse_unusable
from laser_pl.data.prompts import content_hash, prompt_ids
from laser_pl.data.templates import chat_text
from laser_pl.errors import ConfigurationError
from laser_pl.runtime.process_group import ProcessGroup

_OF_THE_CALL = ("prompt", "completion", "completion_ids", "environments")
"""What is no column of the prompt's; environments are live objects, one for each response."""


@dataclass(frozen=True)
class Rows:
    """How a row of TRL's data set is read.

    Attributes:
        tokenizer: The policy's.
        chat_options: What TRL passes to its chat template (``chat_template_kwargs``).
        answer: The column of reference answers; prompts without one have none.
        category: The column of categories; prompts without one are ``all``.
    """

    tokenizer: Any
    chat_options: Mapping[str, Any]
    answer: str
    category: str

    def prompt(self, asked: Any, row: Mapping[str, Any], where: str) -> Prompt:
        """A prompt as it is here.

        Args:
            asked: A string, or a chat's messages.
            row: The other columns.
            where: How to call the row in messages.

        Raises:
            ConfigurationError: If it is neither, or an answer or category is no text and no number.
        """
        refuse_unusable(asked, f"{where}: column 'prompt'")
        answer, category = (_label(row.get(name), name, where) for name in (self.answer, self.category))
        chat = isinstance(asked, list)
        return Prompt(
            id=content_hash(asked, answer),
            prompt=asked,
            text=chat_text(self.tokenizer, asked, add_generation_prompt=True, **self.chat_options) if chat else asked,
            answer=answer,
            category="all" if category is None else category,
            columns={name: value for name, value in row.items() if name not in _OF_THE_CALL},
        )

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as TRL samples after it."""
        return prompt_ids(prompt.text, self.tokenizer, special_tokens=isinstance(prompt.prompt, str))


@dataclass(frozen=True)
class Groups:
    """The responses of all processes, prompt by prompt.

    Attributes:
        prompts: ``B`` prompts.
        texts: ``n`` responses to each.
        ids: Their token ids, EOS included.
        own: Which of the ``B n`` responses are this process's, in order.
    """

    prompts: list[Prompt]
    texts: list[list[str]]
    ids: list[list[list[int]]]
    own: slice

    @classmethod
    def of_call(
        cls,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: Mapping[str, Any],
        n: int,
        rows: Rows,
        processes: ProcessGroup,
    ) -> Groups:
        """Put together what each process was asked about; all must call it.

        A group may lie in two processes. Columns that differ within one, such as what a ``rollout_func`` returns for
        each response, belong to no prompt and are left out.

        Args:
            prompts: Each ``n`` times in a row, over all processes.
            completions: One for each of them.
            completion_ids: Their token ids; None: those of the texts.
            columns: The data set's other columns, as long as the prompts.
            n: Responses to a prompt.
            rows: How prompts are read.
            processes: The processes.

        Raises:
            ConfigurationError: If these are no groups of ``n`` responses to one prompt, or one is no single text.
        """
        texts = [_text_of(completion) for completion in completions]
        if completion_ids is None:
            completion_ids = rows.tokenizer(texts, add_special_tokens=False)["input_ids"]
        shared = {
            name: value
            for name, value in columns.items()
            if name not in _OF_THE_CALL and isinstance(value, list) and len(value) == len(prompts)
        }
        every = processes.gather((list(prompts), texts, [list(map(int, own)) for own in completion_ids], shared))
        before = sum(len(one[0]) for one in every[: processes.rank])
        asked = [prompt for one in every for prompt in one[0]]
        texts = [text for one in every for text in one[1]]
        ids = [own for one in every for own in one[2]]
        names = set.intersection(*(set(one[3]) for one in every))
        table = {name: [value for one in every for value in one[3][name]] for name in sorted(names)}
        starts = range(0, len(asked), n)
        if len(asked) % n or any(asked[i] != asked[i - i % n] for i in range(len(asked))):
            raise ConfigurationError(
                f"SelectedReward got {len(asked)} responses that are no groups of {n} (num_generations) to one prompt"
                " each. It works with what GRPOTrainer and RLOOTrainer sample."
            )
        common = {name: values for name, values in table.items() if all(_alike(values[s : s + n]) for s in starts)}
        return cls(
            [
                rows.prompt(asked[s], {name: values[s] for name, values in common.items()}, f"Prompt {s // n + 1}")
                for s in starts
            ],
            [texts[s : s + n] for s in starts],
            [ids[s : s + n] for s in starts],
            slice(before, before + len(prompts)),
        )


def prompts_of_data(data: Any, rows: Rows) -> Iterator[Prompt]:
    """All prompts of a data set that can be read before training.

    Args:
        data: With a length, and a mapping in each place.
        rows: How prompts are read.

    Raises:
        ConfigurationError: If a row holds no prompt.
    """
    for number in range(len(data)):
        row = data[number]
        where = f"The data set, row {number + 1}"
        if "prompt" not in row:
            raise ConfigurationError(f"{where}: there is no column 'prompt', only {', '.join(map(str, row))}.")
        yield rows.prompt(row["prompt"], row, where)


def _text_of(completion: Any) -> str:
    """What a completion says: a string, or the content of the one message that it is."""
    if isinstance(completion, str):
        return completion
    content = completion[0].get("content", "") if isinstance(completion, list) and len(completion) == 1 else None
    if not isinstance(content, str):
        raise ConfigurationError(
            "SelectedReward judges a text, or one message of text, and got"
            f" {len(completion) if isinstance(completion, list) else type(completion).__name__}"
            f" {'messages' if isinstance(completion, list) else ''} as one completion. Turns of tools and images are"
            " not judged: score them by a reward function of its own in reward_funcs."
        )
    return content


def _alike(values: Sequence[Any]) -> bool:
    try:
        return all(value is values[0] or bool(value == values[0]) for value in values)
    except (TypeError, ValueError, RuntimeError):  # of arrays, which compare place by place
        return False


def _label(value: Any, column: str, where: str) -> str | None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ConfigurationError(
            f"{where}: column '{column}' must be a text or a number, got {type(value).__name__}. Name another to"
            " SelectedReward, as answer or category."
        )
    return None if value is None else str(value)
