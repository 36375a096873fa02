"""What the shape of a reply says, and what it leaves out."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field

import pytest

from tests.serving.reply_shape import described, differences, either, shape_of


@dataclass
class Reply:
    """A reply as httpx gives it."""

    content: bytes = b""
    status_code: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def json_reply(body, status=200):
    return Reply(json.dumps(body).encode(), status, {"content-type": "application/json"})


@pytest.mark.parametrize(
    ("value", "shape"),
    [(True, "bool"), (1, "int"), (1.5, "float"), ("a", "str"), (None, "null"), ([], []), ({}, {}), ([1, "a"], ["int"])],
)
def test_a_value_has_the_shape_of_its_json_type(value, shape):
    assert shape_of(value) == shape


def test_ids_and_free_names_are_not_part_of_a_shape():
    assert shape_of({"label_tags": {"final": 2, "mine": 1}}) == {"label_tags": {"*": "int"}}


def test_values_of_a_free_map_share_one_shape():
    body = {"models": {"a": {"type": "segmentation", "n": 1}, "b": {"type": "scribbles", "n": 1.5, "more": []}}}

    assert shape_of(body) == {"models": {"*": {"type": "=scribbles|=segmentation", "n": "float|int", "more?": []}}}


def test_words_that_clients_compare_with_are_kept():
    assert shape_of({"status": "DONE", "start_ts": "2026-11-20 10:00:00"}) == {"status": "=DONE", "start_ts": "str"}


def test_what_the_caller_sent_comes_back_as_its_placeholder():
    body = {"image": "case_1", "path": "case_1", "detail": "case_1 is unknown"}

    assert shape_of(body, {"case_1": "{image}"}) == {
        "image": "={image}",
        "path": "str",
        "detail": "={image} is unknown",
    }


def test_a_key_that_the_caller_chose_stands_as_its_placeholder():
    assert shape_of({"unet": {"result": None}}, {"unet": "{model}"}) == {"{model}": {"result": "null"}}


def test_a_type_is_a_word_of_the_contract_even_if_a_model_has_that_name():
    body = {"type": "segmentation", "model": "segmentation"}

    assert shape_of(body, {"segmentation": "{model}"}) == {"type": "=segmentation", "model": "={model}"}


def test_a_key_of_the_moment_is_marked_and_may_be_missing_on_either_side():
    started = shape_of({"request": {"gpus": "all"}})

    assert started == {"request": {"gpus?": "str"}}
    assert differences(started, {"request": {}}) == differences({"request": {}}, started) == []


def test_either_shape_of_a_list_and_a_word_names_both():
    assert either(["str"], "null") == "list|null"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": "int", "b?": "str"}, {"a": "int"}),
        ({"*": "int"}, {}),
        (["str"], []),
        ("float", "int"),
        ("=DONE|=ERROR", "=DONE"),
        ({"*": {"a": "int", "b?": "str"}}, {"*": {"a": "int", "b": "str"}}),
    ],
)
def test_a_shape_that_a_client_can_read_has_no_differences(wanted, found):
    assert differences(wanted, found) == []


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"a": {"b": "int"}}, {"a": {}}, ["/a/b: missing"]),
        ({}, {"a": "int"}, ["/a: not in the contract"]),
        ("int", "float", ["/: int wanted, float found"]),
        ([{"a": "str"}], [{"a": "null"}], ["[0]/a: str wanted, null found"]),
        ({"status": "=DONE"}, {"status": "=done"}, ["/status: =DONE wanted, =done found"]),
        ({"*": "int"}, {"a": "int"}, ["/: free keys on one side, ['a'] on the other"]),
    ],
)
def test_a_difference_says_where_and_what(wanted, found, said):
    assert differences(wanted, found) == said


def test_a_download_is_told_by_its_file_name_and_by_the_file_it_equals():
    headers = {"content-type": "application/gzip", "content-disposition": 'attachment; filename="case_1.nii.gz"'}

    reply = described(Reply(b"voxels", 200, headers), {"case_1": "{image}"}, {"image_file": b"voxels"})

    assert reply["disposition"] == {"kind": "attachment", "filename": "{image}.nii.gz", "spelling": "filename="}
    assert reply["body"] == {"kind": "file", "equals": "image_file"}


def test_an_archive_is_told_by_its_members():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writing:
        writing.writestr("label/case_1.nii.gz", b"")
    headers = {"content-type": "application/zip", "content-disposition": 'attachment; filename="dataset.zip"'}

    reply = described(Reply(archive.getvalue(), 200, headers), {"case_1": "{image_1}"}, {})

    assert reply["body"] == {"kind": "zip", "members": ["label/{image}.nii.gz"]}


def test_a_form_is_told_by_its_parts():
    body = (
        b'--x\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n{"a": 1}\r\n'
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="tmpab12cd_f.nii.gz"\r\n'
        b"Content-Type: application/gzip\r\n\r\n\x1f\x8b\r\n--x--\r\n"
    )

    reply = described(Reply(body, 200, {"content-type": "multipart/form-data; boundary=x"}), {}, {})

    assert reply["content_type"] == "multipart/form-data"
    assert reply["body"]["parts"] == [
        {"name": "params", "content_type": "application/json", "shape": {"a": "int"}},
        {"name": "image", "content_type": "application/gzip", "filename": "*.nii.gz"},
    ]


def test_an_openapi_description_is_told_by_its_routes():
    reply = described(json_reply({"openapi": "3.1.0", "paths": {"/info/": {"get": {}, "head": {}}}}), {}, {})

    assert reply["body"] == {"kind": "openapi", "routes": ["GET /info/", "HEAD /info/"]}


def test_an_error_in_plain_text_and_an_empty_body_are_told_apart():
    crash = Reply(b"Internal Server Error", 500, {"content-type": "text/plain; charset=utf-8"})

    assert described(crash, {}, {})["body"] == {"kind": "text", "text": "Internal Server Error"}
    assert described(Reply(status_code=404), {}, {})["body"] == {"kind": "empty"}
