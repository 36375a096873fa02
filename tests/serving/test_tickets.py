"""A ticket says who opened the viewer, for half a day, and only to the server that gave it."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from lib.errors import NotSignedIn
from lib.serving import tickets
from lib.serving.tickets import ALGORITHM, ISSUER, KEY_BYTES, TICKET_SECONDS, Tickets


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Moves the clock of tickets."""

    def move(seconds: float) -> None:
        now = time.time() + seconds
        monkeypatch.setattr(tickets.time, "time", lambda: now)

    return move


@pytest.fixture
def server(tmp_path: Path) -> Tickets:
    return Tickets(tmp_path / "data" / "tickets.key")


def test_a_ticket_says_what_was_told_about_its_owner(server: Tickets) -> None:
    told = server.read(server.give({"name": "dr.kim"}))

    assert told is not None and told["name"] == "dr.kim"


def test_a_ticket_outlives_a_restart(server: Tickets, tmp_path: Path) -> None:
    ticket = server.give({"name": "dr.kim"})

    assert Tickets(tmp_path / "data" / "tickets.key").read(ticket) is not None


def test_a_ticket_ends_when_its_time_is_over(server: Tickets, later: Any) -> None:
    ticket = server.give({"name": "dr.kim"})

    later(TICKET_SECONDS - 60)
    assert server.read(ticket) is not None
    later(TICKET_SECONDS + 60)
    with pytest.raises(NotSignedIn, match=r"opened more than 12 hours ago. Open it again at /open"):
        server.read(ticket)


def test_only_the_server_that_gave_a_ticket_reads_it(server: Tickets, tmp_path: Path) -> None:
    other = Tickets(tmp_path / "other" / "tickets.key")

    assert server.read(other.give({"name": "dr.kim"})) is None


def forged(key: bytes, algorithm: str = ALGORITHM, **claims: Any) -> str:
    good = {"name": "dr.kim", "iss": ISSUER, "exp": int(time.time()) + 60}
    told = {name: value for name, value in {**good, **claims}.items() if value is not None}
    return jwt.encode({"alg": algorithm}, told, OctKey.import_key(key), algorithms=[algorithm])


@pytest.mark.parametrize("claims", [{"iss": None}, {"iss": "somebody"}, {"exp": None}, {"exp": "soon"}])
def test_claims_that_no_ticket_has_are_not_accepted(server: Tickets, tmp_path: Path, claims: dict[str, Any]) -> None:
    server.give({"name": "dr.kim"})
    key = (tmp_path / "data" / "tickets.key").read_bytes()
    assert server.read(forged(key)) is not None

    assert server.read(forged(key, **claims)) is None


def test_no_other_signature_is_accepted(server: Tickets, tmp_path: Path) -> None:
    ticket = server.give({"name": "dr.kim"})
    key = (tmp_path / "data" / "tickets.key").read_bytes()

    assert server.read(forged(key, "HS512")) is None
    head, body, _ = ticket.split(".")
    assert server.read(f"{head}.{body}.") is None


@pytest.mark.parametrize("token", ["", "wrong", "a.b.c", "ä\udcff", "." * 1000])
def test_other_tokens_are_none(server: Tickets, token: str) -> None:
    assert server.read(token) is None


def test_the_key_is_only_for_the_servers_own_account(server: Tickets, tmp_path: Path) -> None:
    server.give({"name": "dr.kim"})

    assert (tmp_path / "data" / "tickets.key").stat().st_mode & 0o077 == 0


def delete(key: Path) -> None:
    key.unlink()


def exchange(key: Path) -> None:
    key.write_bytes(b"x" * KEY_BYTES)


def empty(key: Path) -> None:
    key.write_bytes(b"")


def cut(key: Path) -> None:
    key.write_bytes(key.read_bytes()[:4])


def rotate(key: Path) -> None:
    Tickets(key).rotate()


@pytest.mark.parametrize("change", [delete, exchange, empty, cut, rotate])
def test_without_its_key_a_ticket_ends_at_once_also_at_a_server_that_runs(
    server: Tickets, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    ticket = server.give({"name": "dr.kim"})
    assert server.read(ticket) is not None

    change(tmp_path / "data" / "tickets.key")

    assert server.read(ticket) is None
    assert server.read(server.give({"name": "dr.kim"})) is not None


@pytest.mark.parametrize("content", [b"", b"k" * 16, b"k" * (KEY_BYTES - 1)])
def test_a_key_that_is_not_whole_signs_nothing(server: Tickets, tmp_path: Path, content: bytes) -> None:
    server.rotate()
    (tmp_path / "data" / "tickets.key").write_bytes(content)

    if content:
        assert server.read(forged(content)) is None
    server.give({"name": "dr.kim"})
    assert len((tmp_path / "data" / "tickets.key").read_bytes()) == KEY_BYTES


def test_first_tickets_given_at_once_are_all_read(tmp_path: Path) -> None:
    key = tmp_path / "data" / "tickets.key"
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda number: Tickets(key).give({"name": f"{number}"}), range(8)))

    assert all(Tickets(key).read(ticket) is not None for ticket in given)


def signed(server: Tickets, head: Any, claims: bytes = b"{}") -> str:
    """A token with the server's own signature, whatever it says of itself."""
    server.give({})
    key = server._key()
    assert key is not None
    secret = key.raw_value
    told = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, claims))
    signature = hmac.digest(secret, told, "sha256")
    return b".".join((told, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


HEADS = [b'{"alg": "HS256", "crit": 5}', b'{"alg": "HS256", "crit": ["exp"]}', b'{"alg": "HS256", "crit": [[]]}',
         b'{"alg": "HS256", "crit": {"a": 1}}', b'{"alg": ["HS256"]}', b'{"alg": {}}', b'{"alg": 5}', b'{"alg": null}',
         b'{"alg": "HS256", "b64": false, "crit": ["b64"]}', b'{"alg": "HS256", "kid": [1]}', b"[]", b"5", b"null", b"",
         b'{"alg": "HS256", "typ": 5}', b'{"alg": "HS256", "x": ' + b"9" * 5000 + b"}", b"[" * 100_000, b"\xff\xfe",
         b'{"alg": "HS256", "x": ' + b'{"a":' * 900 + b"1" + b"}" * 901, b'{"alg": "HS256", "jwk": 5, "x5c": 1}',
         b'{"alg": "HS256", "zip": "DEF"}', b'{"alg": "HS256", "cty": {}}', b'{"alg": "dir"}']  # fmt: skip


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head[:40].decode("latin-1"))
def test_whatever_the_head_of_a_token_holds_it_is_no_ticket(server: Tickets, head: bytes) -> None:
    assert server.read(signed(server, head)) is None


@pytest.mark.parametrize(
    "exp", [b'"never"', b"NaN", b"Infinity", b"[]", b"{}", b"true", b"null", b"9" * 5000, b"1e999"]
)
def test_a_ticket_without_an_end_that_is_a_time_is_none(server: Tickets, exp: bytes) -> None:
    claims = b'{"iss": "label-refinery", "name": "dr.kim", "exp": ' + exp + b"}"

    assert server.read(signed(server, b'{"alg": "HS256"}', claims)) is None


@pytest.mark.parametrize(
    "token", ["", ".", "..", "...", "a.b.c", "\0" * 50, "\ud800", "é.é.é", "." * 10_000, "a" * 100_000]
)
def test_a_text_that_is_no_token_is_no_ticket(server: Tickets, token: str) -> None:
    assert server.read(token) is None
