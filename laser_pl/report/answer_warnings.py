"""What is odd about what a few answers say."""

from __future__ import annotations

from laser_pl.messages import misled
from laser_pl.report.caution import Caution
from laser_pl.report.records import RunRecords, table


def misleading(records: RunRecords) -> Caution | None:
    """Answers contradicted the policy's likelihoods in a category more than chance allows, in some iteration."""
    first = {line["category"]: line for line in reversed(records.answers) if line["misled"] is not None}
    found = sorted(first.values(), key=lambda line: str(line["category"]))
    if not found:
        return None
    told = " ".join(misled.what(line["category"], line["answers"], line["misled"]) for line in found)
    return Caution(told, misled.ADVICE)


def without_answers(records: RunRecords) -> Caution | None:
    """A signal that uses answers found none that tells."""
    lines = records.last_answers
    asked_for = table(records.config, "selection", "signal", "init_args").get("answers") != 0
    if not lines or not asked_for or any(line["answers"] for line in lines):
        return None
    return Caution(
        "No answer was used: no prompt with an answer had right and wrong responses.",
        "So the bandit learned from the policy's likelihoods alone, which mislead where the policy is wrong by"
        " conviction. `python -m laser_pl label` asks you about a few prompts; give selection.labels what it writes.",
    )
