"""A run's progress in words, for lines and for the picture alike."""

from __future__ import annotations

from laser_pl.messages.percentages import in_per_cent
from laser_pl.messages.terminal import shown
from laser_pl.runtime.progress import Task
from laser_pl.selection.decision import Decision
from laser_pl.view.state import State


def clock(seconds: float) -> str:
    """A duration.

    >>> clock(3.9), clock(3725)
    ('0:00:03', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def rate(task: Task) -> float | None:
    """How many were done in a second, as far as the last of them; None where nothing can be said yet."""
    if task.advanced is None or task.advanced <= task.began or task.done <= task.found:
        return None
    return (task.done - task.found) / (task.advanced - task.began)


def seconds_left(task: Task, now: float) -> float | None:
    """How long it will still take if it goes on as it did; None where it took longer, or nothing can be said."""
    speed = rate(task)
    if speed is None or task.total is None or task.advanced is None:
        return None
    left = (task.total - task.done) / speed - (now - task.advanced)
    return left if left >= 0 else None


def how_far(task: Task, now: float) -> str:
    """How much of a task is done, how fast, and for how long it will go on.

    >>> how_far(Task("rollouts", "responses", total=960, done=240, began=0.0, advanced=60.0), now=70.0)
    '240 of 960 responses, 4.0/s, 0:02:50 left'
    >>> how_far(Task("scoring by x", "forwards", total=960, began=0.0), now=60.0)
    '960 forwards, for 0:01:00'
    >>> how_far(Task("loading the policy", began=0.0), now=5.0)
    'for 0:00:05'
    """
    speed, left = rate(task), seconds_left(task, now)
    if task.total is None or speed is None:
        amount = "" if task.total is None else f"{task.total:.0f} {task.unit}, "
        return f"{amount}for {clock(now - task.began)}"
    done = f"{min(task.done, task.total):.0f} of {task.total:.0f} {task.unit}, {_speed(speed)}"
    return done if left is None else f"{done}, {clock(left)} left"


def _speed(per_second: float) -> str:
    """Per second, or per minute where that would be a small fraction.

    >>> _speed(512.3), _speed(4.25), _speed(0.05)
    ('512/s', '4.2/s', '3.0/min')
    """
    if per_second < 0.5:
        return f"{60 * per_second:.1f}/min"
    return f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def place(state: State) -> str:
    """Where in the run it is.

    >>> place(State(iteration=2, iterations=4)), place(State(iteration=2)), place(State())
    ('iteration 2 of 4', 'iteration 2', '')
    """
    if state.iteration is None:
        return ""
    return f"iteration {state.iteration}" + (f" of {state.iterations}" if state.iterations else "")


def decision_in_words(decision: Decision) -> str:
    """Who scored what, and why: the bandit's expectation, what its uncertainty added, and who would have been next.

    Bandits whose bonus is zero everywhere add none; those without any opinion have no reason to show. One that draws
    lots may choose an arm whose sum is smaller than another's.
    """
    category = "a mixed batch" if decision.category is None else decision.category
    why = ""
    if any(decision.mean.values()) or any(decision.bonus.values()):
        values = {arm: decision.mean[arm] + decision.bonus[arm] for arm in decision.mean}
        bonus = f" + bonus {decision.bonus[decision.arm]:.2f}" if any(decision.bonus.values()) else ""
        why = f", mean {decision.mean[decision.arm]:.2f}{bonus}"
        others = {arm: value for arm, value in values.items() if arm not in {decision.arm, *decision.passed_over}}
        if others:
            best = max(others, key=others.__getitem__)
            by_lot = others[best] > values[decision.arm] and not decision.passed_over
            why += f", {'by lot before' if by_lot else 'next best'} {others[best]:.2f} ({best})"
    passed = [arm + " (its scores tied)" * (arm in decision.tied) for arm in decision.passed_over]
    instead = f" in place of {' and '.join(passed)}" if passed else ""
    return shown(f"{category}: {decision.arm}{instead}{why}")


def iteration_in_words(state: State) -> str:
    """What came of an iteration."""
    found = []
    if state.mean_loss is not None:
        found.append(f"mean loss {state.mean_loss:.3f}")
    if state.validated_in == state.iteration and "validation" in state.accuracy:
        found.append(f"validation accuracy {state.accuracy['validation'][-1]:.3f}")
    shares = ", ".join(in_per_cent(state.shares))
    if shares:
        found.append(f"scored by {shares}")
    return shown(f"{place(state).capitalize()}: {'; '.join(found) or 'nothing was trained'}")


def accuracy_in_words(phase: str, state: State) -> str:
    """What a phase has measured."""
    return f"{phase.capitalize()}: accuracy {state.accuracy[phase][-1]:.3f}"


def task_in_words(state: State, now: float) -> str:
    """What is under way, from the outermost to the innermost, and how far the innermost is.

    >>> task_in_words(State(iteration=2, iterations=4), now=0.0)
    'Iteration 2 of 4: between two phases'
    """
    where = [place(state)] if state.iteration is not None else []
    if not state.tasks:
        return ": ".join([*where, "between two phases"]).capitalize()
    *outer, last = state.tasks
    names = [task.what if task.total is None else f"{task.what} {task.done:.0f} of {task.total:.0f}" for task in outer]
    text = f"{', '.join([*where, *names, last.what])}: {how_far(last, now)}"
    return shown(text[:1].upper() + text[1:])
