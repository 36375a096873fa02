"""What every request passes before it reaches a route."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from lib.errors import StorageFull
from lib.serving.annotator import system_user
from lib.serving.gate import FORM_BYTES, SECURITY_HEADERS
from lib.serving.measures import AUDIT_FAILURES
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout
from tests.serving.conftest import Here
from tests.serving.issuer import LocalIssuer, issuing
from tests.serving.places import mask_bytes, put_label


@dataclass
class Guarded:
    """A server at which people sign in, and a client for each role."""

    here: Here
    tokens: dict[Role, str]

    def by(self, role: Role, **headers: str) -> TestClient:
        """A client whose person has this role and is called like it."""
        client = TestClient(
            self.here.client.app, base_url="http://labels.clinic.example", raise_server_exceptions=False
        )
        client.headers.update({"Authorization": f"Bearer {self.tokens[role]}", **headers})
        return client

    @property
    def stranger(self) -> TestClient:
        """A client without a token."""
        return TestClient(self.here.client.app, base_url="http://labels.example", raise_server_exceptions=False)


@pytest.fixture
def guarded(open_app: Callable[..., Here]) -> Guarded:
    here = open_app(auth="tokens", origins="https://viewer.clinic.example, https://other.clinic.example/")
    file = TokenFile(here.data / layout.TOKENS)
    return Guarded(here, {role: file.add(str(role), role) for role in PEOPLE})


def problem(response: Any, status: int, *found: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert set(content) == {"type", "title", "status", "detail"} and content["status"] == status
    for text in found:
        assert text in content["detail"]
    return content


# Signing in.


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic a2ltOng=", "wrong", "Bearer \xe4\xff", "bearer x y"],
)
def test_who_is_not_signed_in_is_told_how(guarded: Guarded, header: str | None) -> None:
    headers = {"Authorization": header.encode("latin-1")} if header is not None else {}
    response = guarded.stranger.get("/info/", headers=headers)

    problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(guarded: Guarded, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {guarded.tokens[Role.VIEWER]}"}

    assert guarded.stranger.get("/info/", headers=headers).status_code == 200


def test_a_role_that_is_not_enough_is_told_which_one_is(guarded: Guarded) -> None:
    problem(guarded.by(Role.VIEWER).delete("/train/"), 403, "DELETE /train/ needs the role expert; viewer is viewer")
    problem(guarded.by(Role.EXPERT).get("/audit/"), 403, "needs the role admin")
    assert guarded.by(Role.EXPERT).delete("/train/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/ohif/", "/health/live", "/auth/"])
def test_open_pages_need_no_token_and_no_good_one(guarded: Guarded, path: str) -> None:
    assert guarded.stranger.get(path).status_code == 200
    assert guarded.stranger.get(path, headers={"Authorization": "Bearer of-last-year"}).status_code == 200


def test_slicers_dialog_takes_the_name_and_as_password_the_token(guarded: Guarded) -> None:
    token = guarded.tokens[Role.EXPERT]

    assert guarded.stranger.get("/auth/").json()["enabled"] is True
    reply = guarded.stranger.post("/auth/token", data={"username": "expert", "password": token})
    assert reply.json() == {"access_token": token, "token_type": "bearer"}
    valid = guarded.stranger.get("/auth/token/valid", headers={"Authorization": f"Bearer {token}"})
    assert valid.json() == {"username": "expert", "email": None, "name": "expert", "roles": ["expert"]}


@pytest.mark.parametrize(
    ("username", "password"), [("admin", "of expert"), ("expert", "wrong"), ("", "of expert"), ("expert", ""), ("", "")]
)
def test_another_name_or_password_is_refused(guarded: Guarded, username: str, password: str) -> None:
    given = password.replace("of expert", guarded.tokens[Role.EXPERT])

    problem(guarded.stranger.post("/auth/token", data={"username": username, "password": given}), 401)
    problem(guarded.stranger.get("/auth/token/valid"), 401)


def test_a_token_that_was_taken_back_ends_at_once(guarded: Guarded) -> None:
    client = guarded.by(Role.EXPERT)
    assert client.get("/info/").status_code == 200
    TokenFile(guarded.here.data / layout.TOKENS).remove("expert")

    problem(client.get("/info/"), 401)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "[" * 100_000, '[{"name": 7, "role": "admin", "sha256": "", "created": ""}]']
)
def test_a_damaged_token_file_lets_nobody_in_and_only_the_log_says_why(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    file = guarded.here.data / layout.TOKENS
    file.write_text(content)

    for _ in range(3):
        told = problem(guarded.by(Role.ADMIN).get("/info/"), 503, "administrator", "log")
        assert "json" not in told["detail"] and str(guarded.here.data) not in told["detail"]
    assert guarded.stranger.get("/health/live").status_code == 200
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith(f"Nobody can sign in: {file} is damaged")


def test_who_mends_the_token_file_lets_people_in_again(guarded: Guarded) -> None:
    file = guarded.here.data / layout.TOKENS
    whole = file.read_text()
    file.write_text("{")
    problem(guarded.by(Role.ADMIN).get("/info/"), 503)
    file.write_text(whole)

    assert guarded.by(Role.ADMIN).get("/info/").status_code == 200


@pytest.fixture(scope="module")
def local() -> Iterator[LocalIssuer]:
    with issuing() as issuer:
        yield issuer


def test_a_token_of_the_issuer_signs_in_and_one_issuer_is_asked_once(
    open_app: Callable[..., Here], local: LocalIssuer
) -> None:
    here = open_app(auth="oidc", oidc_issuer=local.address)
    local.asked = 0
    token = local.token(roles=["monailabel-annotator"])
    for _ in range(3):
        reply = here.client.post("/auth/token", data={"username": "dr.kim", "password": token})
        assert reply.status_code == 200
        assert here.client.get("/info/", headers={"Authorization": f"Bearer {token}"}).status_code == 200

    problem(here.client.get("/info/", headers={"Authorization": f"Bearer {local.token(roles=[])}"}), 403, "role")
    problem(here.client.get("/info/", headers={"Authorization": "Bearer a.b.c"}), 401, "Sign in again")
    assert local.asked == 1


def test_an_issuer_that_is_away_is_503_and_open_pages_stay(open_app: Callable[..., Here], local: LocalIssuer) -> None:
    with issuing() as gone:
        token = gone.token()
    here = open_app(auth="oidc", oidc_issuer=gone.address)
    headers = {"Authorization": f"Bearer {token}"}

    problem(here.client.get("/info/", headers=headers), 503, "cannot be fetched")
    assert here.client.get("/health/live", headers=headers).status_code == 200


def test_people_with_a_token_of_the_file_sign_in_beside_the_issuer(open_app: Callable[..., Here]) -> None:
    here = open_app(auth="oidc", oidc_issuer="http://127.0.0.1:9")
    token = TokenFile(here.data / layout.TOKENS).add("robot", Role.VIEWER)

    assert here.client.get("/info/", headers={"Authorization": f"Bearer {token}"}).status_code == 200


# Who acts.


def test_the_name_that_a_client_gives_does_not_change_the_signed_in_author(guarded: Guarded) -> None:
    client = guarded.by(Role.ANNOTATOR)
    stored = put_label(client, "case_00", mask_bytes(0), client_id="dr.house")
    offered = client.post("/activelearning/first", json={"client_id": "dr.house"}).json()

    assert (stored["author"], stored["stage"]) == ("annotator", "draft")
    assert offered["strategy"]["first"]["client_id"] == "annotator"
    assert {change["author"] for change in guarded.by(Role.ADMIN).get("/audit/").json()} == {"annotator"}


def test_an_annotator_withdraws_their_own_and_an_expert_anybodys(guarded: Guarded) -> None:
    annotator, expert = guarded.by(Role.ANNOTATOR), guarded.by(Role.EXPERT)
    put_label(annotator, "case_00", mask_bytes(0))
    put_label(expert, "case_01", mask_bytes(1))

    problem(annotator.delete("/datastore/label?id=case_01&tag=final"), 403, "expert's; an expert may withdraw it")
    assert annotator.delete("/datastore/label?id=case_00&tag=final").status_code == 200
    put_label(annotator, "case_00", mask_bytes(0))
    assert expert.delete("/datastore/label?id=case_00&tag=final").status_code == 200


# What is written down.


def audited(guarded: Guarded) -> list[dict[str, Any]]:
    response = guarded.by(Role.ADMIN).get("/audit/")
    assert response.status_code == 200
    found: list[dict[str, Any]] = response.json()
    return found


def test_a_change_is_written_down_with_everything_about_it(guarded: Guarded) -> None:
    begin = datetime.now(UTC)
    client = guarded.by(Role.EXPERT, **{"User-Agent": "Slicer/5.8 " + "x" * 500})
    put_label(client, "case_00", mask_bytes(0))

    (change,) = audited(guarded)
    moment = datetime.fromisoformat(change.pop("time"))
    assert begin <= moment <= datetime.now(UTC) and moment.utcoffset() == timedelta(0)
    assert change == {
        "author": "expert", "role": "expert", "client": ("Slicer/5.8 " + "x" * 500)[:256], "address": "testclient",
        "method": "PUT", "path": "/datastore/label", "query": "image=case_00", "status": 200,
    }  # fmt: skip


def test_every_kind_of_change_is_written_down(guarded: Guarded) -> None:
    admin = guarded.by(Role.ADMIN)
    asked = [
        ("POST", "/activelearning/random"),
        ("PUT", "/datastore/image/info?image=case_00"),
        ("DELETE", "/train/"),
        ("DELETE", "/datastore/image?id=case_01"),
    ]
    for method, path in asked:
        assert admin.request(method, path).status_code == 200, path

    found = [(change["method"], change["path"] + f"?{change['query']}".rstrip("?")) for change in audited(guarded)]
    assert found[::-1] == asked


def test_neither_reading_nor_signing_in_nor_what_was_refused_is_a_change(guarded: Guarded) -> None:
    viewer, annotator = guarded.by(Role.VIEWER), guarded.by(Role.ANNOTATOR)
    viewer.get("/info/")
    viewer.head("/datastore/image?image=case_00")
    viewer.post("/auth/token", data={"username": "viewer", "password": guarded.tokens[Role.VIEWER]})
    problem(viewer.delete("/train/"), 403)
    problem(guarded.stranger.delete("/train/"), 401)
    problem(annotator.put("/datastore/label?image=case_99", files={"label": ("a.nii.gz", mask_bytes(0))}), 404)
    problem(annotator.post("/activelearning/none", json={}), 404)

    assert audited(guarded) == []


def test_at_an_open_server_the_author_is_whom_the_client_names_else_the_system_user(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")
    here.client.delete("/train/")

    changes = here.client.get("/audit/").json()
    assert [(change["author"], change["role"], change["path"]) for change in changes] == [
        (system_user(), "expert", "/train/"),
        ("dr.kim", "expert", "/datastore/label"),
    ]


def test_a_change_that_cannot_be_written_down_is_told_as_what_it_is_and_logged(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(change: object) -> None:
        raise StorageFull("The disk that holds the record is full.")

    before = AUDIT_FAILURES.collect()[0].samples[0].value
    monkeypatch.setattr(here.app.record.audit, "add", full)

    saved = put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")

    assert saved["version"] == 1
    assert [entry["version"] for entry in here.client.get("/datastore/label/history?image=case_00").json()] == [1]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("Missing in the audit: Change(author='dr.kim'")
    assert "path='/datastore/label', query='image=case_00', status=200" in line
    assert AUDIT_FAILURES.collect()[0].samples[0].value == before + 1


def test_the_number_of_changes_that_are_shown_is_limited(guarded: Guarded) -> None:
    for _ in range(3):
        guarded.by(Role.EXPERT).delete("/train/")

    assert len(guarded.by(Role.ADMIN).get("/audit/?count=2").json()) == 2
    for count in ("0", "-1", "10001", "many"):
        problem(guarded.by(Role.ADMIN).get(f"/audit/?count={count}"), 422, "count")


# Hosts and origins.


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "[::1]"])
def test_an_open_server_answers_to_its_own_names(here: Here, host: str) -> None:
    assert here.client.get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000", "128.0.0.1", "0.0.0.0",
     "", "[::2]", "[", "localhost@evil.example", "127.0.0.1,evil.example", "10.0.0.7"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_open_server_answers_to_no_other_name(here: Here, host: str, method: str) -> None:
    problem(here.client.request(method, "/datastore/image", headers={"Host": host}), 403, "answers to localhost")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1.evil.example", "", "file://",
     "http://[", "https://evil.example#127.0.0.1", "http://127.0.0.1:80@evil.example"],
)  # fmt: skip
def test_pages_of_others_are_refused_at_an_open_server(here: Here, origin: str) -> None:
    problem(here.client.get("/info/", headers={"Origin": origin}), 403, "pages of", "refused")
    problem(here.client.post("/train/", headers={"Origin": origin}), 403, "refused")


@pytest.mark.parametrize("origin", ["http://127.0.0.1:3000", "http://localhost", "http://[::1]:8000"])
def test_pages_of_this_machine_may_use_an_open_server(here: Here, origin: str) -> None:
    assert here.client.get("/health/live", headers={"Origin": origin}).status_code == 200


def test_where_people_sign_in_the_server_answers_to_every_name(guarded: Guarded) -> None:
    headers = {"Host": "label.clinic.example", "Origin": "https://evil.example"}

    assert guarded.by(Role.VIEWER).get("/info/", headers=headers).status_code == 200


PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize("origin", ["https://viewer.clinic.example", "https://other.clinic.example"])
def test_a_browser_lets_configured_pages_ask(guarded: Guarded, origin: str) -> None:
    asked = guarded.stranger.options("/datastore/label", headers={"Origin": origin, **PREFLIGHT})
    reply = guarded.by(Role.VIEWER).get("/info/", headers={"Origin": origin})
    refused = guarded.stranger.get("/info/", headers={"Origin": origin})

    assert asked.status_code == 200 and "PUT" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    for response in (asked, reply, refused):
        assert response.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://viewer.clinic.example.evil.example"])
def test_a_browser_lets_no_other_page_ask(guarded: Guarded, origin: str) -> None:
    asked = guarded.stranger.options("/datastore/label", headers={"Origin": origin, **PREFLIGHT})
    reply = guarded.by(Role.VIEWER).get("/info/", headers={"Origin": origin})

    assert asked.status_code == 400
    assert "access-control-allow-origin" not in asked.headers
    assert "access-control-allow-origin" not in reply.headers


def test_without_configured_pages_no_browser_lets_any_ask(here: Here) -> None:
    reply = here.client.get("/info/", headers={"Origin": "http://127.0.0.1:3000"})

    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_configured_page_may_use_an_open_server(open_app: Callable[..., Here]) -> None:
    here = open_app(origins="https://viewer.clinic.example")

    assert here.client.get("/info/", headers={"Origin": "https://viewer.clinic.example"}).status_code == 200


# Headers.


def test_every_reply_carries_the_security_headers(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    viewer = guarded.by(Role.VIEWER)
    replies = {
        200: viewer.get("/datastore/"), 401: guarded.stranger.get("/info/"), 403: viewer.delete("/train/"),
        404: viewer.get("/nothing"), 405: guarded.by(Role.ADMIN).patch("/info/"), 422: viewer.get("/datastore/image"),
        413: guarded.by(Role.EXPERT).post("/train/", content=b"x" * (FORM_BYTES + 1)),
        307: viewer.get("/info", follow_redirects=False),
        400: guarded.stranger.options("/info/", headers={"Origin": "https://evil.example", **PREFLIGHT}),
    }  # fmt: skip
    monkeypatch.setattr(type(guarded.here.app), "info", broken)
    replies[500] = viewer.get("/info/")

    for status, reply in replies.items():
        assert reply.status_code == status
        assert {name: reply.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, status
    assert "ZeroDivisionError" not in replies[500].text


def test_nothing_of_other_hosts_is_loaded_into_our_pages() -> None:
    policy = SECURITY_HEADERS["Content-Security-Policy"]

    assert "default-src 'self'" in policy and "object-src 'none'" in policy and "frame-ancestors 'self'" in policy
    assert "http" not in policy and "*" not in policy


# Sizes.


@pytest.fixture
def narrow(open_app: Callable[..., Here]) -> Here:
    return open_app(max_upload_mib="1")


def pieces(count: int, size: int = 2**18) -> Iterator[bytes]:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n'
    yield head
    for _ in range(count):
        yield b"\0" * size
    yield b"\r\n--b--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def test_a_body_in_pieces_that_grows_beyond_the_limit_is_413(narrow: Here) -> None:
    response = narrow.client.put("/datastore/image?image=new", content=pieces(12), headers=FORM)

    problem(response, 413, "larger than 2 MiB", "max_upload_mib")
    assert list(narrow.app.temporary.iterdir()) == []


def test_a_body_longer_than_its_content_length_is_413(narrow: Here) -> None:
    headers = {**FORM, "Content-Length": "10"}
    response = narrow.client.put("/datastore/image?image=new", content=b"".join(pieces(12)), headers=headers)

    problem(response, 413, "larger than 2 MiB")


@pytest.mark.parametrize(
    "path", ["/datastore/image?image=new", "/datastore/label?image=case_00", "/session/", "/model/segmentation"]
)
def test_what_says_that_it_is_too_large_is_413_before_it_is_read(narrow: Here, path: str) -> None:
    def never() -> Iterator[bytes]:
        raise AssertionError("The body was read.")
        yield b""

    headers = {**FORM, "Content-Length": str(2**40)}
    problem(narrow.client.put(path, content=never(), headers=headers), 413, "larger than 2 MiB")


def test_a_file_beyond_the_limit_inside_a_form_within_it_is_413(narrow: Here) -> None:
    response = narrow.client.put("/datastore/image?image=new", content=pieces(5), headers=FORM)

    problem(response, 413, "at most 1 MiB")


def test_a_request_without_files_has_the_room_of_a_form(narrow: Here) -> None:
    large = b'{"x": "' + b"x" * FORM_BYTES + b'"}'

    problem(narrow.client.post("/train/", content=large, headers={"Content-Type": "application/json"}), 413, "1 MiB")
    problem(narrow.client.post("/activelearning/first", content=iter([large, large])), 413, "1 MiB")


@pytest.mark.parametrize("length", ["-1", "ten", "1e99", "0x10", "٣"])
def test_a_content_length_that_is_no_number_is_not_believed(narrow: Here, length: str) -> None:
    headers = {**FORM, "Content-Length": length.encode()}
    response = narrow.client.put("/datastore/image?image=new", content=b"".join(pieces(12)), headers=headers)

    problem(response, 413, "larger than 2 MiB")


def test_the_server_goes_on_after_all_this(narrow: Here) -> None:
    for _ in range(3):
        narrow.client.put("/datastore/image?image=new", content=pieces(12), headers=FORM)

    assert put_label(narrow.client, "case_00", mask_bytes(0))["version"] == 1
