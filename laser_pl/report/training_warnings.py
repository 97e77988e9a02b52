"""What is odd about how the policy was trained."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.messages.mismatch import ADVICE, BOUND
from laser_pl.report.caution import Caution
from laser_pl.report.records import RunRecords
from laser_pl.report.series import clear_change, known, mean

TRUNCATED = 0.2
"""Share of responses cut at the limit above which rewards judge torsos."""
LONGER = 1.2
"""Growth of responses above which length itself may be what is rewarded."""
FLAT = 0.01
"""Accuracy that three validations should gain at least, altogether."""


def displaced(records: RunRecords) -> Caution | None:
    """The chosen responses became less likely while the margin grew: what is rejected only falls faster.

    Likelihood displacement (Razin et al. 2024). The margin starts at 0 in every iteration, so that it grows where its
    mean is above 0. A fall that is due to longer responses alone, with the same likelihood per token, does not count.
    """
    # Steps with a loss that is no number have none of these either.
    chosen, nll, margin = (
        known([value for *_, value in records.metric(f"train/{name}")]) for name in ("chosen_logprob", "nll", "margin")
    )
    per_token = [-value for value in nll]
    fall = clear_change(*_halves(chosen))
    if fall >= 0 or clear_change(*_halves(per_token)) >= 0 or clear_change([0.0, 0.0], margin) <= 0:
        return None
    return Caution(
        f"The chosen responses became less likely by {-fall:.3g} nats from the run's first half to its second, while"
        " the margin over the rejected grew.",
        "The policy moves away from both. Raise model.nll_weight or model.beta, or lower the learning rate.",
    )


def longer(records: RunRecords) -> Caution | None:
    """The last iteration's responses are more than a fifth longer than the first's, and training can be why."""
    lengths = records.metric_by_iteration("train/response_length")
    if len(lengths) < 2 or not records.trains:
        return None
    first, last = lengths[min(lengths)], lengths[max(lengths)]
    if mean(last) <= LONGER * mean(first) or clear_change(first, last) <= 0:
        return None
    return Caution(
        f"Responses are getting longer: {mean(first):.1f} tokens in iteration {min(lengths) + 1}, {mean(last):.1f} in"
        f" iteration {max(lengths) + 1}.",
        "Read the prompts in report.html: if the longer ones are no better, a reward model may like length; leave it"
        " out.",
    )


def truncated(records: RunRecords) -> Caution | None:
    """More than a fifth of the last iteration's responses ended at the limit."""
    shares = records.metric_by_iteration("train/truncated")
    if not shares or mean(shares[max(shares)]) <= TRUNCATED:
        return None
    share = mean(shares[max(shares)])
    if records.supervised:
        return Caution(
            f"{share:.0%} of iteration {max(shares) + 1}'s written responses were cut at the limit.",
            "The policy does not learn how they end. Raise data.rollouts.max_new_tokens.",
        )
    what = f"{share:.0%} of iteration {max(shares) + 1}'s responses were cut at the limit."
    if _went_on(records):
        return Caution(
            what,
            "Most of them had given the right answer and went on: name the text that they go on with in"
            " data.rollouts.stop, or teach the policy where to end by a supervised run first (model.objective:"
            " laser_pl.objectives.Supervised).",
        )
    return Caution(what, "Reward models judge torsos. Raise data.rollouts.max_new_tokens.")


def mismatched(records: RunRecords) -> Caution | None:
    """The engine that sampled gave the last iteration's responses other probabilities than the policy does."""
    apart = records.metric_by_iteration("rollouts/mismatch")
    if not apart or mean(apart[max(apart)]) <= BOUND:
        return None
    return Caution(
        f"The engine's log-probabilities of iteration {max(apart) + 1}'s responses differ from the policy's by"
        f" {mean(apart[max(apart)]):.2f} nats per token.",
        ADVICE,
    )


def _went_on(records: RunRecords) -> bool:
    """Whether most recorded responses that were cut, ten at least, are right nevertheless."""
    cut = [
        right
        for one in records.judged
        for right, finished in zip(one.get("right") or [], one.get("finished") or [], strict=False)
        if not finished
    ]
    return len(cut) >= 10 and sum(cut) > len(cut) / 2


def flat(records: RunRecords) -> Caution | None:
    """None of the last three validation accuracies is 0.01 above the one before them, though the policy was trained.

    Of several in one iteration the last counts; where hardly anything is wrong, nothing can rise.
    """
    values = {i: found[-1] for i, found in records.metric_by_iteration("validation/accuracy/sampled/average").items()}
    last = sorted(values)[-4:]
    if len(last) < 4 or not records.trains:
        return None
    before, *after = (values[iteration] for iteration in last)
    shown = ", ".join(f"{values[iteration]:.3f}" for iteration in last)
    where = f"{shown} after iterations {', '.join(str(iteration + 1) for iteration in last)}."
    if max(after) <= before - FLAT:
        return Caution(
            f"Validation accuracy falls: {where}",
            "What is rewarded is not what is right, or the policy moves too far. Look at who judged; lower the learning"
            " rate, raise model.beta, or take an earlier checkpoint.",
        )
    if max(after) - before >= FLAT or before > 1 - FLAT:
        return None
    return Caution(
        f"Validation accuracy is flat: {where}",
        "More iterations of the same will bring little. Look at who judged, or change the learning rate or the reward"
        " models.",
    )


def _halves(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    return values[: len(values) // 2], values[len(values) // 2 :]
