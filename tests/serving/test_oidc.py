"""Tokens of an OpenID Connect issuer, with real keys on loopback."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from lib.errors import ComputationInterrupted, NotAllowed, NotSignedIn
from lib.serving import oidc
from lib.serving.oidc import (
    AWAY_SECONDS,
    KEYS_KEPT_SECONDS,
    KEYS_LAST_SECONDS,
    LEEWAY_SECONDS,
    WAITING,
    Claims,
    Issuer,
)
from lib.stages import Role
from tests.serving.issuer import AUDIENCE, LocalIssuer, issuing
from tests.serving.places import until


@pytest.fixture(scope="module")
def running() -> Iterator[LocalIssuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def local(running: LocalIssuer) -> Iterator[LocalIssuer]:
    keys = dict(running.keys)
    yield running
    running.keys, running.more_keys, running.status, running.asked = keys, [], 200, 0


@pytest.fixture
def issuer(local: LocalIssuer) -> Issuer:
    return Issuer(Claims(local.address, AUDIENCE))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Moves the clock that says how old the keys are."""
    passed = [0.0]
    monotonic = time.monotonic
    monkeypatch.setattr(oidc.time, "monotonic", lambda: monotonic() + passed[0])

    def move(seconds: float) -> None:
        passed[0] += seconds

    return move


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_good_token_names_the_person_and_the_role(issuer: Issuer, local: LocalIssuer, algorithm: str) -> None:
    assert issuer.identify(local.token(algorithm)) == ("dr.kim", Role.EXPERT)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"iss": "https://other.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another-server"}, "aud"),
        ({"aud": ["another-server", "a third"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"exp": int(time.time()) - 3600}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "never"}, "exp"),
        ({"nbf": int(time.time()) + 3600}, "not yet valid"),
    ],
    ids=["issuer", "no issuer", "audience", "audiences", "no audience", "over", "no end", "odd end", "not yet"],
)
def test_a_token_for_somewhere_or_some_time_else_is_refused(
    issuer: Issuer, local: LocalIssuer, claims: dict[str, Any], found: str
) -> None:
    with pytest.raises(NotSignedIn, match=rf"(?i)not accepted \(.*{found}.*\)\. Sign in again"):
        issuer.identify(local.token(**claims))


def test_a_token_for_several_audiences_is_accepted_if_this_is_one(issuer: Issuer, local: LocalIssuer) -> None:
    assert issuer.identify(local.token(aud=["account", AUDIENCE]))[0] == "dr.kim"


def test_clocks_may_differ_a_little(issuer: Issuer, local: LocalIssuer) -> None:
    assert issuer.identify(local.token(exp=int(time.time()) - LEEWAY_SECONDS + 10))[0] == "dr.kim"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_signed_by_other_keys_is_refused(issuer: Issuer, local: LocalIssuer, algorithm: str) -> None:
    kid = {"kid": local.keys[algorithm].kid}
    other = RSAKey.generate_key(2048, kid) if algorithm == "RS256" else ECKey.generate_key("P-256", kid)

    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(local.token(algorithm, key=other))


def parts(text: str) -> list[str]:
    return text.split(".")


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_a_token_without_signature_is_refused(issuer: Issuer, local: LocalIssuer, algorithm: str) -> None:
    header = encoded({"alg": algorithm, "kid": "rsa-1"})
    claims = parts(local.token())[1]

    for signature in ("", parts(local.token())[2]):
        with pytest.raises(NotSignedIn, match=r"not accepted"):
            issuer.identify(f"{header}.{claims}.{signature}")


@pytest.mark.parametrize(
    "head",
    [{"crit": 5}, {"crit": ["exp"]}, {"crit": [{}]}, {"kid": 5}, {"kid": ["rsa-1"]}, {"kid": {}}, {"alg": ["RS256"]},
     {"alg": {}}, {"alg": 5}, {"typ": []}, {"jwk": 5}, {"x5c": {}}, {"x": {"a": [{"b": 10**4000}]}}],
    ids=str,
)  # fmt: skip
def test_whatever_the_head_of_a_token_holds_nobody_is_signed_in(
    issuer: Issuer, local: LocalIssuer, head: dict[str, Any]
) -> None:
    _, claims, signature = parts(local.token())

    with pytest.raises(NotSignedIn, match=r"not accepted \(.+\)\. Sign in again"):
        issuer.identify(f"{encoded({'alg': 'RS256', 'kid': 'rsa-1', **head})}.{claims}.{signature}")


def deep(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = "expert"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "roles",
    [{"expert": True}, [["expert"]], [{"name": "expert"}], [None, 5, 1.5], 7, True, [], {}, deep(300),
     ["x" * 10_000] * 9],
    ids=lambda roles: str(roles)[:30],
)  # fmt: skip
def test_roles_that_are_no_names_give_none(issuer: Issuer, local: LocalIssuer, roles: Any) -> None:
    with pytest.raises(NotAllowed, match=r"'roles' names none of viewer, .{0,400}Ask the administrator"):
        issuer.identify(local.token(roles=roles))


def test_a_role_counts_among_what_is_none(issuer: Issuer, local: LocalIssuer) -> None:
    assert issuer.identify(local.token(roles=[{}, ["admin"], 5, None, "annotator"]))[1] is Role.ANNOTATOR


@pytest.mark.parametrize(
    "claims",
    [{"exp": float("nan")}, {"exp": float("inf")}, {"exp": [1]}, {"exp": {}}, {"exp": True}, {"iat": "x"}, {"nbf": []},
     {"nbf": float("nan")}, {"sub": 5, "preferred_username": 7}, {"preferred_username": ["dr.kim"]}, {"aud": {}},
     {"aud": [[]]}, {"iss": ["x"]}, {"preferred_username": "a" * 10_000}, {"preferred_username": "a\0b"}],
    ids=str,
)  # fmt: skip
def test_claims_that_are_no_times_or_names_sign_nobody_in(
    issuer: Issuer, local: LocalIssuer, claims: dict[str, Any]
) -> None:
    with pytest.raises(NotSignedIn):
        issuer.identify(local.token(**claims))


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_the_public_key_is_no_shared_secret(issuer: Issuer, local: LocalIssuer, form: str) -> None:
    key = local.keys["RS256"]
    public = key.as_pem(private=False) if form == "PEM" else key.as_der(private=False)
    signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa-1'})}.{parts(local.token())[1]}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).rstrip(b"=").decode()

    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(f"{signed}.{signature}")


def test_a_shared_secret_among_the_issuers_keys_signs_nothing(issuer: Issuer, local: LocalIssuer) -> None:
    secret = OctKey.generate_key(256, {"kid": "oct-1"})
    local.more_keys = [secret.as_dict(private=True)]

    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(local.token("HS256", key=secret))


def test_a_token_whose_claims_were_changed_is_refused(issuer: Issuer, local: LocalIssuer) -> None:
    header, _, signature = parts(local.token())

    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(f"{header}.{encoded(local.claims(roles=['admin']))}.{signature}")


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "....", "a.b.c.d.e", "🫁.🫁.🫁", "\x00", "e30.e30.e30", "W10.W10.W10", "." * 9999]
)
def test_what_is_no_token_is_refused(issuer: Issuer, text: str) -> None:
    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(text)


def test_new_keys_of_the_issuer_are_fetched_when_a_token_asks_for_them(
    issuer: Issuer, local: LocalIssuer, later: Any
) -> None:
    old = local.token()
    issuer.identify(old)
    local.keys["RS256"] = RSAKey.generate_key(2048, {"kid": "rsa-2"})
    later(LEEWAY_SECONDS + 1)

    assert issuer.identify(local.token())[0] == "dr.kim"
    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(old)


def test_keys_that_the_issuer_took_back_end_to_be_accepted(issuer: Issuer, local: LocalIssuer, later: Any) -> None:
    old = local.token()
    issuer.identify(old)
    local.keys["RS256"] = RSAKey.generate_key(2048, {"kid": "rsa-2"})
    later(KEYS_LAST_SECONDS + 1)

    with pytest.raises(NotSignedIn, match=r"not accepted"):
        issuer.identify(old)


def test_wrong_tokens_do_not_make_the_server_ask_again_and_again(issuer: Issuer, local: LocalIssuer) -> None:
    issuer.identify(local.token())
    for _ in range(20):
        with pytest.raises(NotSignedIn, match=r"not accepted"):
            issuer.identify("a.b.c")

    assert local.asked == 1


def test_keys_of_an_unknown_kind_do_not_hide_the_others(issuer: Issuer, local: LocalIssuer) -> None:
    local.more_keys = [{"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "x"}, {"kid": "nothing"}, {}]

    assert issuer.identify(local.token())[0] == "dr.kim"


@pytest.mark.parametrize(
    ("role", "ours"),
    [
        ("viewer", Role.VIEWER), ("annotator", Role.ANNOTATOR), ("expert", Role.EXPERT), ("admin", Role.ADMIN),
        ("monailabel-user", Role.VIEWER), ("monailabel-annotator", Role.ANNOTATOR),
        ("monailabel-reviewer", Role.EXPERT), ("monailabel-admin", Role.ADMIN),
    ],
)  # fmt: skip
def test_a_role_has_our_name_or_monai_labels(issuer: Issuer, local: LocalIssuer, role: str, ours: Role) -> None:
    assert issuer.identify(local.token(roles=["offline_access", role]))[1] is ours
    assert issuer.identify(local.token(roles=role))[1] is ours


def test_of_several_roles_the_highest_counts(issuer: Issuer, local: LocalIssuer) -> None:
    assert issuer.identify(local.token(roles=["viewer", "admin", "annotator"]))[1] is Role.ADMIN


@pytest.mark.parametrize(
    "roles",
    [None, [], ["offline_access"], ["model"], ["refiner"], {"expert": True}, 7, [7], [None], ["Expert"]],
    ids=str,
)
def test_a_person_without_a_role_of_ours_may_nothing(issuer: Issuer, local: LocalIssuer, roles: Any) -> None:
    with pytest.raises(NotAllowed, match=r"names none of viewer, annotator, expert, admin.*Ask the administrator"):
        issuer.identify(local.token(roles=roles))


def test_roles_may_lie_deeper(local: LocalIssuer) -> None:
    deeper = Issuer(Claims(local.address, AUDIENCE, roles="realm_access.roles"))

    assert deeper.identify(local.token(realm_access={"roles": ["admin"]}))[1] is Role.ADMIN
    for odd in ({"realm_access": ["admin"]}, {"realm_access": "roles"}, {}):
        with pytest.raises(NotAllowed, match=r"'realm_access\.roles' names none"):
            deeper.identify(local.token(**odd))


def test_the_name_is_the_claim_that_is_set_else_the_subject(local: LocalIssuer) -> None:
    by_mail = Issuer(Claims(local.address, AUDIENCE, name="email"))

    assert by_mail.identify(local.token(email="kim@clinic.example"))[0] == "kim@clinic.example"
    assert by_mail.identify(local.token())[0] == "1234"


@pytest.mark.parametrize("name", [7, ["dr.kim"], {"a": 1}, "k" * 257, "two\nlines", "nul\x00"])
def test_a_name_that_is_none_is_refused(issuer: Issuer, local: LocalIssuer, name: Any) -> None:
    with pytest.raises(NotSignedIn, match=r"name|nobody can be named"):
        issuer.identify(local.token(preferred_username=name))


def test_without_name_and_subject_nobody_is_signed_in(issuer: Issuer, local: LocalIssuer) -> None:
    with pytest.raises(NotSignedIn, match=r"neither 'preferred_username' nor 'sub'"):
        issuer.identify(local.token(preferred_username=None, sub=None))


@pytest.mark.parametrize("replies", [{}, {"/.well-known/openid-configuration": {"jwks_uri": "no address"}},
                                     {"/.well-known/openid-configuration": []}], ids=str)  # fmt: skip
def test_an_issuer_that_answers_something_else_is_told(
    issuer: Issuer, local: LocalIssuer, monkeypatch: pytest.MonkeyPatch, replies: dict[str, Any]
) -> None:
    token = local.token()
    monkeypatch.setattr(local, "replies", lambda: replies)

    with pytest.raises(ComputationInterrupted, match=r"The keys of http://127\.0\.0\.1:\d+ cannot be fetched"):
        issuer.identify(token)


@pytest.mark.parametrize("keys", [{"keys": None}, {}, [], "x", None])
def test_keys_of_another_form_are_told(
    issuer: Issuer, local: LocalIssuer, monkeypatch: pytest.MonkeyPatch, keys: Any
) -> None:
    token, replies = local.token(), local.replies()
    monkeypatch.setattr(local, "replies", lambda: {**replies, "/keys": keys})

    with pytest.raises(ComputationInterrupted, match=r"cannot be fetched"):
        issuer.identify(token)


def test_an_issuer_that_is_away_is_told_and_not_asked_again_at_once(
    issuer: Issuer, local: LocalIssuer, later: Any
) -> None:
    token = local.token()
    local.status = 500
    for _ in range(5):
        with pytest.raises(ComputationInterrupted, match=r"The keys of .* cannot be fetched"):
            issuer.identify(token)
    local.status = 200
    with pytest.raises(ComputationInterrupted, match=r"cannot be fetched"):
        issuer.identify(token)

    later(AWAY_SECONDS + 1)
    assert issuer.identify(token)[0] == "dr.kim"
    assert local.asked == 1


def test_an_issuer_that_does_not_listen_is_told() -> None:
    with issuing() as gone:
        token = gone.token()

    with pytest.raises(ComputationInterrupted, match=r"cannot be fetched: ConnectError"):
        Issuer(Claims(gone.address, AUDIENCE)).identify(token)


@pytest.fixture
def hanging(issuer: Issuer, local: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An issuer whose keys are known and that does not answer any more until the event is set; lets it know of asks."""
    issuer.identify(local.token())
    goes_on, ask = threading.Event(), issuer._asked

    def slow() -> Any:
        assert goes_on.wait(30)
        return ask()

    monkeypatch.setattr(issuer, "_asked", slow)
    yield goes_on
    goes_on.set()


@pytest.mark.parametrize("age", [LEEWAY_SECONDS + 1, KEYS_LAST_SECONDS * 0.9])
def test_a_good_token_never_waits_for_an_issuer_whose_keys_are_known(
    issuer: Issuer, local: LocalIssuer, later: Any, hanging: threading.Event, age: float
) -> None:
    later(age)
    other = RSAKey.generate_key(2048, {"kid": "rsa-9"})
    with ThreadPoolExecutor(WAITING) as wrong:
        waiting = [wrong.submit(issuer.identify, local.token(key=other)) for _ in range(WAITING)]
        until(lambda: not issuer._places._value, 20, "the waiting")

        assert issuer.identify(local.token())[0] == "dr.kim"
        # Those for whom there is no place to wait do not take others' threads either.
        with pytest.raises(ComputationInterrupted, match="are being fetched"):
            issuer.identify(local.token(key=other))
        hanging.set()
        assert all(isinstance(one.exception(20), NotSignedIn) for one in waiting)


def test_an_issuer_is_asked_by_one_at_a_time(local: LocalIssuer) -> None:
    issuer = Issuer(Claims(local.address, AUDIENCE))
    with ThreadPoolExecutor(WAITING) as people:
        assert len(list(people.map(issuer.identify, [local.token()] * WAITING))) == WAITING

    assert local.asked == 1


def test_known_keys_are_used_on_while_the_issuer_is_away_but_not_for_ever(
    issuer: Issuer, local: LocalIssuer, later: Any
) -> None:
    issuer.identify(local.token())
    local.status = 503
    later(KEYS_LAST_SECONDS - 1)
    issuer.identify(local.token())
    until(lambda: issuer._away[1], 20, "the refusal")
    later(KEYS_LAST_SECONDS + 10)

    assert issuer.identify(local.token())[0] == "dr.kim"
    later(KEYS_KEPT_SECONDS + KEYS_LAST_SECONDS)
    with pytest.raises(ComputationInterrupted, match="cannot be fetched"):
        issuer.identify(local.token(exp=int(time.time()) + 10**6))
