"""Who may do what: every route has a role that somebody wrote down on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.errors import NotAllowed, NotSignedIn
from lib.serving.access import CHANGE, READ, Access, may, needed_role
from lib.serving.server import create_server
from lib.serving.settings import Settings
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout
from tests.serving.conftest import Here

NOBODY, VIEWER, ANNOTATOR, EXPERT, ADMIN = None, *PEOPLE

WANTED: dict[tuple[str, str], Role | None] = {
    ("GET", "/"): NOBODY,
    ("POST", "/annotations/accept"): EXPERT,
    ("POST", "/annotations/restore"): ANNOTATOR,
    ("GET", "/annotations/latest"): VIEWER,
    ("POST", "/auth/ticket"): NOBODY,
    ("GET", "/cases/"): VIEWER,
    ("GET", "/cases/page"): VIEWER,
    ("GET", "/cases/versions"): VIEWER,
    ("POST", "/cases/no-finding"): ANNOTATOR,
    ("POST", "/cases/open"): VIEWER,
    ("DELETE", "/cases/open"): VIEWER,
    ("GET", "/queue"): VIEWER,
    ("GET", "/queue/"): VIEWER,
    ("GET", "/docs"): NOBODY,
    ("GET", "/favicon.ico"): NOBODY,
    ("GET", "/openapi.json"): NOBODY,
    ("HEAD", "/openapi.json"): NOBODY,
    ("GET", "/ohif/{path:path}"): NOBODY,
    ("GET", "/ohif-monai/{path:path}"): NOBODY,
    ("GET", "/ohif-bar/{name}"): NOBODY,
    ("GET", "/open"): NOBODY,
    ("POST", "/open"): NOBODY,
    ("GET", "/health/live"): NOBODY,
    ("GET", "/health/ready"): NOBODY,
    ("GET", "/annotators"): NOBODY,
    ("GET", "/annotators/report"): ANNOTATOR,
    ("GET", "/annotators/report.png"): ANNOTATOR,
    ("GET", "/metrics"): VIEWER,
    ("GET", "/info/"): VIEWER,
    ("GET", "/auth/"): NOBODY,
    ("POST", "/auth/token"): NOBODY,
    ("GET", "/auth/token/valid"): VIEWER,
    ("GET", "/logs/"): ADMIN,
    ("GET", "/logs/gpu"): ADMIN,
    ("GET", "/audit/"): ADMIN,
    ("POST", "/activelearning/{strategy}"): ANNOTATOR,
    ("POST", "/infer/{model}"): ANNOTATOR,
    ("GET", "/datastore/"): VIEWER,
    ("PUT", "/datastore/"): ANNOTATOR,
    ("DELETE", "/datastore/"): ADMIN,
    ("GET", "/datastore/image"): VIEWER,
    ("HEAD", "/datastore/image"): VIEWER,
    ("PUT", "/datastore/image"): ANNOTATOR,
    ("DELETE", "/datastore/image"): ADMIN,
    ("GET", "/datastore/image/info"): VIEWER,
    ("PUT", "/datastore/image/info"): ANNOTATOR,
    ("GET", "/datastore/label"): VIEWER,
    ("HEAD", "/datastore/label"): VIEWER,
    ("PUT", "/datastore/label"): ANNOTATOR,
    ("DELETE", "/datastore/label"): ANNOTATOR,
    ("GET", "/datastore/label/info"): VIEWER,
    ("PUT", "/datastore/label/info"): ANNOTATOR,
    ("GET", "/datastore/label/history"): VIEWER,
    ("PUT", "/datastore/updatelabelinfo"): ANNOTATOR,
    ("GET", "/datastore/scores"): VIEWER,
    ("GET", "/datastore/dataset"): ANNOTATOR,
    ("PUT", "/session/"): ANNOTATOR,
    ("GET", "/session/{session_id}"): VIEWER,
    ("DELETE", "/session/{session_id}"): ANNOTATOR,
    ("GET", "/dicomweb/studies"): VIEWER,
    ("GET", "/dicomweb/series"): VIEWER,
    ("GET", "/dicomweb/instances"): VIEWER,
    ("GET", "/dicomweb/studies/{study}"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/metadata"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/instances"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/{more}"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/{more}/{deeper:path}"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/metadata"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/metadata"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frames}"): VIEWER,
    ("GET", "/dicomweb/studies/{study}/series/{series}/instances/{instance}/bulkdata/{tag}"): VIEWER,
    ("POST", "/dicomweb/studies"): ANNOTATOR,
    ("POST", "/dicomweb/studies/{study}"): ANNOTATOR,
    ("GET", "/train/"): VIEWER,
    ("POST", "/train/"): EXPERT,
    ("POST", "/train/{model}"): EXPERT,
    ("DELETE", "/train/"): EXPERT,
    ("GET", "/batch/infer"): VIEWER,
    ("POST", "/batch/infer/{model}"): EXPERT,
    ("DELETE", "/batch/infer"): EXPERT,
    ("GET", "/scoring/"): VIEWER,
    ("POST", "/scoring/"): EXPERT,
    ("POST", "/scoring/{method}"): EXPERT,
    ("DELETE", "/scoring/"): EXPERT,
    ("GET", "/jobs/{job_id}"): VIEWER,
    ("GET", "/jobs/{job_id}/events"): VIEWER,
    ("GET", "/model/info/{model}"): VIEWER,
    ("GET", "/model/versions/{model}"): VIEWER,
    ("GET", "/model/{model}"): ADMIN,
    ("PUT", "/model/{model}"): ADMIN,
    ("DELETE", "/model/{model}"): ADMIN,
    ("POST", "/model/serve/{model}"): ADMIN,
}
"""What each route needs; a new route is added here by whoever thought about it."""


def routes_of(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        if inner := getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None):
            yield from routes_of(inner)
        else:
            yield from ((method, route.path) for method in route.methods)


def test_every_route_needs_the_role_that_is_written_down_here(here: Here) -> None:
    found = set(routes_of(create_server(here.app).routes))

    assert found == set(WANTED)


@pytest.mark.parametrize(("method", "path"), WANTED, ids=lambda part: part)
def test_a_request_needs_the_role_of_its_route(method: str, path: str) -> None:
    plain = path.replace("{path:path}", "viewer/index.html")
    parts = ("study", "series", "instance", "frames", "tag")
    for name in ("model", "strategy", "method", "session_id", "job_id", *parts):
        plain = plain.replace(f"{{{name}}}", "a name with ö and 7")

    assert needed_role(method, plain) is WANTED[method, path]


@pytest.mark.parametrize("method", [*READ, *CHANGE, "PATCH", "TRACE", "OPTIONS", "get", "X"])
@pytest.mark.parametrize("path", ["", "nothing", "/\n", "/logs/\n", "/datastore/\nimage", "/auth/\n"])
def test_a_path_that_is_none_of_ours_needs_an_administrator(method: str, path: str) -> None:
    assert needed_role(method, path) is Role.ADMIN


@pytest.mark.parametrize("method", [*CHANGE, "PATCH", "TRACE", "OPTIONS", "get", "X"])
@pytest.mark.parametrize("path", ["/unknown/", "/docs", "/openapi.json", "/ohif/x.html", "/health/live", "//train/"])
def test_changing_what_nobody_thought_of_needs_an_administrator(method: str, path: str) -> None:
    assert needed_role(method, path) is Role.ADMIN


def test_reading_what_nobody_thought_of_needs_at_least_a_viewer() -> None:
    assert needed_role("GET", "/unknown/") is Role.VIEWER


@pytest.mark.parametrize("path", ["/logs/", "/logs/gpu", "/logs//", "/audit/", "/audit/x", "/model/segmentation"])
def test_no_spelling_of_a_private_path_is_open_to_viewers(path: str) -> None:
    assert needed_role("GET", path) is Role.ADMIN
    assert needed_role("HEAD", path) is Role.ADMIN


def test_each_role_may_what_the_ones_before_it_may() -> None:
    for number, role in enumerate(PEOPLE):
        assert may(role, None)
        assert [may(role, needed) for needed in PEOPLE] == [place <= number for place in range(len(PEOPLE))]


@pytest.fixture
def signing_in(tmp_path: Path) -> Callable[[Role], tuple[Access, str]]:
    def sign_in(role: Role) -> tuple[Access, str]:
        token = TokenFile(tmp_path / layout.TOKENS).add("kim", role)
        return Access(Settings(data=tmp_path, auth="tokens")), token

    return sign_in


def test_a_person_is_admitted_to_what_the_role_allows(signing_in: Callable[[Role], tuple[Access, str]]) -> None:
    access, token = signing_in(Role.ANNOTATOR)

    person = access.admit(token, "PUT", "/datastore/label", "Slicer")
    assert person is not None and (person.name, person.role, person.client) == ("kim", Role.ANNOTATOR, "Slicer")
    with pytest.raises(NotAllowed, match=r"POST /train/segmentation needs the role expert; kim is annotator"):
        access.admit(token, "POST", "/train/segmentation", "")


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_without_a_known_token_only_open_paths_are_admitted(
    signing_in: Callable[[Role], tuple[Access, str]], token: str | None
) -> None:
    access, _ = signing_in(Role.ADMIN)

    assert access.admit(token, "GET", "/health/live", "") is None
    assert access.admit(token, "POST", "/auth/token", "") is None
    with pytest.raises(NotSignedIn, match=r"Authorization: Bearer TOKEN|The token is not known"):
        access.admit(token, "GET", "/info/", "")
