"""Work in a thread."""

from __future__ import annotations

from threading import Event

import pytest

from laser_pl.runtime import progress
from laser_pl.runtime.meanwhile import Meanwhile
from tests.runtime.test_progress import Heard


def test_it_is_done_beside_and_not_heard() -> None:
    go, done, heard = Event(), [], Heard()

    def work() -> None:
        done.append(go.wait(60))
        progress.advance(1)

    with progress.listening(heard):
        meanwhile = Meanwhile(work)
        assert not done
        go.set()
        meanwhile.end()
    assert done == [True]
    assert heard.counts == []


def test_its_error_is_raised_where_its_end_is_waited_for() -> None:
    def work() -> None:
        raise ValueError("bad")

    meanwhile = Meanwhile(work)
    meanwhile.wait()
    with pytest.raises(ValueError, match="bad"):
        meanwhile.end()
