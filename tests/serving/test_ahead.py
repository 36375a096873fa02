"""The next images have a draft before anybody opens them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.errors import ComputationInterrupted, StorageFull
from lib.serving.inference import Drafted, Order
from lib.serving.log import log_file
from lib.stages import Stage
from lib.store.images import ImageState
from tests.serving.conftest import Here
from tests.serving.places import Server, is_alive, mask_bytes, put_images, put_label, server, stopped, until
from tests.serving.test_dicomweb import put_series, value

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom about phantoms' names

DrawnUp = Callable[..., Here]


def work(here: Here) -> int:
    """Drafts ahead until there is nothing to do; tells how many were made."""
    made = 0
    while here.app.ahead.draft_next():
        made += 1
        assert made < 20
    return made


def drafts(here: Here) -> dict[str, list[str]]:
    """Who has drafted each image that has a draft, in order."""
    histories = here.app.record.annotations.all_histories()
    return {image: [one.author for one in history] for image, history in histories.items()}


def offered(here: Here, strategy: str = "first", **asked: Any) -> str:
    """The next image for somebody."""
    told: dict[str, str] = here.client.post(f"/activelearning/{strategy}", json=asked).json()
    return told["id"]


V1, V2 = "model:segmentation@v1", "model:segmentation@v2"


def test_the_images_that_come_next_are_drafted(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(5, ahead="2")
    here.put_weights(weights)

    assert work(here) == 2

    by_draw = [image.id for image in here.app.record.images.candidates("kim", "expert", by_id=False)]
    assert list(drafts(here)) == sorted(by_draw[:2])
    assert offered(here, "random", client_id="kim") == by_draw[0]


def test_those_follow_the_order_that_was_asked_for_last(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(5, ahead="2")
    here.put_weights(weights)

    assert offered(here, client_id="kim") == "case_00"
    work(here)

    assert drafts(here) == {"case_00": [V1], "case_01": [V1], "case_02": [V1]}


def test_whenever_one_is_corrected_another_is_drafted(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(4, ahead="1")
    here.put_weights(weights)
    offered(here)
    work(here)

    put_label(here.client, "case_00", mask_bytes(0), client_id="kim")
    put_label(here.client, "case_01", mask_bytes(1), client_id="kim")

    assert work(here) == 1
    assert drafts(here)["case_02"] == [V1]
    assert work(here) == 0


def test_a_new_model_drafts_again_what_nobody_has_corrected_or_opened(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(4, ahead="4")
    here.put_weights(weights)
    work(here)
    put_label(here.client, "case_00", mask_bytes(0), client_id="kim")
    assert offered(here, client_id="lee") == "case_01"

    here.put_weights(weights)
    work(here)

    assert drafts(here) == {"case_00": [V1, "kim"], "case_01": [V1], "case_02": [V1, V2], "case_03": [V1, V2]}
    assert here.app.record.annotations.tagged("case_02", "").author == V2


def test_an_opened_image_comes_first(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(4, ahead="2")
    here.put_weights(weights)

    here.app.ahead.opened("case_03")
    here.app.ahead.draft_next()

    assert list(drafts(here)) == ["case_03"]


def test_without_a_model_and_a_rule_nothing_happens(open_app: DrawnUp) -> None:
    here = open_app(2, ahead="2")

    assert work(here) == 0
    assert drafts(here) == {}


def test_a_draft_that_was_taken_back_is_not_made_again(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(1, ahead="1")
    here.put_weights(weights)
    work(here)

    here.client.delete("/datastore/label", params={"id": "case_00", "tag": "original"})

    assert work(here) == 0
    assert [one.stage for one in here.app.record.annotations.history("case_00")] == [Stage.DRAFT, Stage.WITHDRAWN]


def test_an_image_that_fails_is_tried_once_by_each_model_and_its_reason_logged_once(
    open_app: DrawnUp, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    here = open_app(2, ahead="2")
    here.put_weights(weights)
    compute, tried = here.app.drafting.compute, []

    def stumbling(order: Order) -> Drafted:
        tried.append(order.name)
        if order.name == "case_00":
            raise ComputationInterrupted("The inference process stopped (exit code -9).")
        return compute(order)

    here.app.drafting.compute = stumbling
    caplog.set_level(logging.WARNING)

    work(here)
    work(here)
    here.put_weights(weights)
    work(here)

    assert sorted(tried) == ["case_00", "case_00", "case_01", "case_01"]
    assert [message for message in caplog.messages if "not drafted ahead" in message] == [
        f"case_00 is not drafted ahead by {author}: The inference process stopped (exit code -9)."
        for author in (V1, V2)
    ]


def test_a_damaged_image_is_quarantined_and_the_others_are_drafted(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(2, ahead="2")
    here.put_weights(weights)
    damaged = here.studies / "case_00.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:400])

    work(here)

    assert list(drafts(here)) == ["case_01"]
    assert here.app.record.images.get("case_00").state is ImageState.QUARANTINED


def test_a_full_disk_is_no_fault_of_the_image(
    open_app: DrawnUp, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_app(1, ahead="1")
    here.put_weights(weights)

    def full(*_: object) -> None:
        raise StorageFull("The disk is full.")

    with monkeypatch.context() as context:
        context.setattr(here.app.drafting, "compute", full)
        with pytest.raises(StorageFull, match="full"):
            here.app.ahead.draft_next()

    assert work(here) == 1


def test_a_person_who_wants_what_is_drafted_ahead_is_named_to_the_queue(open_app: DrawnUp, weights: bytes) -> None:
    here = open_app(1, ahead="1")
    here.put_weights(weights)
    compute, orders, hurried, goes_on = here.app.drafting.compute, [], threading.Event(), threading.Event()

    def waiting(order: Order) -> Drafted:
        orders.append(order.asker)
        assert goes_on.wait(60)
        return compute(order)

    here.app.drafting.compute = waiting
    here.app.drafting.hurry = lambda image_id, asker: hurried.set() if (image_id, asker) == ("case_00", "kim") else None
    ahead = threading.Thread(target=here.app.ahead.draft_next)
    ahead.start()
    until(lambda: orders, what="the draft ahead")
    person = threading.Thread(
        target=here.client.post,
        args=("/infer/segmentation?image=case_00",),
        kwargs={"data": {"params": '{"client_id": "kim"}'}},
    )
    person.start()

    assert hurried.wait(60)
    goes_on.set()
    ahead.join(60)
    person.join(60)

    assert orders == [None]
    assert drafts(here) == {"case_00": [V1]}


def test_a_server_drafts_ahead_for_viewers_and_ends_at_once_while_it_does(tmp_path: Path, weights: bytes) -> None:
    uid = put_series(tmp_path / "studies" / "ct", 1)
    put_images(tmp_path / "studies", 1)
    with server(tmp_path / "studies", tmp_path / "data", {"ahead": "2"}) as running:
        assert running.client.put("/model/segmentation", files={"file": ("m.pt", weights)}).status_code == 200
        until(lambda: history(running, uid) and history(running, "case_00"), what="two drafts")
        until(lambda: list((tmp_path / "data" / "cache").rglob("*.dcm")), what="the segmentation")

        (listed,) = running.get("/dicomweb/series", Modality="SEG", PatientID="p1")
        study, series = value(listed, "StudyInstanceUID"), value(listed, "SeriesInstanceUID")
        with stopped(running.pid_of("inference")):
            opened = running.client.get(f"/dicomweb/studies/{study}/series/{series}")
            assert running.client.put("/model/segmentation", files={"file": ("m.pt", weights)}).status_code == 200
            until(lambda: f"ahead by {V2}" in log_file(running.data).read_text(), what="the next draft")
            begin = time.monotonic()
            os.kill(running.pid, signal.SIGTERM)
            until(lambda: not is_alive(running.pid), seconds=30, what="the end")

    assert time.monotonic() - begin < 10
    assert value(listed, "SeriesDescription") == "DRAFT model segmentation v1"
    assert opened.status_code == 200 and b"DRAFT model" in opened.content


def history(running: Server, image_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.get("/datastore/label/history", image=image_id)
    return found
