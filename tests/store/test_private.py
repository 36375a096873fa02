"""Nobody else at this machine reads what the server stores, whoever made the folder and when."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.errors import SetupError
from lib.store import layout
from lib.store.private import make_private
from lib.store.record import open_existing, open_record
from tests.store.records import TASK


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A data folder as earlier versions left it where it was made by hand: everybody may read."""
    data = tmp_path / "data"
    stored = ("masks/ab/abc.nii.gz", "uploads/new/a.nii", "segmentations/cd/cde.dcm", "cache/a-b.json")
    for name in (layout.RECORD, f"{layout.RECORD}-wal", layout.LOG, *stored, *layout.BEFORE_KEYS):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return data


def test_a_folder_that_was_open_is_closed_with_all_that_lies_in_it(opened: Path) -> None:
    make_private(opened)

    modes = {mode(path) for path in (opened, *opened.rglob("*"))}
    assert modes == {0o700, 0o600}


def test_a_folder_that_was_closed_but_for_the_record_and_the_secrets_is_closed(opened: Path) -> None:
    opened.chmod(0o700)

    make_private(opened)

    assert {mode(opened / name) for name in (layout.RECORD, *KEYS)} == {0o600}


KEYS = (layout.PATIENT_KEY, layout.TOKENS, layout.TICKET_KEY)


def test_secrets_move_into_a_folder_of_their_own(opened: Path) -> None:
    make_private(opened)
    make_private(opened)

    assert [(opened / key).read_text() for key in KEYS] == list(layout.BEFORE_KEYS)
    assert not any((opened / name).exists() for name in layout.BEFORE_KEYS)


def test_everything_secret_lies_apart_from_what_clients_send() -> None:
    roots = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}

    assert {root for root in roots if root.startswith(layout.KEYS)} == {layout.KEYS, *KEYS}


@pytest.mark.parametrize("name", layout.BEFORE_KEYS)
def test_a_secret_in_both_places_is_not_chosen_by_guess(opened: Path, name: str) -> None:
    (opened / layout.KEYS).mkdir()
    (opened / layout.KEYS / name).write_text("another")

    with pytest.raises(SetupError, match=rf"Both .*{name} and .*keys/{name} are there, with different content"):
        make_private(opened)
    assert (opened / name).read_text() == name and (opened / layout.KEYS / name).read_text() == "another"


def test_the_same_secret_in_both_places_is_one(opened: Path) -> None:
    (opened / layout.KEYS).mkdir()
    (opened / layout.TICKET_KEY).write_text("tickets.key")

    make_private(opened)

    assert (opened / layout.TICKET_KEY).read_text() == "tickets.key" and not (opened / "tickets.key").exists()


def test_whoever_opens_the_record_closes_the_folder(opened: Path) -> None:
    (opened / layout.RECORD).unlink()
    (opened / f"{layout.RECORD}-wal").unlink()
    open_record(TASK, opened).close()
    assert mode(opened) == 0o700 and mode(opened / layout.RECORD) == 0o600

    opened.chmod(0o755)
    open_existing(opened).close()
    assert mode(opened) == 0o700


def test_what_is_written_afterwards_is_closed(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "data")

    (tmp_path / "a" / "data" / "masks").mkdir()
    (tmp_path / "a" / "data" / "masks" / "x").touch()
    assert mode(tmp_path / "a" / "data") == mode(tmp_path / "a" / "data" / "masks") == 0o700
    assert mode(tmp_path / "a" / "data" / "masks" / "x") == 0o600


def test_files_of_others_are_left_alone(opened: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "a").touch(0o644)
    (opened / "masks" / "link").symlink_to(outside / "a")
    (opened / "weights").symlink_to(outside)
    (opened / "notes.txt").touch(0o644)

    make_private(opened)

    assert mode(outside) == 0o755 and mode(outside / "a") == mode(opened / "notes.txt") == 0o644


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the system refuse to change modes of some names, or take the order and do nothing."""

    def refuse(*names: str, silently: bool = False) -> None:
        plain = Path.chmod

        def chmod(self: Path, mode: int) -> None:
            if self.name not in names:
                plain(self, mode)
            elif not silently:
                raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "chmod", chmod)

    return refuse


@pytest.mark.parametrize("silently", [True, False])
@pytest.mark.parametrize("name", ["keys", "tickets.key", "tokens.json", "patient.key"])
def test_secrets_that_stay_open_stop_the_start(opened: Path, refusing: Any, name: str, silently: bool) -> None:
    (opened / layout.KEYS).mkdir(mode=0o755)
    refusing(name, silently=silently)

    with pytest.raises(SetupError, match=rf"may read the secrets .*{name}.*Give .* to the account"):
        make_private(opened)


def test_a_folder_that_stays_open_is_told(opened: Path, refusing: Any, caplog: pytest.LogCaptureFixture) -> None:
    refusing(opened.name)

    with caplog.at_level(logging.WARNING):
        make_private(opened)

    (line,) = caplog.messages
    assert f"may read what the server stores, and this cannot be changed: {opened} (Operation not permitted)" in line


def test_a_folder_of_everybody_is_none_for_data(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)

    with pytest.raises(SetupError, match=r"everybody may write to. Name one below it"):
        make_private(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o1777 and list((tmp_path / "shared").iterdir()) == []
