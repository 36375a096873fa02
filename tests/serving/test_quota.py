"""Nobody takes more than a share of the disk by what does not stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib.errors import TooManyRequests
from lib.serving import quota, sessions
from lib.serving.quota import MOST_SESSIONS, Arriving, refuse_more_sessions, share_bytes
from lib.store.layout import ABOUT_SESSION
from tests.serving.conftest import Here
from tests.serving.places import image_bytes, mask_bytes, put_label

MIB = 1 << 20


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the disk says is free; may be changed."""
    told = SimpleNamespace(bytes=400 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=told.bytes))
    return told


def test_a_share_is_a_quarter_of_what_is_free_and_held(free: SimpleNamespace) -> None:
    assert share_bytes(Path("data"), 0) == 100 * MIB
    assert share_bytes(Path("data"), 40 * MIB) == 110 * MIB


def test_one_person_sends_no_more_at_once_than_a_share_and_others_still_do(free: SimpleNamespace) -> None:
    arriving = Arriving(Path("data"))
    arriving.take("a", 90 * MIB)

    with pytest.raises(TooManyRequests, match=r"150 MiB from you are on their way; one person may send 137 MiB"):
        arriving.take("a", 60 * MIB)
    arriving.take("b", 90 * MIB)


def test_what_has_ended_counts_no_more(free: SimpleNamespace) -> None:
    arriving = Arriving(Path("data"))
    arriving.take("a", 90 * MIB)
    arriving.give_back("a", 90 * MIB)

    arriving.take("a", 90 * MIB)


@pytest.mark.parametrize(("sessions", "held", "new", "is_refused"), [
    (0, 0, 100 * MIB, False), (0, 0, 101 * MIB, True), (3, 80 * MIB, 41 * MIB, True), (3, 80 * MIB, 40 * MIB, False),
    (MOST_SESSIONS - 1, 0, 1, False), (MOST_SESSIONS, 0, 1, True),
])  # fmt: skip
def test_sessions_of_one_person_are_few_and_fit_into_a_share(
    free: SimpleNamespace, sessions: int, held: int, new: int, is_refused: bool
) -> None:
    if not is_refused:
        refuse_more_sessions("a", sessions, held, new, Path("data"))
        return
    with pytest.raises(TooManyRequests, match=rf"a has {sessions} open sessions .* Close some: DELETE /session/ID"):
        refuse_more_sessions("a", sessions, held, new, Path("data"))


def _opened(here: Here) -> int:
    reply = here.client.put("/session/", files={"files": ("image.nii.gz", image_bytes(0))})
    return reply.status_code


def test_a_session_too_many_is_refused_until_one_is_closed_and_leaves_nothing(here: Here) -> None:
    assert [_opened(here) for _ in range(MOST_SESSIONS)] == [200] * MOST_SESSIONS
    folders = sorted((here.data / "sessions").iterdir())

    reply = here.client.put("/session/", files={"files": ("image.nii.gz", image_bytes(0))})

    assert (reply.status_code, "Retry-After" in reply.headers) == (429, True)
    assert sorted((here.data / "sessions").iterdir()) == folders
    assert not [path for path in (here.data / "tmp").iterdir() if path.name.startswith("received-")]
    here.client.delete(f"/session/{folders[0].name}")
    assert _opened(here) == 200


def test_a_session_that_is_closed_while_others_are_counted_stops_nobody(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _opened(here) == 200
    # Its folder was there a moment ago.
    monkeypatch.setattr(sessions.Session, "files", property(lambda session: (here.data / "gone.nii.gz",)))

    assert _opened(here) == 200


def test_clients_are_not_told_whose_a_session_is(here: Here) -> None:
    told = here.client.put("/session/", files={"files": ("image.nii.gz", image_bytes(0))}).json()["session_info"]

    assert "owner" not in told


def test_sessions_of_before_that_name_no_owner_are_still_open(here: Here) -> None:
    opened = here.client.put("/session/", files={"files": ("image.nii.gz", image_bytes(0))}).json()["session_id"]
    about = here.data / "sessions" / opened / ABOUT_SESSION
    told = json.loads(about.read_text())
    del told["owner"]
    about.write_text(json.dumps(told))

    assert here.client.get(f"/session/{opened}").status_code == 200


def test_a_large_body_beyond_the_share_is_refused_and_small_ones_are_kept(
    here: Here, free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "share_bytes", lambda folder, held: 2 * MIB)

    reply = here.client.put("/datastore/image", params={"image": "big"}, files={"file": ("a.nii", bytes(4 * MIB))})

    assert reply.status_code == 429, reply.text
    assert "on their way" in reply.json()["detail"]
    put_label(here.client, "case_00", mask_bytes(0))
