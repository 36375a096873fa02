"""Who wants what somebody is making waits for it; nobody else does."""

from __future__ import annotations

import threading

import pytest

from lib.serving.one_at_a_time import OneAtATime

PATIENCE = 20.0


def test_who_wants_the_same_waits_until_it_is_made_and_tells_so_before() -> None:
    one, told, order = OneAtATime(), threading.Event(), []

    def second() -> None:
        with one.making("a", told.set):
            order.append("second")

    with one.making("a"):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert told.wait(PATIENCE)
        order.append("first")
    waiting.join(PATIENCE)

    assert order == ["first", "second"]


def test_who_wants_something_else_does_not_wait() -> None:
    one, told = OneAtATime(), threading.Event()

    with one.making("a"), one.making("b", told.set):
        assert not told.is_set()


def test_after_a_failure_the_next_one_is_let_in_without_waiting() -> None:
    one, told = OneAtATime(), threading.Event()
    with pytest.raises(OSError, match="disk"), one.making("a"):
        raise OSError("disk")

    with one.making("a", told.set):
        assert not told.is_set()
