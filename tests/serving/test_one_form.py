"""An id may be written in either Unicode form, wherever it is written: it names the same image."""

from __future__ import annotations

import json
from typing import Any
from unicodedata import normalize
from urllib.parse import quote

import pytest

from lib.serving.dicomweb import Search, attribute
from lib.serving.one_form import in_one_form
from tests.serving.conftest import Here
from tests.serving.places import image_bytes, mask_bytes, put_label

NAMES = ["Läsion é が脳", "Å/한국어 ệ"]
FORMS = ["NFC", "NFD"]


def upload(here: Here, image_id: str, name: str = "image.nii.gz") -> Any:
    return here.client.put(
        "/datastore/image", params={"image": image_id} if image_id else {}, files={"file": (name, image_bytes(3))}
    )


@pytest.mark.parametrize("asked", FORMS)
@pytest.mark.parametrize("given", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_an_uploaded_image_is_found_under_both_forms_on_every_route(
    here: Here, name: str, given: str, asked: str
) -> None:
    kept, image_id = normalize("NFC", name), normalize(asked, name)
    assert upload(here, normalize(given, name)).json() == {"image": kept}

    assert put_label(here.client, image_id, mask_bytes(3))["image"] == kept
    info = {"info": json.dumps({"ward": "7b"})}
    for method, path, key, more in (
        ("GET", "/datastore/image", "image", {}), ("HEAD", "/datastore/image", "image", {}),
        ("GET", "/datastore/image/info", "image", {}), ("PUT", "/datastore/image/info", "image", info),
        ("GET", "/datastore/label", "label", {}), ("GET", "/datastore/label", "image", {}),
        ("GET", "/datastore/label/info", "label", {}), ("PUT", "/datastore/label/info", "label", info),
        ("GET", "/datastore/label/history", "image", {}), ("GET", "/datastore/scores", "image", {}),
        ("GET", "/annotations/latest", "image", {}), ("POST", "/annotations/accept", "image", {}),
        ("POST", "/cases/no-finding", "image", {}),
        ("GET", "/open", "image", {}), ("POST", "/open", "", {"image": image_id}),
        ("DELETE", "/datastore/label", "id", {"tag": "final"}), ("DELETE", "/datastore/image", "id", {}),
    ):  # fmt: skip
        query = {key: image_id} if key else {}
        if method == "DELETE":
            query |= more
        reply = here.client.request(method, path, params=query, data=more or None, follow_redirects=False)
        assert reply.status_code in (200, 303), (method, path, reply.text)


@pytest.mark.parametrize("on_disk", FORMS)
@pytest.mark.parametrize("asked", FORMS)
def test_a_file_of_the_studies_is_found_under_both_forms(here: Here, on_disk: str, asked: str) -> None:
    path = here.studies / normalize(on_disk, "Ärzte") / normalize(on_disk, "Läsion.nii.gz")
    path.parent.mkdir()
    path.write_bytes(image_bytes(3))
    here.look()

    reply = here.client.get("/datastore/image", params={"image": normalize(asked, "Ärzte/Läsion")})

    assert reply.status_code == 200
    assert reply.content == path.read_bytes()


def test_two_files_whose_names_differ_in_form_only_are_two_images(here: Here) -> None:
    for number, form in enumerate(FORMS):
        (here.studies / normalize(form, "é.nii.gz")).write_bytes(image_bytes(number))
    here.look()

    found = [one for one in here.client.get("/datastore/?output=all").json()["objects"] if one.startswith("é")]
    quarantined = here.client.get("/datastore/?output=all").json()["quarantined"]

    assert len(found) + len(quarantined) == 2 and "é" in found


def test_a_files_name_is_the_id_in_one_form(here: Here) -> None:
    assert upload(here, "", normalize("NFD", "Läsion.nii.gz")).json() == {"image": normalize("NFC", "Läsion")}


def test_a_person_is_one_author_in_both_forms(here: Here) -> None:
    for form in FORMS:
        put_label(here.client, "case_00", mask_bytes(0), client_id=normalize(form, "Dr. Müller"))

    authors = {one["author"] for one in here.client.get("/datastore/label/history?image=case_00").json()}
    assert authors == {normalize("NFC", "Dr. Müller")}


@pytest.mark.parametrize("asked", FORMS)
@pytest.mark.parametrize("held", FORMS)
def test_searches_find_names_of_patients_in_both_forms(held: str, asked: str) -> None:
    told = attribute("PatientName", {"Alphabetic": normalize(held, "MÜLLER^Anna")})

    assert Search.from_query([("PatientName", normalize(asked, "müll?r*"))]).fits(told)


@pytest.mark.parametrize("query", ["", "a=1&b=2", "image=a+b", "a=%20x&&b", "limit=1&image=%C3%A9", "x=%2B%26%3D", "%"])
def test_a_query_in_one_form_stays_byte_by_byte(query: str) -> None:
    scope = {"type": "http", "path": "/a", "query_string": query.encode()}

    assert in_one_form(scope) == scope


def test_what_else_a_query_says_stays() -> None:
    query = f"image={quote(normalize('NFD', 'é'))}&x=%2B%26%3D&image=2&empty="
    scope = in_one_form({"type": "http", "path": normalize("NFD", "/é"), "query_string": query.encode()})

    assert scope["path"] == normalize("NFC", "/é")
    assert scope["query_string"] == b"image=%C3%A9&x=%2B%26%3D&image=2&empty="
