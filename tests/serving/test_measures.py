"""Numbers for Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from lib.serving.measures import METHODS, ROUTES
from lib.serving.server import create_server
from lib.store.jobs import JobKind
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label
from tests.serving.test_access import routes_of


def told(here: Here) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every number by name and labels."""
    reply = here.client.get("/metrics")
    assert reply.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def number(here: Here, name: str, **labels: str) -> float | None:
    return told(here).get((f"label_refinery_{name}", frozenset(labels.items())))


def test_the_reply_says_in_which_format_it_is(here: Here) -> None:
    assert here.client.get("/metrics").headers["content-type"].startswith("text/plain; version=")


def test_images_are_counted_where_they_stand(here: Here) -> None:
    put_label(here.client, "case_00", mask_bytes(0))

    assert number(here, "images", state="ok", standing="labelled", split="training") == 1
    assert number(here, "images", state="ok", standing="untouched", split="") == 1


def test_open_jobs_are_counted_by_kind(here: Here) -> None:
    here.app.record.jobs.ask(JobKind.TRAIN, {})

    assert {kind: number(here, "jobs_open", kind=kind) for kind in JobKind} == {
        **dict.fromkeys(JobKind, 0),
        JobKind.TRAIN: 1,
    }


def test_the_serving_version_is_told_and_0_before_there_is_one(here: Here, weights: bytes) -> None:
    assert number(here, "model_version") == 0
    assert number(here, "validation_dice") is None
    here.put_weights(weights)

    assert number(here, "model_version") == 1


def test_the_room_on_the_disk_is_told(here: Here) -> None:
    free = number(here, "free_bytes")

    assert free is not None and free > 0


def test_a_reply_is_counted_with_its_route_method_and_status(here: Here) -> None:
    asked = [
        ("GET", "/datastore/", 200), ("GET", "/datastore/image?image=case_99", 404), ("DELETE", "/train/", 200),
        ("GET", "/", 200), ("GET", "/nothing/at/all", 404),
    ]  # fmt: skip

    def count(method: str, path: str, status: int) -> float:
        route = path.strip("/").partition("/")[0]
        labels = {"route": route if route in ROUTES else "other", "method": method, "status": str(status)}
        return number(here, "requests_total", **labels) or 0

    before = [count(*each) for each in asked]
    for method, path, _ in asked:
        here.client.request(method, path)

    gained = [count(*each) - earlier for each, earlier in zip(asked, before, strict=True)]
    assert gained == [1, 1, 1, 1, 1]


def test_a_refused_request_is_counted_too(here: Here) -> None:
    before = number(here, "requests_total", route="info", method="GET", status="403") or 0
    here.client.get("/info/", headers={"Host": "evil.example"})

    assert number(here, "requests_total", route="info", method="GET", status="403") == before + 1


def test_the_time_until_a_reply_begins_is_counted(here: Here) -> None:
    before = number(here, "request_seconds_count", route="info") or 0
    here.client.get("/info/")

    assert number(here, "request_seconds_count", route="info") == before + 1


def test_no_client_can_invent_labels(here: Here) -> None:
    for path in ("/a", "/b/c", "/train-x/", "/%00", "/'\"\\\n", "/" + "x" * 5000, "//info", "/INFO/"):
        here.client.get("http://127.0.0.1" + path.replace("\n", "%0A"))
    for method in ("BREW", "PROPFIND", "get", "PATCH"):
        here.client.request(method, "/info/")

    labels: dict[str, set[str]] = {}
    for (name, pairs), _ in told(here).items():
        if name.startswith("label_refinery_request"):
            for label, value in pairs:
                labels.setdefault(label, set()).add(value)
    assert labels["route"] <= {*ROUTES, "other"}
    assert labels["method"] <= {*METHODS, "other"}
    assert all(100 <= int(status) < 600 for status in labels["status"])


def test_every_path_of_ours_has_a_name_of_its_own(here: Here) -> None:
    firsts = {path.strip("/").partition("/")[0] for _, path in routes_of(create_server(here.app).routes)}

    assert firsts - {"", "docs", "favicon.ico", "openapi.json"} <= ROUTES
