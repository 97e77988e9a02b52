"""What is shown of a run is a function of its state: words and picture, without a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from laser_pl.runtime.progress import Task
from laser_pl.selection.decision import Decision
from laser_pl.view.lines import Lines
from laser_pl.view.picture import picture
from laser_pl.view.state import State
from laser_pl.view.words import decision_in_words, iteration_in_words, rate, seconds_left, task_in_words

HOSTILE = "x[/bold]\x1b[31m\r\n\u202e[blink]"
ESCAPED = r"x[/bold]\x1b[31m\r\n\u202e[blink]"


def decision(
    mean: Mapping[str, float], bonus: Mapping[str, float], arm: str = "rm_numbers", **changes: Any
) -> Decision:
    settings: dict[str, Any] = {
        "iteration": 0, "step": 0, "prompt_ids": ["p", "q"], "category": "arithmetic", "arm": arm, "passed_over": [],
        "mean": dict(mean), "bonus": dict(bonus), "pairs": 4, "prompts_without_pairs": 0, "forbidden": {},
        "reward_model_seconds": 0.0, "reward_model_forwards": {}, "missing": {}, "loss": 0.5,
    }  # fmt: skip
    return Decision(**{**settings, **changes})


MEAN = {"rm_numbers": 0.61, "rm_sorter": 0.25, "rm_mirror": 0.40}
BONUS = {"rm_numbers": 0.08, "rm_sorter": 0.30, "rm_mirror": 0.12}
NONE = dict.fromkeys(MEAN, 0.0)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (decision(MEAN, BONUS), "arithmetic: rm_numbers, mean 0.61 + bonus 0.08, next best 0.55 (rm_sorter)"),
        (decision(MEAN, NONE), "arithmetic: rm_numbers, mean 0.61, next best 0.40 (rm_mirror)"),
        (decision(NONE, NONE, category=None), "a mixed batch: rm_numbers"),
        (decision({"a": 0.5}, {"a": 0.1}, arm="a"), "arithmetic: a, mean 0.50 + bonus 0.10"),
        (
            decision(MEAN, BONUS, arm="rm_sorter", passed_over=["rm_numbers"]),
            "arithmetic: rm_sorter in place of rm_numbers, mean 0.25 + bonus 0.30, next best 0.52 (rm_mirror)",
        ),
        (decision(MEAN, NONE, arm="rm_sorter"), "arithmetic: rm_sorter, mean 0.25, by lot before 0.61 (rm_numbers)"),
        (decision({HOSTILE: 0.5}, {HOSTILE: 0.0}, arm=HOSTILE), f"arithmetic: {ESCAPED}, mean 0.50"),
    ],
    ids=["as in the task", "no bonus", "no opinion", "one arm", "passed over", "by lot", "hostile"],
)
def test_the_last_decision_is_told_in_words(made: Decision, words: str) -> None:
    assert decision_in_words(made) == words


def under_way(arms: int = 3) -> State:
    """A run in its second iteration, with a reward model that scores for long, at the time 100."""
    names = [HOSTILE, *(f"arm{number}" for number in range(arms - 1))]
    zero = dict.fromkeys(names, 0.0)
    state = State(HOSTILE, began=0.0, iteration=2, iterations=4)
    state = state.measured("test before", 0.46).measured("validation", 0.5)
    for number in (0, 1, 1, 1):
        state = state.decided([decision(zero, zero, arm=names[number], category=HOSTILE, iteration=1)], names)
    state = state.begin(Task("training", "steps", 40, 0, 0, began=90.0)).advance(10, 95.0)
    return state.begin(Task(f"scoring by {HOSTILE}", "forwards", 480, began=94.0)).advance(96, 96.0)


def drawn(state: State, width: int, height: int, **settings: Any) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None, **settings)
    with console.capture() as capture:
        console.print(picture(state, 100.0, width, height))
    return capture.get().splitlines()


def test_a_picture_says_phase_iteration_step_loss_accuracy_shares_and_the_last_choice() -> None:
    lines = [line.rstrip() for line in drawn(under_way(), 100, 24)]
    assert lines[0] == f"run          {ESCAPED}   iteration 2 of 4   step 1   0:01:40"
    assert lines[1].startswith("training     ━")
    assert lines[1].endswith("─  10 of 40 steps, 2.0/s, 0:00:10 left")  # 30 more at that rate, 5 seconds ago
    assert lines[2].strip() == rf"scoring by {ESCAPED}: 96 of 480 forwards, 48/s, 0:00:04 left"
    assert lines[3:5] == ["loss         0.500, mean of the iteration 0.500",
                          "accuracy     test before 0.460, validation 0.500"]  # fmt: skip
    shares = [(line[:13].strip(), *line[13:].split()[:2]) for line in lines[5:8]]
    assert shares == [("scored by", "arm0", "75%"), ("", ESCAPED[:23] + "…", "25%"), ("", "arm1", "0%")]
    assert lines[8] == f"last choice  {ESCAPED}: arm0"


def test_the_lengths_of_bars_are_the_shares_and_need_no_colours() -> None:
    lines = drawn(under_way(), 90, 24)
    done, left = lines[1].count("━"), lines[1].count("─")
    assert done / (done + left) == pytest.approx(0.25, abs=0.02)
    most, some, none = (line.count("━") for line in lines[5:8])
    assert most / some == pytest.approx(3, abs=0.2)
    assert none == 0


@pytest.mark.parametrize("width", [1, 7, 20, 59, 60, 79, 100, 300])
@pytest.mark.parametrize("arms", [3, 40])
def test_a_picture_fits_any_width_and_holds_nothing_that_a_terminal_would_act_on(width: int, arms: int) -> None:
    lines = drawn(under_way(arms), width, 24)
    assert max(map(cell_len, lines)) <= min(width, 100)
    assert all(character.isprintable() for line in lines for character in line)


@pytest.mark.parametrize("height", [12, 24, 60])
def test_arms_that_find_no_room_are_counted(height: int) -> None:
    lines = drawn(under_way(40), 90, height)
    assert len(lines) < height
    shown = [line for line in lines if " arm" in line and "%" in line]
    rest = [line.split() for line in lines if " more " in line]
    assert [int(words[1]) for words in rest] == ([40 - len(shown) - 1] if height < 60 else [])  # one is not arm...


def test_a_terminal_without_such_letters_gets_others() -> None:
    class Old:
        encoding = "ascii"

        def write(self, text: str) -> int:
            text.encode("ascii")
            return len(text)

        def flush(self) -> None:
            pass

    assert any("===" in line and "---" in line for line in drawn(under_way(), 90, 24, file=Old()))


def test_what_is_left_counts_down_until_something_is_done_and_is_not_told_when_it_took_longer() -> None:
    task = Task("rollouts", "responses", 100, done=50, found=10, began=0.0, advanced=20.0)
    assert rate(task) == 2.0  # those that were found took no time
    assert [seconds_left(task, now) for now in (20.0, 44.0, 46.0)] == [25.0, 1.0, None]


def test_an_iteration_is_told_by_what_came_of_it() -> None:
    state = under_way()
    assert iteration_in_words(state) == f"Iteration 2 of 4: mean loss 0.500; scored by arm0 75%, {ESCAPED} 25%"


def test_losses_and_shares_begin_again_with_an_iteration_and_a_step_without_pairs_has_no_loss() -> None:
    zero, arms = dict.fromkeys("ab", 0.0), ["a", "b"]
    state = State().decided([decision(zero, zero, arm="a", loss=3.0)], arms)
    state = state.decided([decision(zero, zero, arm="b", iteration=1, step=1, loss=None)], arms)
    assert (state.loss, state.mean_loss, state.shares) == (None, None, {"b": 1.0, "a": 0.0})
    pairs = [
        decision(zero, zero, arm="a", iteration=1, step=2, loss=1.0),
        decision(zero, zero, arm="a", iteration=1, step=2, loss=4.0, prompts_without_pairs=1),
    ]
    state = state.decided(pairs, arms)
    assert (state.step, state.loss, state.mean_loss) == (3, 2.0, 2.0)  # two prompts of 1 and one of 4


def test_a_log_is_never_silent_for_much_more_than_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    state, seconds = under_way(), [100.0]
    lines = Lines(lambda: state, lambda: seconds[0])
    for now in range(100, 400):
        seconds[0] = float(now)
        if now == 220:
            lines.say("something else")
        lines.break_silence()
    said = capsys.readouterr().err.splitlines()
    times = [line[: line.index("]")] for line in said]
    assert times == ["[0:02:40", "[0:03:40", "[0:04:40", "[0:05:40"]  # the second was said by somebody else
    assert said[0] == "[0:02:40] " + task_in_words(state, 160.0)
    assert said[0].startswith(f"[0:02:40] Iteration 2 of 4, training 10 of 40, scoring by {ESCAPED}: 96 of 480")
