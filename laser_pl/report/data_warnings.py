"""What is odd about the prompts of a run."""

from __future__ import annotations

from laser_pl.report.caution import Caution
from laser_pl.report.records import RunRecords, table

TOO_LONG = 0.1
"""Share of a split's prompts above which those that are left are others than the user gave."""


def too_long(records: RunRecords) -> Caution | None:
    """More than a tenth of a split's prompts were longer than the limit; known once the run is finished."""
    splits = table(records.summary, "prompts_too_long")
    found = [
        f"{counts['too_long']:,} of {counts['prompts']:,} {name} prompts"
        for name, counts in splits.items()
        if counts.get("too_long", 0) > TOO_LONG * counts.get("prompts", 0) > 0
    ]
    if not found:
        return None
    data = table(records.config, "data")
    where, limit = " and ".join(found), "data.max_prompt_tokens"
    if data.get("overlong", "drop") != "drop":
        return Caution(f"{where} were too long and were cut.", f"The policy answers torsos. Raise {limit}.")
    return Caution(
        f"{where} were too long and were left out.",
        f"The run has seen the short ones only. Raise {limit}, as far as the policy can read, or set data.overlong to"
        " cut or middle.",
    )
