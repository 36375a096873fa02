"""Who has which case open."""

from __future__ import annotations

import pytest

from lib.errors import TooManyRequests
from lib.serving import presence
from lib.serving.presence import LASTING_SECONDS, Presence


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def windows(clock: Clock) -> Presence:
    return Presence(clock)


def names(others: list[presence.Present]) -> list[str]:
    return [one.name for one in others]


def test_whoever_is_not_heard_of_for_a_while_is_gone(windows: Presence, clock: Clock) -> None:
    windows.here("ct", "mia", "a", 1)
    clock.now += LASTING_SECONDS
    assert names(windows.here("ct", "lee", "b", 1)) == ["mia"]

    clock.now += 1
    assert names(windows.here("ct", "lee", "b", 1)) == []


def test_who_goes_on_telling_stays_since_the_beginning(windows: Presence, clock: Clock) -> None:
    (before,) = [windows.here("ct", "mia", "a", 1), windows.here("ct", "lee", "b", 1)][1]
    clock.now += LASTING_SECONDS - 1
    windows.here("ct", "mia", "a", 2)
    clock.now += LASTING_SECONDS - 1

    (after,) = windows.here("ct", "lee", "b", 1)
    assert (after.since, after.version) == (before.since, 2)


def test_other_cases_are_other_rooms(windows: Presence) -> None:
    windows.here("ct", "mia", "a", 1)

    assert windows.here("mr", "lee", "b", 1) == []


def test_one_window_of_a_person_is_closed_and_the_other_stays(windows: Presence) -> None:
    for window in ("a", "b"):
        windows.here("ct", "mia", window, 1)
    windows.left("ct", "mia", "a")
    windows.left("ct", "mia", "never opened")

    assert names(windows.here("ct", "lee", "c", 1)) == ["mia"]


@pytest.mark.parametrize("limit", ["MOST", "MOST_OF_ONE"])
def test_more_windows_than_people_have_are_not_remembered(
    windows: Presence, clock: Clock, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(presence, limit, 2)
    for window in ("a", "b"):
        windows.here("ct", "mia", window, 1)

    with pytest.raises(TooManyRequests, match=r"2 cases (are )?open at once; no more are remembered"):
        windows.here("ct", "mia", "c", 1)
    assert names(windows.here("ct", "mia", "a", 1)) == ["mia"]
    clock.now += LASTING_SECONDS + 1
    assert windows.here("ct", "mia", "c", 1) == []


def test_who_has_many_open_keeps_nobody_else_away(windows: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MOST_OF_ONE", 2)
    for window in ("a", "b"):
        windows.here("ct", "mia", window, 1)

    assert len(windows.here("ct", "lee", "c", 1)) == 2
