"""``python -m laser_pl explain``: why a reward model judged, in words."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from laser_pl.command_line.arguments import Arguments, run_command
from laser_pl.errors import ConfigurationError
from laser_pl.messages import misled
from laser_pl.messages.terminal import as_markup
from laser_pl.report.records import Line, RunRecords, read_records, told_of, trained_nothing
from laser_pl.report.sample import responses_of
from laser_pl.report.series import mean
from laser_pl.report.text import line

MOST_RESPONSES = 50
"""To a prompt that are listed, the scorer's favourites."""


def explain_step(args: Sequence[str], console: Console | None = None) -> list[Line]:
    """Say why a step's prompts were scored by whom.

    Args:
        args: What stands behind ``explain`` on the command line.
        console: Where to print; standard output if not given.

    Returns:
        The step's decisions, lines of ``selection.jsonl``.

    Raises:
        ConfigurationError: If there is no run or no such step.
    """
    parser = Arguments("explain", "Say why a reward model judged a step's prompts, and how it did on earlier ones.")
    parser.add_argument("run", metavar="RUN", type=Path, help="A run's folder, such as runs/quickstart.")
    parser.add_argument("--step", type=int, required=True, help="The training step, counted from 0.")
    options = parser.parse_args(args)
    with told_of(options.run):
        return _explain(options, console)


def _explain(options: Namespace, console: Console | None) -> list[Line]:
    records = read_records(options.run)
    steps = sorted({one["step"] for one in records.decisions})
    if options.step not in steps:
        known = f"it has steps {steps[0]} to {steps[-1]}" if steps else "nothing is recorded yet"
        raise ConfigurationError(f"explain: the run '{options.run}' has no step {options.step}; {known}. Set --step.")
    decisions = [one for one in records.decisions if one["step"] == options.step]
    _print_step(console or Console(highlight=False), records, decisions)
    return decisions


def main(args: Sequence[str]) -> list[Line]:
    """The command.

    Raises:
        SystemExit: With code 2 and one sentence on standard error, if the user has something to mend.
    """
    return run_command(explain_step, args)


def _print_step(console: Console, records: RunRecords, decisions: Sequence[Line]) -> None:
    step = decisions[0]["step"]
    number = f"{len(decisions)} decisions" if len(decisions) > 1 else "one decision"
    _say(console, f"Step {step}, iteration {decisions[0]['iteration'] + 1}: {number} by {records.bandit}.")
    earlier = [one for one in records.decisions if one["step"] < step]
    recorded = [one for one in records.judged if one["step"] == step]
    questions = {one["prompt_id"]: one.get("question") or one["prompt"] for one in recorded}
    for decision in decisions:
        console.rule(style="dim")
        _say(console, about(decision, questions))
        _say(console, reason(decision))
        alike = [one for one in earlier if one.get("category") == decision.get("category")]
        console.print(_arms_table(decision, alike))
        for told in misled_by(records.answers, decision):
            _say(console, told)
        _say(console, outcome(decision))
    console.rule(style="dim")
    if not recorded:
        _say(console, "Scores and pairs of this step are not among those that judged.jsonl keeps.")
    for one in recorded:
        console.print(_responses_table(one))


def about(decision: Line, questions: Mapping[str, str]) -> str:
    """Who scored what.

    Args:
        decision: A line of ``selection.jsonl``.
        questions: What prompts ask, of those that are recorded.

    >>> about({"arm": "a", "prompt_ids": ["p", "q"], "category": "sums"}, {"q": "1+1=?"})
    "'a' judged 2 prompts of category 'sums', one of them: 1+1=?"
    """
    ids, category = decision["prompt_ids"], decision.get("category")
    prompts = f"{len(ids)} prompts" if len(ids) > 1 else "one prompt"
    kind = "of several categories" if category is None else f"of category '{line(category)}'"
    known = next((questions[id_] for id_ in ids if id_ in questions), None)
    such = "" if known is None else f", one of them: {line(known)}" if len(ids) > 1 else f": {line(known)}"
    return f"'{line(decision['arm'])}' judged {prompts} {kind}{such}"


def reason(decision: Line) -> str:
    """Why the arm was chosen, as far as expectations and bonuses explain it.

    >>> reason({"arm": "a", "mean": {"a": 0.2, "b": 0.5}, "bonus": {"a": 0.9, "b": 0.1}})
    'Its expected reward, +0.200, is number 2 of 2; with its bonus of 0.900 for what is unknown it has the largest sum.'
    """
    arm, mean = decision["arm"], decision["mean"]
    bonus = {name: decision["bonus"].get(name, 0.0) for name in mean}
    tied = decision.get("tied") or []
    passed = [f"'{line(name)}'" for name in decision.get("passed_over") or [] if name not in tied]
    aside = f" {', '.join(passed)} came first, but was aside or gave no label." if passed else ""
    if tied:
        names = " and ".join(f"'{line(name)}'" for name in tied)
        aside += f" {names} was asked, but its scores tied." if len(tied) == 1 else f" {names} were asked, but tied."
    if arm not in mean or not any([*mean.values(), *bonus.values()]):
        return f"The bandit has no expectations, so it was chosen by rule or by lot.{aside}"
    total = {name: mean[name] + bonus[name] for name in mean}
    rank = 1 + sum(value > mean[arm] for value in mean.values())
    best = max(total, key=lambda name: total[name])
    if total[arm] == total[best]:
        equal = sum(value == total[arm] for value in total.values())
        others = "one other has" if equal == 2 else f"{equal - 1} others have"
        sum_ = "it has the largest sum" + (f", which {others} as well; a lot decided" if equal > 1 else "")
    else:
        sum_ = f"its sum is not the largest ('{line(best)}' has that)"
        sum_ += "" if passed or tied else ": this bandit explores by lot"
    return (
        f"Its expected reward, {mean[arm]:+.3f}, is number {rank} of {len(mean)}; with its bonus of {bonus[arm]:.3f}"
        f" for what is unknown {sum_}.{aside}"
    )


def misled_by(answers: Sequence[Line], decision: Line) -> list[str]:
    """That likelihoods mislead in the decision's category, if answers said so by the end of its iteration.

    Args:
        answers: Lines of ``answers.jsonl``.
        decision: A line of ``selection.jsonl``.
    """
    category, iteration = decision.get("category"), decision["iteration"]
    lines = [one for one in answers if one["iteration"] == iteration and one["misled"] is not None]
    of_it = [one for one in lines if category in (None, one["category"])]  # of all, where a decision is about several
    return [f"{misled.what(line(one['category']), one['answers'], one['misled'])} {misled.ADVICE}" for one in of_it]


def outcome(decision: Line) -> str:
    """What came of it.

    >>> outcome({"loss": None, "pairs": 0})
    'No pairs could be made, so it trained nothing. The bandit learned nothing of it.'
    """
    rewards = ", ".join(f"{line(arm)} {value:+.3f}" for arm, value in (decision.get("reward") or {}).items())
    learned = f"The bandit learned: {rewards}." if rewards else "The bandit learned nothing of it."
    pairs, loss = decision.get("pairs"), decision.get("loss")
    if trained_nothing(decision):
        nothing = "No responses were distinguished" if pairs is None else "No pairs could be made"
        return f"{nothing}, so it trained nothing. {learned}"
    number = "Scores" if pairs is None else "One pair" if pairs == 1 else f"{pairs} pairs"
    if loss is None or not math.isfinite(loss):
        return f"{number} gave a loss or a gradient that is no finite number, so the step trained nothing. {learned}"
    return f"{number} gave a loss of {loss:.3f}. {learned}"


def _say(console: Console, text: str) -> None:
    console.print(as_markup(text), soft_wrap=True)


def _arms_table(decision: Line, earlier: Sequence[Line]) -> Table:
    """What the bandit thought of each arm, and how the arm did on earlier decisions about prompts of the category."""
    title = f"The arms, and how they did in {len(earlier)} earlier decisions of this category"
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(("arm", "expected", "bonus", "sum", "judged there", "mean reward there")):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for arm, expected in decision["mean"].items():
        bonus, judged = decision["bonus"].get(arm, 0.0), sum(one["arm"] == arm for one in earlier)
        rewards = [one["reward"][arm] for one in earlier if arm in (one.get("reward") or {})]
        table.add_row(
            escape(line(arm)), f"{expected:+.3f}", f"{bonus:.3f}", f"{expected + bonus:+.3f}", str(judged),
            f"{mean(rewards):+.3f} ({len(rewards)})" if rewards else "",
            style="bold" if arm == decision["arm"] else "",
        )  # fmt: skip
    return table


def _responses_table(one: Line) -> Table:
    others = [arm for arm in one["scores"] if arm != one["arm"]]
    title = escape(f"Responses to: {line(one.get('question') or one['prompt'])}")
    table = Table(title=title, title_justify="left")
    table.add_column("response")
    for heading in (one["arm"], *others, "chosen", "rejected"):
        table.add_column(escape(line(heading, 20)), justify="right")
    responses = responses_of(one)
    for response in responses[:MOST_RESPONSES]:
        scores = [response.score, *(response.others[arm] for arm in others)]
        counts = [str(count) if count else "" for count in (response.chosen, response.rejected)]
        shown = ["" if score is None else f"{score:.3g}" for score in scores]
        table.add_row(escape(line(response.text.shown)), *shown, *counts)
    if len(responses) > MOST_RESPONSES:
        table.caption = f"{len(responses) - MOST_RESPONSES:,} more in judged.jsonl"
    return table
