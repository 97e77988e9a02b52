"""The figures of a run, made from its records."""

from __future__ import annotations

from collections.abc import Sequence

from laser_pl.messages.parts import called
from laser_pl.report.agreement import agreement
from laser_pl.report.charts import Bars, Chart, Figure, Heat, Lines, Series, Stack
from laser_pl.report.records import Line, RunRecords, shares_by_category
from laser_pl.report.series import binned, known, smoothed

BINS = 24
"""Of shares and expectations along a run; finer ones show single decisions."""
CURVE_BINS = 300
"""Of the training steps' metrics; finer ones are finer than a picture's lines."""

CURVES = (
    ("train/nll", "NLL of the chosen, nats/token"),
    ("train/margin", "margin over reference, nats"),
    ("train/chosen_logprob", "log p of the chosen, nats"),
    ("train/ratio", "mean ratio to the iteration's start"),
    ("train/clipped", "share of ratios that are clipped"),
    ("train/response_length", "response length, tokens"),
    ("train/truncated", "responses cut at the limit"),
    ("rollouts/mismatch", "engine against policy, nats/token"),
)
"""Metrics of the training steps beside the loss, and what they are called."""

_GREY = 6


def figures(records: RunRecords) -> list[Figure]:
    """All of them; one that the records say nothing of has no charts."""
    return [
        accuracy_figure(records),
        arms_figure(records),
        bandit_figure(records),
        training_figure(records),
        agreement_figure(records),
        *([answers_figure(records)] if records.answers else []),
        costs_figure(records),
    ]


def accuracy_figure(records: RunRecords) -> Figure:
    """Validation accuracy after every iteration, and test accuracy before and after."""
    names = records.metric_names("validation/accuracy/sampled/") or records.metric_names("test/accuracy/sampled/")
    keys = {name: place + (place >= _GREY) for place, name in enumerate(names)} | {"average": _GREY}
    charts = []
    for kind in ("sampled", "greedy"):
        series = [one for name in names for one in _accuracy(records, f"{kind}/{name}", name, keys[name])]
        if series:
            charts.append(Lines(f"{kind} responses", "iterations trained", series, percent=True))
    return Figure(
        "accuracy",
        "Accuracy",
        "Share of right responses by category: lines on the validation prompts after every iteration, rings on the test"
        " prompts before training and after it.",
        charts,
        [(name, keys[name]) for name in names],
        "No accuracy is recorded yet, or no prompt has an answer.",
    )


def arms_figure(records: RunRecords) -> Figure:
    """Who scored: along the run, and by category."""
    lines, arms = records.decisions, records.scorers
    charts: list[Chart] = []
    if lines:
        edges, shares = _shares_over_steps(lines, arms)
        charts.append(Stack("share of prompts judged", "training step", edges, arms, shares, iteration_starts(lines)))
        charts.append(_heat("whole run, % of prompts", records.shares, arms))
        last = lines[-1]["iteration"]
        if last > 0:
            own = shares_by_category(line for line in lines if line["iteration"] == last)
            charts.append(_heat(f"iteration {last + 1}, % of prompts", own, arms))
    return Figure(
        "arms",
        "Who scored",
        "Which reward model ranked the responses. Lines show where iterations begin.",
        charts,
        [(arm, key) for key, arm in enumerate(arms)],
    )


def bandit_figure(records: RunRecords) -> Figure:
    """What the bandit expected of each arm, and what it added for not knowing."""
    lines = records.decisions
    found: list[tuple[str, Series]] = []
    for arm in records.arms:
        own = [line for line in lines if arm in line["mean"] and arm in line["bonus"]]
        points = binned([(line["step"], line["mean"][arm]) for line in own], BINS)
        upper = binned([(line["step"], line["mean"][arm] + line["bonus"][arm]) for line in own], BINS)
        if points:
            key = records.scorers.index(arm) if arm in records.scorers else _GREY
            found.append((arm, Series(arm, points, key, upper=upper)))
    every = known([y for _, series in found for _, y in [*series.points, *series.upper]])
    y = min([0.0, *every]), max([0.0, *every])
    return Figure(
        "bandit",
        "What the bandit thought",
        "Expected reward of each arm (line) and its exploration bonus (band above), averaged over neighbouring"
        " decisions. A bandit that draws no lots chooses the arm of the largest sum.",
        [] if y == (0.0, 0.0) else [Lines(arm, "training step", [series], y=y, marks=iteration_starts(lines))
                                    for arm, series in found],
        missing="All expectations and bonuses are 0: this bandit has none, or learned nothing yet." if lines
                else "Nothing of it is recorded yet.",
    )  # fmt: skip


def training_figure(records: RunRecords) -> Figure:
    """Loss, margin, likelihood and length."""
    charts = []
    parts = [(f"train/{part}", f"{called(part)} part of it") for part in records.parts if part != "nll"]
    for name, title in (("train/loss", "loss, nats"), *parts, *CURVES):
        found = records.metric_of_steps(name) if name.startswith("train/") else records.metric(name)
        if known([value for *_, value in found]):
            points = binned([(step, value) for step, _, value in found], CURVE_BINS)
            smooth = smoothed([y for _, y in points], max(3, len(points) // 20))
            line = [(x, y) for (x, _), y in zip(points, smooth, strict=True)]
            series = [Series("each step", points, 0, "faint"), Series("running mean", line, 0)]
            marks = [step for step, iteration, _ in found]
            starts = [step for step, one, other in _neighbours(marks, [i for _, i, _ in found]) if one != other]
            charts.append(Lines(title, "training step", series, name == "train/truncated", starts))
    return Figure(
        "training",
        "Training",
        "Of every step, faintly, and their running mean; gaps are steps that trained nothing. The margin starts at 0 in"
        " every iteration, since the reference is the policy at its start.",
        charts,
    )


def agreement_figure(records: RunRecords) -> Figure:
    """How alike the reward models judge."""
    found = agreement([*records.judged, *records.probed], records.arms)
    return Figure(
        "agreement",
        "Agreement of the reward models",
        "How often two of them put two responses to a prompt in the same order, in per cent, on the recorded prompts"
        " that both scored. 50 is chance.",
        [] if found is None else [Heat("pairs ordered alike, %", records.arms, records.arms, found)],
        missing="Not recorded: no two reward models scored the same responses. Signals that ask all of them on some"
        " prompts (Cooling, Majority, Trusted) make that known, and selection.agreement_probe does.",
    )


def answers_figure(records: RunRecords) -> Figure:
    """What each reward model is worth in each category, without answers and by them."""
    lines = records.last_answers
    titles = {"without": "expected without answers, %", "by_answers": "by answers, %", "worth": "by both, %"}
    values = {part: [[line[part].get(arm) for arm in records.arms] for line in lines] for part in titles}
    rows = [f"{line['category']} ({line['answers']})" for line in lines]
    told = any(line["answers"] for line in lines)
    return Figure(
        "answers",
        "What a few answers say",
        "Pairs of right and wrong responses that each reward model puts in the right order, in per cent: as the"
        " policy's likelihoods let expect, as the answers show, and both together. 50 is chance. In brackets, how many"
        " answers tell.",
        [Heat(title, rows, records.arms, values[part]) for part, title in titles.items() if told or part == "without"],
    )


def costs_figure(records: RunRecords) -> Figure:
    """Time, forwards and tokens."""
    charts = []
    seconds = (records.summary or {}).get("seconds") or {"scoring": _once_per_step(records.decisions)}
    parts = {name: value for name, value in seconds.items() if name != "total"}
    if records.decisions:
        charts.append(_bars("seconds", parts, [f"{value:,.1f} s" for value in parts.values()]))
    forwards = _forwards(records)
    if forwards:
        keys = [records.scorers.index(arm) if arm in records.scorers else _GREY for arm in forwards]
        charts.append(_bars("reward-model forwards", forwards, [f"{count:,}" for count in forwards.values()], keys))
    tokens = {name: sum(value for *_, value in records.metric(f"tokens/{name}")) for name in ("prompts", "responses")}
    if any(tokens.values()):
        charts.append(_bars("tokens of the policy", tokens, [f"{n:,.0f}" for n in tokens.values()]))
    part = "" if records.summary else " The run is not finished: of its time only scoring is known so far."
    return Figure("costs", "Time, forwards and tokens", f"What the run cost, by part.{part}", charts)


def iteration_starts(lines: Sequence[Line]) -> list[float]:
    """The first step of every iteration but the first."""
    found = _neighbours([line["step"] for line in lines], [line["iteration"] for line in lines])
    return [step for step, one, other in found if one != other]


def _neighbours(steps: Sequence[int], iterations: Sequence[int]) -> list[tuple[float, int, int]]:
    return list(zip(map(float, steps[1:]), iterations, iterations[1:], strict=False))


def _accuracy(records: RunRecords, metric: str, name: str, key: int) -> list[Series]:
    found: list[Series] = []
    validated = records.metric_by_iteration(f"validation/accuracy/{metric}")
    after = [(iteration + 1.0, values[-1]) for iteration, values in sorted(validated.items())]
    if after:
        found.append(Series(name, after, key))
    test = [(float(iteration), value) for _, iteration, value in records.metric(f"test/accuracy/{metric}")]
    return [*found, Series(f"{name}, test", test, key, "rings")] if test else found


def _shares_over_steps(lines: Sequence[Line], arms: Sequence[str]) -> tuple[list[float], list[list[float]]]:
    """Edges of bins of steps, and the share of each arm in each bin."""
    first, last = lines[0]["step"], max(line["step"] for line in lines) + 1
    bins = min(BINS, last - first)
    counts = [[0] * bins for _ in arms]
    place = {arm: number for number, arm in enumerate(arms)}
    for line in lines:
        counts[place[line["arm"]]][(line["step"] - first) * bins // (last - first)] += len(line["prompt_ids"])
    totals = [sum(column) or 1 for column in zip(*counts, strict=True)]
    edges = [first + (last - first) * i / bins for i in range(bins + 1)]
    return edges, [[count / total for count, total in zip(row, totals, strict=True)] for row in counts]


def _heat(title: str, shares: dict[str, dict[str, float]], arms: Sequence[str]) -> Heat:
    return Heat(title, list(shares), list(arms), [[own.get(arm, 0.0) for arm in arms] for own in shares.values()])


def _bars(title: str, amounts: dict[str, float], labels: list[str], keys: list[int] | None = None) -> Bars:
    return Bars(title, list(amounts), list(amounts.values()), labels, keys or [0] * len(amounts))


def _once_per_step(lines: Sequence[Line]) -> float:
    """Each decision holds its whole batch's seconds."""
    return sum({line["step"]: float(line.get("reward_model_seconds", 0.0)) for line in lines}.values())


def _forwards(records: RunRecords) -> dict[str, float]:
    if records.summary is not None and records.summary.get("reward_model_forwards"):
        return dict(records.summary["reward_model_forwards"])
    found: dict[str, float] = {}
    for forwards in {line["step"]: line.get("reward_model_forwards", {}) for line in records.decisions}.values():
        for arm, count in forwards.items():
            found[arm] = found.get(arm, 0) + count
    return found
