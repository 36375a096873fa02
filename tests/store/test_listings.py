"""What viewers find: a row for each image, made after the image and anew when that changes."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from lib.stages import Role
from lib.store import schema
from lib.store.images import ImageState
from lib.store.listings import Listing, StudyCount
from lib.store.record import Record
from tests.store.records import add, put_image


@pytest.fixture(autouse=True)
def others_are_listed(record: Record) -> None:
    """The images that every record of the tests has are no matter here."""
    for image_id in record.listings.missing(10):
        record.listings.put(image_id, None)


def listing(image_id: str, study: str, date: str = "20240101", **other: object) -> Listing:
    values = {"series_uid": f"{image_id}.1", "patient_id": "p1", "patient_name": "kim", "accession_number": ""}
    values |= {"modality": "CT", "instances": 2, "attributes": {}, **other}  # type: ignore[dict-item]
    return Listing(image_id, study, instance_uid="", study_date=date, **values)  # type: ignore[arg-type]


def put(record: Record, *listings: Listing) -> None:
    for one in listings:
        put_image(record, one.image)
        record.listings.put(one.image, one)


def studies(record: Record, *conditions: object, skipped: int = 0) -> list[list[str]]:
    found = record.listings.studies(*conditions, skipped=skipped)  # type: ignore[arg-type]
    return [[one.listing.image for one in images] for images in found]


def test_an_image_is_missing_until_it_is_listed_and_again_when_it_is_read_anew(record: Record) -> None:
    put_image(record, "a")
    put_image(record, "damaged", reason="cut off")

    assert record.listings.missing(10) == ["a"]
    record.listings.put("a", listing("a", "1.2"))
    assert record.listings.missing(10) == []
    put_image(record, "a")
    assert record.listings.missing(10) == ["a"]


def test_an_image_that_viewers_cannot_show_is_not_asked_for_again(record: Record) -> None:
    put_image(record, "a")

    record.listings.put("a", None)

    assert (record.listings.missing(10), studies(record)) == ([], [])


def test_studies_come_newest_first_with_all_their_images(record: Record) -> None:
    put(record, listing("a", "1.1", "20230101"), listing("b", "1.2"), listing("c", "1.1", "20230101"))

    assert studies(record) == [["b"], ["a", "c"]]
    assert studies(record, skipped=1) == [["a", "c"]]
    assert studies(record, schema.listing.c.series_uid == "c.1") == [["a", "c"]]


def test_images_of_one_study_share_what_the_first_says_of_it(record: Record) -> None:
    put(record, listing("a", "1.1", "20230101"), listing("b", "1.1", "20240101", patient_id="other"))

    assert studies(record) == [["a", "b"]]
    assert {one.listing.patient_id for one in record.listings.of_study("1.1")} == {"p1"}


def test_removed_images_are_not_found(record: Record) -> None:
    put(record, listing("a", "1.1"), listing("b", "1.1"))

    record.images.set_state("a", ImageState.HIDDEN)

    assert studies(record) == [["b"]]
    assert record.listings.of_series("a.1") == []


def test_many_studies_come_page_by_page_without_a_gap(record: Record) -> None:
    with record.database.transaction():
        put(record, *(listing(f"{number:03d}", f"1.{number:03d}") for number in range(205)))

    assert studies(record) == [[f"{number:03d}"] for number in reversed(range(205))]


def test_the_series_of_each_study_are_counted_in_the_order_of_studies(record: Record) -> None:
    put(record, listing("a", "1.1", "20230101"), listing("b", "1.2"), listing("c", "1.1", "20230101"))
    put(record, listing("left", "1.2", series_uid="9.1"), listing("right", "1.2", series_uid="9.1"))
    put_image(record, "unlisted")
    for image_id in ("a", "c"):
        add(record, image_id, Role.EXPERT)
    with record.database.transaction() as connection:
        stored = {"task": record.task.name, "instance_uid": "5", "series_uid": "5", "image": "c", "version": 1}
        connection.execute(insert(schema.segmentation).values(**stored, content="ab"))

    assert record.listings.counted() == [StudyCount("1.2", 2, 0, 0), StudyCount("1.1", 2, 2, 1)]


def test_a_file_that_became_unreadable_and_went_is_forgotten_with_its_listing(record: Record) -> None:
    put(record, listing("a", "1.1"))
    put_image(record, "a", reason="cut off")

    assert record.images.forget_unread("a")
    assert record.images.find("a") is None
