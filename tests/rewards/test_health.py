"""A reward model that fails again and again is put aside, and comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from laser_pl.errors import ConfigurationError
from laser_pl.rewards.health import Health
from tests.runs import ThroughDisk


def asked(health: Health, name: str, fails: Callable[[int], bool], steps: int) -> list[int]:
    """Steps in which it was asked."""
    found = []
    for step in range(steps):
        health.step = step
        if health.may_be_asked(name):
            found.append(step)
            health.failed(name, "broken") if fails(step) else health.succeeded(name)
    return found


def test_failures_in_a_row_put_aside_for_the_cooldown() -> None:
    """Three failures, five steps aside, then one more failure is enough."""
    health = Health(["a", "b"], max_failures=3, cooldown=5)
    assert asked(health, "a", lambda step: True, 20) == [0, 1, 2, 8, 14]
    assert health.may_be_asked("b")
    assert health.last_reason == "a: broken"


def test_a_success_in_between_starts_the_count_anew() -> None:
    health = Health(["a"], max_failures=2, cooldown=3)
    assert asked(health, "a", lambda step: step % 2 == 0, 10) == list(range(10))


def test_a_success_after_the_cooldown_clears_it() -> None:
    health = Health(["a"], max_failures=2, cooldown=3)
    assert asked(health, "a", lambda step: step in {0, 1, 6}, 9) == [0, 1, 5, 6, 7, 8]


def test_whoever_is_put_aside_is_aside_at_once() -> None:
    health = Health(["a"], max_failures=1, cooldown=1)
    health.failed("a", "broken")
    assert not health.may_be_asked("a")


def test_state_goes_on_by_name(through_disk: ThroughDisk) -> None:
    one, two = Health(["a", "gone"], 2, 4), Health(["new", "a"], 2, 4)
    one.step = 7
    for name in ("a", "a", "gone"):
        one.failed(name, "broken")
    two.load_state_dict(through_disk(one.state_dict()))
    assert (two.step, two.may_be_asked("a"), two.may_be_asked("new")) == (7, False, True)
    two.step = 12
    assert two.may_be_asked("a")
    two.failed("a", "again")
    assert not two.may_be_asked("a")
    two.clear()
    assert two.may_be_asked("a")


@pytest.mark.parametrize("setting", ["max_failures", "cooldown"])
def test_settings_out_of_range_are_named(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{setting} must be >= 1, got 0. Set selection.{setting}"):
        Health(["a"], **{setting: 0})
