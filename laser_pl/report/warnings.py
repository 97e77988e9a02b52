"""What somebody who watched the run would point at: each a function of its records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laser_pl.report.agreement import meetings
from laser_pl.report.records import Line, RunRecords
from laser_pl.report.series import clear_change, mean

COLLAPSED = 0.95
"""Share of an iteration's prompts from which on one arm is alone."""
TRUNCATED = 0.2
"""Share of responses cut at the limit above which rewards judge torsos."""
LONGER = 1.2
"""Growth of responses above which length itself may be what is rewarded."""
FLAT = 0.01
"""Accuracy that three iterations should gain at least, altogether."""
NOISE = 2.0
"""F ratio below which arms do not clearly differ: by chance alone one in twenty goes beyond 1.7 with 150 rewards of 5
arms in 4 categories, and beyond 2.9 with 25 rewards of 5 arms."""
ALIKE = 0.95
"""Share of pairs of responses that two reward models order alike from which on one of them tells nothing new; below
what is left of 1, one is the other's inverse."""
MET_PROMPTS = 5
MET_PAIRS = 30
"""So many prompts, and pairs of responses, two reward models must both have ordered before anything is said of them."""
NOT_MEANT_TO_LEARN = {"Fixed", "Uniform", "RoundRobin", "Oracle"}
"""Baselines: that they collapse, or learn nothing, is what they are for."""


@dataclass(frozen=True)
class Caution:
    """What is odd, and what can be done.

    Attributes:
        what: A sentence with the figures.
        advice: What it may mean and which setting changes it.
    """

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


def warnings_of(records: RunRecords) -> list[Caution]:
    """All that apply."""
    checks: Sequence[Callable[[RunRecords], Caution | None]] = (
        collapsed, never_tried, noisy_rewards, alike, opposed, displaced, longer, truncated, flat
    )  # fmt: skip
    return [warning for check in checks if (warning := check(records)) is not None]


def collapsed(records: RunRecords) -> Caution | None:
    """One arm judged at least 95 % of the last iteration's prompts, and a learning bandit had others to choose."""
    lines = _of_last_iteration(records.decisions)
    if records.bandit in NOT_MEANT_TO_LEARN or len(records.arms) < 2 or len(lines) < 10:
        return None
    counts = {arm: sum(len(line["prompt_ids"]) for line in lines if line["arm"] == arm) for arm in records.judges}
    arm, count = max(counts.items(), key=lambda item: item[1])
    share = count / sum(counts.values())
    if share < COLLAPSED:
        return None
    return Caution(
        f"Selection collapsed: '{arm}' judged {share:.0%} of iteration {lines[0]['iteration'] + 1}'s prompts.",
        "That is right if it is the best everywhere; if not, raise selection.bandit.alpha, or learn from another"
        " signal.",
    )


def never_tried(records: RunRecords) -> Caution | None:
    """An arm that neither judged nor got a reward, though there were at least two decisions for each arm."""
    lines = records.decisions
    if records.bandit in NOT_MEANT_TO_LEARN or len(lines) < 2 * len(records.arms):
        return None
    seen = {line["arm"] for line in lines} | {arm for line in lines for arm in line.get("reward") or {}}
    now = lines[-1]["mean"]
    unseen = [f"'{arm}'" for arm in now if arm not in seen]
    if not unseen:
        return None
    return Caution(
        f"Never tried: {', '.join(unseen)}.",
        "The bandit knows nothing of it. Raise selection.bandit.alpha so that what is unknown is tried, or leave it"
        " out.",
    )


def noisy_rewards(records: RunRecords) -> Caution | None:
    """Rewards differ between arms hardly more than within one, so the bandit follows noise.

    Within each category: the mean square between its arms over the mean square within them (an F ratio).
    """
    cells: dict[str, dict[str, list[float]]] = {}
    for line in records.decisions:
        for arm, reward in (line.get("reward") or {}).items():
            cells.setdefault(str(line.get("category")), {}).setdefault(arm, []).append(reward)
    between = within = 0.0
    between_freedom = within_freedom = 0
    for arms in cells.values():
        everything = mean([reward for rewards in arms.values() for reward in rewards])
        between_freedom += len(arms) - 1
        for rewards in arms.values():
            middle = mean(rewards)
            between += len(rewards) * (middle - everything) ** 2
            within += sum((reward - middle) ** 2 for reward in rewards)
            within_freedom += len(rewards) - 1
    if records.bandit in NOT_MEANT_TO_LEARN or between_freedom < 1 or within_freedom < 10 or within == 0:
        return None
    ratio = (between / between_freedom) / (within / within_freedom)
    if ratio >= NOISE:
        return None
    return Caution(
        f"The bandit's rewards are noise: within a category arms differ by {ratio:.1f} times what chance makes them"
        f" differ (below {NOISE:.0f} is no difference), and one arm's rewards scatter by"
        f" {(within / within_freedom) ** 0.5:.2f}.",
        "Its choices follow luck. Learn from a signal that tells reward models apart (experiments/presets/cooling.yaml"
        " or trusted.yaml), or give it more decisions with selection.granularity: prompt.",
    )


def alike(records: RunRecords) -> Caution | None:
    """Two reward models order at least 95 % of the pairs of responses alike."""
    told = _meetings(records, lambda share: share >= ALIKE)
    if told is None:
        return None
    return Caution(
        f"Reward models judge almost always alike: {told}.",
        "One of them costs forwards and tells nothing new, and the bandit cannot tell them apart. Leave one out, or"
        " take one that differs.",
    )


def opposed(records: RunRecords) -> Caution | None:
    """Two reward models order at most 5 % of the pairs of responses alike."""
    told = _meetings(records, lambda share: share <= 1 - ALIKE)
    if told is None:
        return None
    return Caution(
        f"Reward models judge almost never alike: {told}.",
        "One seems to be the other's inverse. See which is right on the recorded prompts, and check the sign of the"
        " other's score, its template and its head_weights.",
    )


def displaced(records: RunRecords) -> Caution | None:
    """The chosen responses became less likely while the margin grew: what is rejected only falls faster.

    Likelihood displacement (Razin et al. 2024). The margin starts at 0 in every iteration, so that it grows where its
    mean is above 0. A fall that is due to longer responses alone, with the same likelihood per token, does not count.
    """
    chosen = [value for *_, value in records.metric("train/chosen_logprob")]
    per_token = [-value for *_, value in records.metric("train/nll")]
    margin = [value for *_, value in records.metric("train/margin")]
    fall = clear_change(*_halves(chosen))
    if fall >= 0 or clear_change(*_halves(per_token)) >= 0 or clear_change([0.0, 0.0], margin) <= 0:
        return None
    return Caution(
        f"The chosen responses became less likely by {-fall:.3g} nats from the run's first half to its second, while"
        " the margin over the rejected grew.",
        "The policy moves away from both. Raise model.nll_weight or model.beta, or lower the learning rate.",
    )


def longer(records: RunRecords) -> Caution | None:
    """The last iteration's responses are more than a fifth longer than the first's."""
    lengths = records.metric_by_iteration("train/response_length")
    if len(lengths) < 2:
        return None
    first, last = lengths[min(lengths)], lengths[max(lengths)]
    growth = mean(last) / mean(first)
    if growth <= LONGER or clear_change(first, last) <= 0:
        return None
    return Caution(
        f"Responses are getting longer: {mean(first):.1f} tokens in iteration {min(lengths) + 1}, {mean(last):.1f} in"
        f" iteration {max(lengths) + 1}.",
        "See below whether the longer ones are better. A reward model that likes length, or a sum of log-likelihoods,"
        " may be what grows.",
    )


def truncated(records: RunRecords) -> Caution | None:
    """More than a fifth of the last iteration's responses ended at the limit."""
    shares = records.metric_by_iteration("train/truncated")
    if not shares or mean(shares[max(shares)]) <= TRUNCATED:
        return None
    share = mean(shares[max(shares)])
    supervised = (records.config.get("model") or {}).get("supervised")
    meaning = "The policy does not learn how they end." if supervised else "Reward models judge torsos."
    return Caution(
        f"{share:.0%} of iteration {max(shares) + 1}'s responses were cut at the limit.",
        f"{meaning} Raise data.rollouts.max_new_tokens.",
    )


def flat(records: RunRecords) -> Caution | None:
    """None of the last three iterations' validation accuracies is 0.01 above the one before them."""
    values = [value for *_, value in records.metric("validation/accuracy/sampled/average")]
    if len(values) < 4 or max(values[-3:]) - values[-4] >= FLAT:
        return None
    shown = ", ".join(f"{value:.3f}" for value in values[-4:])
    return Caution(
        f"Validation accuracy is flat: {shown} over the last four iterations.",
        "More iterations of the same will bring little. Look at who judged, or change the learning rate or the reward"
        " models.",
    )


def _meetings(records: RunRecords, odd: Callable[[float], bool]) -> str | None:
    """Pairs of reward models whose agreement is odd, in words; None if there are none. Three at most."""
    found = [
        (both, met)
        for both, met in meetings([*records.judged, *records.probed], records.arms).items()
        if met.prompts >= MET_PROMPTS and met.pairs >= MET_PAIRS and odd(met.share)
    ]
    told = [f"'{a}' and '{b}' order {met.share:.0%} of {met.pairs} pairs of responses alike" for (a, b), met in found]
    return "; ".join([*told[:3], *([f"and {len(told) - 3} more"] if len(told) > 3 else [])]) or None


def _of_last_iteration(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line["iteration"] == lines[-1]["iteration"]]


def _halves(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    return values[: len(values) // 2], values[len(values) // 2 :]
