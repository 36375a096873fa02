"""JSON that clients send is within bounds, wherever it comes in; what is beyond them is told with the bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lib.errors import InvalidRequest
from lib.serving.requests import DEEPEST_JSON, LARGEST_NUMBER, LONGEST_JSON, MOST_KEYS, read_json, read_params
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label
from tests.serving.test_bad_input import refused
from tests.store.test_notes import nested

BEYOND = {
    "33 levels": ('{"note": ' + "[" * 32 + "]" * 32 + "}", "nested 33 levels deep, at most 32"),
    "500 levels": ('{"note": ' + '{"a":' * 500 + "1" + "}" * 501, "nested 501 levels deep, at most 32"),
    "100,000 levels": ('{"note": ' + "[" * 100_000, "nested deeper than 32 levels"),
    "5,000 digits": ('{"note": ' + "9" * 5000 + "}", "a whole number of 5000 signs, at most 9223372036854775807"),
    "2^63": ('{"seconds": 9223372036854775808}', "a whole number of 19 signs"),
    "-2^64": ('{"note": [-18446744073709551616]}', "a whole number of 21 signs"),
    "5,000 decimals": ('{"note": 0.' + "1" * 5000 + "}", "is no number"),
    "a large exponent": ('{"note": 1e400}', "1e400 is no number"),
    "many keys": (json.dumps({f"key {n}": n for n in range(MOST_KEYS + 1)}), "an object of 1001 keys, at most 1000"),
    "many keys inside": (json.dumps({"a": [{str(n): n for n in range(2000)}]}), "an object of 2000 keys"),
    "a long key": (json.dumps({"k" * 257: 1}), "a key of 257 letters, at most 256"),
    "NaN": ('{"note": [NaN]}', "NaN is no number"),
    "half a letter": ('{"note": {"a": "\\ud800"}}', "surrogates not allowed"),
    "cut off": ('{"note": ', "no valid JSON"),
}

WAYS: dict[str, Callable[[Here, str], Any]] = {
    "a mask": lambda here, text: here.client.put(
        "/datastore/label?image=case_00", data={"params": text}, files={"label": ("a.nii.gz", mask_bytes(0))}
    ),
    "an image": lambda here, text: here.client.put(
        "/datastore/image?image=new", data={"params": text}, files={"file": ("a.nii.gz", mask_bytes(0))}
    ),
    "a note on an image": lambda here, text: here.client.put(
        "/datastore/image/info?image=case_00", data={"info": text}
    ),
    "a note on a label": lambda here, text: here.client.put("/datastore/label/info?label=case_00", data={"info": text}),
    "the older name": lambda here, text: here.client.put(
        "/datastore/updatelabelinfo?label=case_00", data={"params": text}
    ),
    "accepting": lambda here, text: here.client.post("/annotations/accept?image=case_00", data={"params": text}),
    "infer": lambda here, text: here.client.post("/infer/segmentation?image=case_00", data={"params": text}),
    **{
        path: lambda here, text, path=path: here.client.post(  # type: ignore[misc]
            path, content=text, headers={"Content-Type": "application/json"}
        )
        for path in ("/activelearning/first", "/train/segmentation", "/train/", "/batch/infer/segmentation",
                     "/scoring/dice", "/scoring/")
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_json_beyond_a_bound_is_refused_wherever_it_comes_in(here: Here, way: str) -> None:
    put_label(here.client, "case_00", mask_bytes(0))
    before = here.client.get("/datastore/?output=all").json()

    for text, found in BEYOND.values():
        refused(WAYS[way](here, text), 422, found)

    assert here.client.get("/datastore/?output=all").json() == before


def test_json_of_too_many_bytes_is_refused_with_their_number() -> None:
    with pytest.raises(InvalidRequest, match=rf"params has {LONGEST_JSON + 1} bytes, at most {LONGEST_JSON}"):
        read_params("x" * (LONGEST_JSON + 1))


@pytest.mark.parametrize(
    "content",
    [nested(DEEPEST_JSON), nested(DEEPEST_JSON, as_object=True), LARGEST_NUMBER, -LARGEST_NUMBER, 1.5e308, "é" * 1000,
     {str(n): n for n in range(MOST_KEYS)}, {"k" * 256: []}, [[]] * 1000, None, True],
    ids=range(11),
)  # fmt: skip
def test_what_is_at_a_bound_is_taken_as_it_is(content: Any) -> None:
    assert read_json(json.dumps(content).encode(), "The body") == content
    assert read_params(json.dumps({"note": content[0] if isinstance(content, list) else 1}))


def test_bytes_that_are_no_text_are_no_json() -> None:
    with pytest.raises(InvalidRequest, match=r"The body is no valid JSON"):
        read_json(b'{"a": "\xff\xfe"}', "The body")


def test_a_body_that_is_no_object_says_what_is_wanted(here: Here) -> None:
    reply = here.client.post("/train/segmentation", content="[1]", headers={"Content-Type": "application/json"})

    refused(reply, 422, "valid dictionary")


@pytest.mark.parametrize("depth", [100, 300, 900])
def test_a_deep_note_that_was_taken_in_once_breaks_no_request(here: Here, depth: int) -> None:
    put_label(here.client, "case_00", mask_bytes(0), client_id="dr.kim")
    here.app.record.images.note("case_00", {"deep": nested(depth), "ward": "7b", "strategy": {"first": nested(depth)}})
    here.app.record.annotations.note("case_00", 1, {"deep": nested(depth), "ward": "7b"})

    everything = here.client.get("/datastore/?output=all")
    assert everything.status_code == 200, everything.text
    noted = everything.json()["objects"]["case_00"]
    told = f"(a note of {depth} levels, which is not shown)"
    for info in (noted["image"]["info"], noted["labels"]["final"]["info"]):
        assert (info["deep"], info["ward"]) == (told, "7b")
    for path in ("image/info?image=case_00", "label/info?label=case_00", "label/history?image=case_00", "dataset",
                 "?output=train"):  # fmt: skip
        assert here.client.get(f"/datastore/{path}").status_code == 200, path
    assert here.client.post("/activelearning/first", json={}).status_code == 200
    for path in ("image/info?image=case_00", "label/info?label=case_00"):
        assert here.client.put(f"/datastore/{path}", data={"info": '{"deep": "flat"}'}).status_code == 200
        assert here.client.get(f"/datastore/{path}").json()["deep"] == "flat"
