"""One command ends what an intruder may have: tickets at once, tokens where wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.serving.access import Access
from lib.serving.settings import Settings
from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from scripts import rotate_keys

PEOPLE = ("ida", "kim", "lee")


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    file = TokenFile(tmp_path / layout.TOKENS)
    return {name: file.add(name, Role.EXPERT) for name in PEOPLE}


@pytest.fixture
def access(tmp_path: Path, tokens: dict[str, str]) -> Access:
    """What a server that runs asks who somebody is."""
    return Access(Settings(data=tmp_path, auth="tokens"))


def who(access: Access, tokens: dict[str, str]) -> list[str]:
    known = []
    for name, token in tokens.items():
        try:
            known.append(access.identify(token)[0])
        # The kind does not matter here.
        except Exception:
            assert name in PEOPLE
    return known


def test_all_tickets_end_at_once_and_tokens_stay(
    access: Access, tokens: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tickets = {name: access.ticket(token) for name, token in tokens.items()}
    assert who(access, tickets) == list(PEOPLE)

    rotate_keys.main(["--data", str(tmp_path)])

    assert who(access, tickets) == []
    assert who(access, tokens) == list(PEOPLE)
    assert "open them again at /open" in capsys.readouterr().out


def test_tokens_of_some_people_or_of_all_end_as_well(
    access: Access, tokens: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotate_keys.main(["--data", str(tmp_path), "--remove", "kim", "ida"])
    assert who(access, tokens) == ["lee"]
    assert "These tokens no longer work: kim, ida." in capsys.readouterr().out

    rotate_keys.main(["--data", str(tmp_path), "--remove-all"])
    assert who(access, tokens) == []


def test_a_name_that_nobody_has_changes_nothing(access: Access, tokens: dict[str, str], tmp_path: Path) -> None:
    ticket = access.ticket(tokens["kim"])

    with pytest.raises(SystemExit, match=r"bob has no token; these have: ida, kim, lee"):
        rotate_keys.main(["--data", str(tmp_path), "--remove", "kim", "bob"])

    assert who(access, {**tokens, "ticket": ticket}) == [*PEOPLE, "kim"]


def test_a_secret_in_its_old_place_is_rotated_too(tmp_path: Path) -> None:
    (tmp_path / "tickets.key").write_bytes(b"o" * 32)

    rotate_keys.main(["--data", str(tmp_path)])

    assert not (tmp_path / "tickets.key").exists()
    assert (tmp_path / layout.TICKET_KEY).read_bytes() != b"o" * 32


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"There is no .*none. Name the folder that the server prints"):
        rotate_keys.main(["--data", str(tmp_path / "none")])

    assert not (tmp_path / "none").exists()
