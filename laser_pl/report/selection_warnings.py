"""What is odd about who was chosen, and what the bandit learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from laser_pl.report.caution import Caution
from laser_pl.report.records import Line, RunRecords, table, trained_nothing
from laser_pl.report.series import mean

COLLAPSED = 0.95
"""Share of an iteration's prompts from which on one arm is alone."""
IDLE = 0.2
"""Share of steps without a pair above which much of a run trains nothing."""
TIED = 0.5
TIED_OF = 5
"""Share of the decisions for which an arm was asked in which its scores may tie, and how many there must be of them."""
NOISE = 2.0
"""F ratio below which arms do not clearly differ: by chance alone one in twenty goes beyond 1.7 with 150 rewards of 5
arms in 4 categories, and beyond 2.9 with 25 rewards of 5 arms."""
NOT_MEANT_TO_LEARN = {"Fixed", "Uniform", "RoundRobin", "Oracle"}
"""Baselines: that they collapse, or learn nothing, is what they are for."""
EXPLORES_BY = ("alpha", "epsilon", "spread", "scale", "gamma")
"""What bandits call the setting by which they explore; of two that one has, the first."""


def collapsed(records: RunRecords) -> Caution | None:
    """One arm judged at least 95 % of the last iteration's prompts, and a learning bandit had others to choose."""
    lines = _of_last_iteration(records.decisions)
    if records.bandit in NOT_MEANT_TO_LEARN or len(lines) < 10 or len(lines[-1]["mean"]) < 2:
        return None
    counts = _prompts(lines)
    (arm, count), total = counts.most_common(1)[0], counts.total()
    if count < COLLAPSED * total:
        return None
    what = f"Selection collapsed: '{arm}' judged {count / total:.0%} of iteration {lines[0]['iteration'] + 1}'s prompts"
    instead = [line for line in lines if line["arm"] == arm and line.get("passed_over")]
    in_place = _prompts(instead)[arm]
    if count - in_place >= COLLAPSED * total:
        return Caution(
            f"{what}.",
            f"That is right if it is the best everywhere; if not, {_explore(records)}, or learn from another signal.",
        )
    others = _listed(name for line in instead for name in line["passed_over"])
    return Caution(
        f"{what}, {in_place / total:.0%} in place of others that came first ({others}).",
        f"The bandit did not choose it there. {_why_no_pairs(instead)}",
    )


def never_tried(records: RunRecords) -> Caution | None:
    """An arm that was neither chosen nor rewarded, though there were at least two decisions for each arm."""
    lines = records.decisions
    if records.bandit in NOT_MEANT_TO_LEARN or len(lines) < 2 * len(records.arms):
        return None
    seen = _judges_and_rewarded(lines) | {arm for line in lines for arm in line.get("passed_over") or []}
    unseen = [arm for arm in lines[-1]["mean"] if arm not in seen]
    if not unseen:
        return None
    return Caution(
        f"Never tried: {_listed(unseen)}.",
        f"The bandit knows nothing of it. To have what is unknown tried, {_explore(records)}; or leave it out.",
    )


def never_judged(records: RunRecords) -> Caution | None:
    """An arm whose turn came and that never judged: it failed, had no opinion, or distinguished no two responses.

    Those whose scores tied again and again are ``told_nothing_apart``'s.
    """
    lines, tied = records.decisions, _tied(records)
    judges = {line["arm"] for line in lines}
    passed = Counter(
        arm for line in lines for arm in line.get("passed_over") or [] if arm not in judges and arm not in tied
    )
    if not passed:
        return None
    told = ", ".join(f"'{arm}' (its turn came {_times(count)})" for arm, count in passed.items())
    own = [line for line in lines if set(line.get("passed_over") or []) & set(passed)]
    return Caution(f"Tried, but never judged: {told}.", _why_no_pairs(own, set(passed)))


def told_nothing_apart(records: RunRecords) -> Caution | None:
    """An arm that was asked in at least five decisions and whose scores tied in half of them or more."""
    odd = [
        f"in {tied} of the {asked} decisions for which '{arm}' was asked its scores tied"
        for arm, (tied, asked) in _tied(records).items()
    ]
    if not odd:
        return None
    return Caution(
        f"Reward models that distinguish no responses: {'; '.join(odd)}.",
        "They cost forwards and made no pair; the next best judged in their place. Look at such a one's scores of the"
        " recorded prompts: at its template and scale, at selection.pairs.min_margin, or leave it out. More exploration"
        " does not help.",
    )


def nothing_observed(records: RunRecords) -> Caution | None:
    """An iteration in which the signal measured no arm at all; arms whose scores tied are observed without it."""
    if records.bandit in NOT_MEANT_TO_LEARN:
        return None
    measured: dict[int, bool] = {}
    for line in records.decisions:
        if line.get("observed") is None:  # the step never came to its end
            continue
        own = any(arm not in (line.get("passed_over") or []) for arm in line["observed"])
        measured[line["iteration"]] = measured.get(line["iteration"], False) or own
    silent = [str(iteration + 1) for iteration, any_ in measured.items() if not any_]
    if not silent:
        return None
    several = "s" if len(silent) > 1 else ""
    advice = {
        None: "The bandit learned nothing there, since no step had pairs and a finite loss.",
        "Trusted": "The bandit learned nothing there: no prompt that it asked about had an answer and right and wrong"
        " responses. Raise selection.signal.share or data.rollouts.n, and see whether the matcher reads the answers.",
    }
    other = "The bandit learned nothing there. Raise selection.signal.share, the prompts that all are asked about."
    return Caution(
        f"The signal {records.signal} observed nothing in iteration{several} {', '.join(silent)}.",
        advice.get(None if _share(records) is None else records.signal, other),
    )


def _tied(records: RunRecords) -> dict[str, tuple[int, int]]:
    """Arms whose scores tied too often: in how many decisions, of how many for which they were asked."""
    found = {}
    for arm in records.arms:
        tied = sum(arm in (line.get("tied") or []) for line in records.decisions)
        asked = tied + sum(line["arm"] == arm and arm not in (line.get("tied") or []) for line in records.decisions)
        if asked >= TIED_OF and tied >= TIED * asked:
            found[arm] = (tied, asked)
    return found


def idle(records: RunRecords) -> Caution | None:
    """More than a fifth of the steps had nothing to learn from, so that nothing was trained."""
    steps = [list(own) for _, own in groupby(records.decisions, key=lambda line: int(line["step"]))]
    empty = [own for own in steps if all(map(trained_nothing, own))]
    if len(empty) <= IDLE * len(steps):
        return None
    scored = any(line.get("pairs", 0) is None for own in empty for line in own)
    found = "No responses were distinguished" if scored else "No pair could be made"
    what = f"{found} in {len(empty)} of {len(steps)} steps, which trained nothing."
    if names := _forbidden(empty, _responses(records)):
        return Caution(
            what, f"Every response was forbidden: see the threshold of {_listed(names)} in selection.constraints."
        )
    truncated = table(records.config, "selection", "pairs", "init_args").get("truncated", "keep")
    if truncated != "keep" and mean([value for *_, value in records.metric("train/truncated")]) > 0.5:
        return Caution(
            what,
            f"Most are cut, and selection.pairs.truncated is {truncated}. Raise data.rollouts.max_new_tokens.",
        )
    return Caution(what, _why_no_pairs([line for own in empty for line in own]))


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
        f"Its choices follow luck, or the reward models are equally good. {_clearer_rewards(records)}",
    )


def _clearer_rewards(records: RunRecords) -> str:
    """What would distinguish arms that the run does not do yet."""
    selection, share = table(records.config, "selection"), _share(records)
    ways = ["more iterations"]
    if selection.get("granularity") != "prompt":
        ways.insert(0, "more decisions (selection.granularity: prompt)")
    if share is None:
        ways.insert(0, "a signal that asks all reward models (--config preset:cooling or preset:trusted)")
    elif share < 1:
        ways.insert(0, f"a selection.signal.share above {share:g}")
    return f"What distinguishes them better is {' or '.join([', '.join(ways[:-1]), ways[-1]] if ways[:-1] else ways)}."


def _share(records: RunRecords) -> float | None:
    """On what share of the prompts the signal asks all; None for signals that do not."""
    share = table(records.config, "selection", "signal", "init_args").get("share")
    return float(share) if isinstance(share, (int, float)) else None


def _explore(records: RunRecords) -> str:
    """How this run's bandit is made to try more."""
    settings = table(records.config, "selection", "bandit", "init_args")
    name = next((name for name in EXPLORES_BY if name in settings), None)
    return "choose a bandit that explores" if name is None else f"raise selection.bandit.{name}"


def _why_no_pairs(lines: Sequence[Line], arms: set[str] | None = None) -> str:
    """Advice for the commonest reason why reward models that were asked made no pair.

    Args:
        lines: Decisions in which that was so.
        arms: Which reward models are meant; all if not given.
    """
    causes: Counter[str] = Counter()
    for line in lines:
        passed = {arm for arm in line.get("passed_over") or [] if arms is None or arm in arms}
        missing = {arm: kinds for arm, kinds in (line.get("missing") or {}).items() if arms is None or arm in arms}
        kinds = {kind for own in missing.values() for kind in own}
        if kinds == {"none"}:
            causes["no opinion"] += 1
        elif kinds or passed - set(line.get("tied") or []):
            causes["no label"] += 1
        else:
            causes["tied"] += 1
    cause = causes.most_common(1)[0][0]
    return _WHY[cause]


_WHY = {
    "no opinion": "No opinion was given there (None): leave out who has none on these prompts.",
    "no label": "Labels were missing there, or reward models were put aside after failures; the log says why. Mend"
    " them, or leave them out.",
    "tied": "Scores tied there, or responses were the same: lower selection.pairs.min_margin, sample more or warmer"
    " responses (data.rollouts.n, temperature), or leave out who distinguishes nothing.",
}


def _forbidden(steps: Sequence[Sequence[Line]], n: int | None) -> list[str]:
    """Constraints that failed every response in most of these steps."""
    found: Counter[str] = Counter()
    for own in steps:
        responses = (n or 0) * sum(len(line["prompt_ids"]) for line in own)
        found.update(name for name, count in (own[0].get("forbidden") or {}).items() if 0 < responses <= count)
    return [name for name, count in found.items() if count > len(steps) / 2]


def _responses(records: RunRecords) -> int | None:
    n = table(records.config, "data", "rollouts").get("n")
    return n if isinstance(n, int) else None


def _prompts(lines: Iterable[Line]) -> Counter[str]:
    """How many each arm judged."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts[line["arm"]] += len(line["prompt_ids"])
    return counts


def _judges_and_rewarded(lines: Iterable[Line]) -> set[str]:
    return {arm for line in lines for arm in [line["arm"], *(line.get("reward") or {})]}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in dict.fromkeys(names))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _of_last_iteration(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line["iteration"] == lines[-1]["iteration"]]
