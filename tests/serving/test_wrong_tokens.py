"""Who sends one wrong token after the other has to wait; the right one is let in all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lib.serving.allowance import MOST_KEPT, Allowance
from lib.serving.gate import WRONG_TOKENS
from lib.serving.tokens import TokenFile
from lib.stages import Role
from lib.store import layout
from tests.serving.conftest import Here


@pytest.fixture
def token(open_app: Callable[..., Here]) -> tuple[Here, str]:
    here = open_app(auth="tokens")
    return here, TokenFile(here.data / layout.TOKENS).add("kim", Role.VIEWER)


def headers(token: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


@pytest.mark.parametrize("way", ["header", "form", "name"])
def test_wrong_tokens_of_one_address_are_slowed_down_and_the_right_one_is_not(
    token: tuple[Here, str], way: str
) -> None:
    here, right = token

    def status(guess: str) -> int:
        if way == "header":
            return here.client.get("/info/", **headers(guess)).status_code
        if way == "form":
            return here.client.post("/open", data={"token": guess}, follow_redirects=False).status_code
        return here.client.post("/auth/token", data={"username": "kim", "password": guess}).status_code

    found = [status(f"wrong-{number}") for number in range(WRONG_TOKENS + 20)]

    assert set(found[:WRONG_TOKENS]) == {401}
    assert found.count(429) >= 15
    assert status(right) in (200, 303)
    reply = here.client.get("/info/", **headers("wrong"))
    assert (reply.status_code, int(reply.headers["Retry-After"]) > 0) == (429, True)
    assert "Too many wrong tokens" in reply.json()["detail"]


def test_who_sends_no_token_is_asked_to_sign_in_each_time(token: tuple[Here, str]) -> None:
    here, _ = token

    assert {here.client.get("/info/").status_code for _ in range(WRONG_TOKENS + 20)} == {401}


def test_what_is_used_up_comes_back_and_others_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lib.serving.allowance.time.monotonic", lambda: now[0])
    allowance = Allowance(3, again_after_seconds=2.0)

    assert [allowance.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert allowance.take("b")
    now[0] = 2.0
    assert [allowance.take("a") for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [allowance.take("a") for _ in range(4)] == [True, True, True, False]


def test_of_many_addresses_only_the_last_are_remembered() -> None:
    allowance = Allowance(1, again_after_seconds=1000.0)
    for number in range(5 * MOST_KEPT):
        allowance.take(str(number))

    assert len(allowance._left) == MOST_KEPT
