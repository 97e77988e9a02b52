"""Every row of the check: what it asks, in which order, what it costs on an H200, and when it is given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One thing that is looked at.

    Attributes:
        part: The part it belongs to.
        name: Unique among all rows.
        call: Module beside this one and function in it, which takes a ``Card`` and ``Sizes`` and returns a ``Finding``.
        cost: Seconds on an H200, estimated where none was there long enough. With less than that left it is not begun.
        limit: Seconds after which it is killed.
        question: What it tells a user.
        environment: Variables that must be set before the process begins; on a card it then has a process of its own.
    """

    part: str
    name: str
    call: str
    cost: int
    limit: int
    question: str
    environment: Mapping[str, str] = field(default_factory=dict)


DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""What cuBLAS wants to hear before it adds up in the same order every time."""

ROWS = (
    Row("starts", "imports", "starts:imports", 10, 60, "Does everything import that a run needs?"),
    Row("starts", "quickstart", "starts:quickstart", 30, 120, "Does the quickstart end where it ends on a CPU?"),
    Row("right", "log-probabilities", "right:logprobs", 40, 80, "Does sharing a prompt change values or gradients?"),
    Row("right", "attention", "right:attention", 5, 40, "Is the card's kernel for shared prompts right?"),
    Row("right", "greedy", "right:greedy", 5, 40, "Are the likeliest tokens those of plain `generate`?"),
    Row("right", "uncaptured", "right:uncaptured", 6, 40, "Is a model sampled from that no graph can hold?"),
    Row("right", "chi-squared", "right:distribution", 5, 30, "Are samples distributed as the model says?"),
    Row("right", "out of memory", "right:out_of_memory", 32, 80, "Is a forward that does not fit halved?"),
    Row("right", "pool", "runs:pool", 70, 120, "Do reward models that take turns keep to what `plan` says?",
        DETERMINISTIC),
    Row("right", "nf4", "runs:nf4", 57, 100, "Do QLoRA, a judge in nf4 and AdamW8bit train?"),
    Row("right", "int8", "runs:int8", 46, 90, "Do a policy and a judge in int8 work?"),
    Row("right", "bf16-mixed", "runs:mixed", 31, 70, "Does a policy in float32 train in mixed precision?"),
    Row("right", "signals", "runs:signals", 25, 80, "Do all presets, reward models of all kinds and `predict` run?"),
    Row("fast", "peaks", "fast:peaks", 3, 30, "What can this card do at best?"),
    Row("fast", "new shapes", "fast:new_shapes", 12, 60, "Does a text of another length wait for its kernel?"),
    Row("fast", "head", "vocabulary:head", 15, 60, "Do log-probabilities over 128k ids cost more than the products?"),
    Row("profile", "decoding", "profiled:decoding", 20, 60, "Which kernels cost most while tokens are sampled?"),
    Row("profile", "step", "profiled:step", 40, 90, "Which kernels cost most in a step?"),
    Row("fast", "rollouts bf16", "fast:rollouts_bf16", 25, 100, "Are rollouts faster than `generate`?"),
    Row("fast", "step bf16", "fast:step_bf16", 95, 180, "Is a DPO step faster than TRL's?"),
    Row("fast", "iteration bf16", "fast:iteration_bf16", 62, 150, "Where does the time go, and is `plan` right?"),
    Row("fast", "rollouts nf4", "fast:rollouts_nf4", 35, 120, "The same with a base in 4 bits"),
    Row("fast", "step nf4", "fast:step_nf4", 140, 200, "The same with a base in 4 bits"),
    Row("right", "resumed", "runs:resumed", 25, 90, "Is a resumed run the same to the last bit?", DETERMINISTIC),
    Row("fast", "iteration nf4", "fast:iteration_nf4", 50, 130, "Does it fit 24 GB with a base in 4 bits?"),
)  # fmt: skip
PARTS = {"starts": 130, "right": 370, "fast": 520, "profile": 130}
"""Seconds after which a part is over, whatever is left of it."""


def chosen(only: list[str], skip: list[str]) -> list[Row]:
    """The rows of these names or parts, without those.

    Raises:
        ValueError: If a name is neither a part nor a row.
    """
    known = {*PARTS, *(row.name for row in ROWS)}
    for name in (*only, *skip):
        if name not in known:
            raise ValueError(f"There is no part or row '{name}'. There are: {', '.join([*PARTS, *_names()])}.")
    return [
        row for row in ROWS if (not only or {row.part, row.name} & set(only)) and not {row.part, row.name} & set(skip)
    ]


def _names() -> list[str]:
    return [row.name for row in ROWS if row.name not in PARTS]
