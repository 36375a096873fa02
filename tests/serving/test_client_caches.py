"""What clients keep by a name is the image of that name: Slicer on another computer shows no other case."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from lib.phantoms.dicom_series import write_dicom_series
from lib.serving.server import create_server, load_app
from lib.volume import Volume, read_volume, write_volume
from tests.serving.conftest import APPS, Here
from tests.serving.places import CONF, voxels
from tests.serving.slicer import Slicer

SHAPE = (12, 10, 8)
ELSEWHERE = "192.0.2.7"
"""Address of another computer, for documents only."""

OpenPlace = Callable[..., Here]


def grey(number: int) -> np.ndarray:
    """An image that is unlike that of any other number."""
    return np.random.default_rng(number).integers(0, 400, SHAPE).astype(np.int16)


def put_image(path: Path, number: int) -> Path:
    """Writes an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(grey(number), np.diag([-1.0, -1.0, 2.0, 1.0])))
    return path


def put_series(folder: Path, number: int) -> str:
    """Writes a DICOM series."""
    return write_dicom_series(
        folder, grey(number), np.diag([-1.0, -1.0, 2.0, 1.0]), patient_id=f"p{number}", seed=number
    )


@pytest.fixture
def open_place(tmp_path: Path) -> Iterator[OpenPlace]:
    """Opens a server on a folder of studies, as a client at some address sees it."""
    opened: list[Here] = []

    def open_it(studies: Path, address: str = ELSEWHERE) -> Here:
        data = tmp_path / f"data{len(opened)}"
        app = load_app(APPS / "segmentation", str(studies), {**CONF, "data": str(data)})
        app.look()
        client = TestClient(create_server(app), base_url="http://127.0.0.1", client=(address, 50000))
        opened.append(Here(client, app, studies, data))
        return opened[-1]

    yield open_it
    for each in opened:
        each.client.close()
        each.app.record.close()


def marked(slicer: Slicer) -> np.ndarray:
    """Marks what is brightest in the image on the screen, which tells it from all others."""
    mask = slicer.image.voxels > 380
    slicer.segments["Anterior"] = mask
    return mask


def stored(here: Here, image_id: str) -> np.ndarray:
    return voxels(here.client.get("/datastore/label", params={"label": image_id, "tag": "final"}).content)


def test_cases_that_lie_under_one_name_in_folders_are_told_apart(open_place: OpenPlace, tmp_path: Path) -> None:
    for number in range(3):
        put_image(tmp_path / "studies" / f"s000{number}" / "ct.nii.gz", number)
    here = open_place(tmp_path / "studies")
    slicer = Slicer(here.client, tmp_path / "cache")

    for number in range(3):
        sample = slicer.next_sample()
        mask = marked(slicer)
        assert slicer.submit(sample["id"]).status_code == 200

        assert sample["id"] == f"s000{number}/ct"
        np.testing.assert_array_equal(slicer.image.voxels, grey(number))
        np.testing.assert_array_equal(stored(here, sample["id"]), mask)
    assert len(set(slicer.names.values())) == 3


def test_series_in_folders_of_one_name_are_told_apart_and_open(open_place: OpenPlace, tmp_path: Path) -> None:
    uids = [put_series(tmp_path / "studies" / f"pat{number}" / "CT", number) for number in range(3)]
    here = open_place(tmp_path / "studies")
    slicer = Slicer(here.client, tmp_path / "cache")

    for _ in range(3):
        sample = slicer.next_sample()
        mask = marked(slicer)
        assert slicer.submit(sample["id"]).status_code == 200

        assert sample["name"].endswith(".nii.gz")
        seen = read_volume(slicer.cache / sample["name"])
        ours = here.app.library.volume(here.app.library.readable(sample["id"]))
        np.testing.assert_array_equal(seen.voxels, ours.voxels)
        np.testing.assert_array_equal(stored(here, sample["id"]), mask)
    assert sorted(path.name.split("-")[0] for path in slicer.cache.iterdir()) == sorted(uids)


def test_two_servers_do_not_share_what_a_client_keeps(open_place: OpenPlace, tmp_path: Path) -> None:
    """Folders of like names, files of one size and one time, as archives leave them."""
    for place, number in (("a", 1), ("b", 2)):
        path = put_image(tmp_path / place / "patient" / "ct.nii", number)
        os.utime(path, ns=(10**18, 10**18))
    slicer = Slicer(None, tmp_path / "cache")

    for place, number in (("a", 1), ("b", 2), ("a", 1)):
        slicer.client = open_place(tmp_path / place).client
        sample = slicer.next_sample()

        assert sample["id"] == "patient/ct"
        np.testing.assert_array_equal(slicer.image.voxels, grey(number))


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "not yet seen"])
def test_an_image_that_was_exchanged_on_the_disk_is_asked_for_again(
    open_place: OpenPlace, tmp_path: Path, is_seen: bool
) -> None:
    path = put_image(tmp_path / "studies" / "ct.nii", 1)
    os.utime(path, ns=(10**18, 10**18))
    here = open_place(tmp_path / "studies")
    slicer = Slicer(here.client, tmp_path / "cache")
    before = slicer.next_sample()
    os.replace(put_image(tmp_path / "other.nii", 2), path)
    os.utime(path, ns=(10**18, 10**18))
    if is_seen:
        here.look()

    after = slicer.next_sample()

    np.testing.assert_array_equal(slicer.image.voxels, grey(2))
    assert after["checksum"] != before["checksum"]
    assert (after["name"] != before["name"]) is is_seen


def test_a_slice_that_was_exchanged_changes_the_name_and_checksum_of_its_series(
    open_place: OpenPlace, tmp_path: Path
) -> None:
    put_series(tmp_path / "studies" / "CT", 1)
    paths = sorted((tmp_path / "studies" / "CT").iterdir())
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    here = open_place(tmp_path / "studies")
    slicer = Slicer(here.client, tmp_path / "cache")
    before = slicer.next_sample()
    content = paths[3].read_bytes()
    (tmp_path / "new").write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    os.replace(tmp_path / "new", paths[3])
    os.utime(paths[3], ns=(10**18 + 5, 10**18 + 5))
    here.look()

    after = slicer.next_sample()

    assert after["name"] != before["name"] and after["checksum"] != before["checksum"]
    assert (slicer.image.voxels != read_volume(slicer.cache / before["name"]).voxels).sum() == 1


def test_the_list_of_all_images_tells_the_names_of_the_next_samples(open_place: OpenPlace, tmp_path: Path) -> None:
    """The module for reviewing takes names there, and has no checksum."""
    for number in range(2):
        put_image(tmp_path / "studies" / f"p{number}" / "ct.nrrd", number)
        put_series(tmp_path / "studies" / f"p{number}" / "CT", number + 5)
    here = open_place(tmp_path / "studies")

    listed = here.client.get("/datastore/?output=all").json()["objects"]
    told = {image_id: each["image"] for image_id, each in listed.items()}
    samples = [here.client.post("/activelearning/first", json={"client_id": f"k{n}"}).json() for n in range(4)]

    names = {image_id: each["info"]["name"] for image_id, each in told.items()}
    assert names == {sample["id"]: sample["name"] for sample in samples}
    assert len(set(names.values())) == 4
    for image_id, each in told.items():
        reply = here.client.get("/datastore/image", params={"image": image_id})
        assert reply.headers["content-disposition"].endswith(f'filename="{names[image_id]}"')
        assert names[image_id].endswith(each["ext"]) and each["ext"] in (".nrrd", ".nii.gz")
        assert here.client.get("/datastore/image/info", params={"image": image_id}).json()["name"] == names[image_id]


@pytest.mark.parametrize(
    "name",
    ["ct.nii", "CT.NII", "a.nii.gz", "B.NII.GZ", "ct.nrrd", "a b/über:*?\"<>|.nii.gz", "dots..x/-x.nii",
     "con/nul.nii", f"{'x' * 200}/{'y' * 200}.nii.gz", "a\\b.nii.gz", "new\nline.nii"],
)  # fmt: skip
def test_a_name_is_one_of_a_file_on_any_system_and_ends_as_what_is_sent(
    open_place: OpenPlace, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "studies" / name
    put_image(
        tmp_path / f"plain{'.nrrd' if name.endswith('nrrd') else '.nii.gz' if 'gz' in name.lower() else '.nii'}", 1
    )
    path.parent.mkdir(parents=True)
    (content,) = (each.read_bytes() for each in tmp_path.glob("plain*"))
    path.write_bytes(content)
    here = open_place(tmp_path / "studies")

    sample = here.client.post("/activelearning/first", json={}).json()
    sent = here.client.get("/datastore/image", params={"image": sample["id"]})

    stem, suffix = sample["name"].split(".", 1)[0], Path(sample["name"]).suffixes
    assert sample["name"].isascii() and len(sample["name"]) < 100
    assert all(letter.isalnum() or letter in "._-" for letter in sample["name"]) and stem and suffix
    assert (
        sample["name"].lower().endswith(next(end for end in (".nii.gz", ".nii", ".nrrd") if name.lower().endswith(end)))
    )
    assert sent.headers["content-disposition"].endswith(f'filename="{sample["name"]}"')
    assert sample["checksum"] == f"SHA256:{hashlib.sha256(sent.content).hexdigest()}"


def test_names_that_are_one_on_some_systems_differ_in_their_digests(open_place: OpenPlace, tmp_path: Path) -> None:
    for name in ("p/ct.nii", "P/CT.nii", "p_ct.nii", "p/ct.nrrd"):
        put_image(tmp_path / "studies" / name, 1)
    here = open_place(tmp_path / "studies")

    listed = here.client.get("/datastore/?output=all").json()["objects"]
    names = [each["image"]["info"]["name"] for each in listed.values()]

    assert len({name.casefold() for name in names}) == len(names) >= 3


@pytest.mark.parametrize("kind", ["file", "series"])
def test_the_checksum_is_that_of_what_is_sent_and_is_found_right(
    open_place: OpenPlace, tmp_path: Path, kind: str
) -> None:
    (put_image if kind == "file" else put_series)(tmp_path / "studies" / "ct.nii.gz", 1)
    here = open_place(tmp_path / "studies")

    sample = here.client.post("/activelearning/first", json={}).json()
    sent = here.client.get("/datastore/image", params={"image": sample["id"]}).content
    ask: dict[str, Any] = {"image": sample["id"], "check_sum": sample["checksum"]}

    assert sample["checksum"] == f"SHA256:{hashlib.sha256(sent).hexdigest()}"
    assert here.client.head("/datastore/image", params=ask).status_code == 200
    assert here.client.head("/datastore/image", params={**ask, "check_sum": "MD5:00"}).status_code == 404


@pytest.mark.parametrize(
    ("address", "is_here"),
    [("127.0.0.1", True), ("::1", True), ("192.0.2.7", False), ("2001:db8::7", False), ("10.0.0.1", False)],
)
@pytest.mark.parametrize("kind", ["file", "series"])
def test_a_path_is_told_at_this_machine_only(
    open_place: OpenPlace, tmp_path: Path, address: str, is_here: bool, kind: str
) -> None:
    """Elsewhere another file may lie at the same path, as the folder of another server's studies."""
    (put_image if kind == "file" else put_series)(tmp_path / "studies" / "ct.nii.gz", 1)
    here = open_place(tmp_path / "studies", address)

    sample = here.client.post("/activelearning/first", json={}).json()

    assert bool(sample["path"]) is is_here
    if is_here:
        sent = here.client.get("/datastore/image", params={"image": sample["id"]}).content
        assert Path(sample["path"]).read_bytes() == sent


def test_what_a_client_noted_under_these_names_is_not_told_for_them(open_place: OpenPlace, tmp_path: Path) -> None:
    path = put_image(tmp_path / "studies" / "ct.nii.gz", 1)
    here = open_place(tmp_path / "studies")
    noted = '{"checksum": "SHA256:00", "name": "x", "path": "/etc/passwd"}'
    here.client.put("/datastore/image/info", params={"image": "ct"}, data={"info": noted})
    wanted = here.client.post("/activelearning/first", json={}).json()
    not_wanted = here.client.post("/activelearning/first?checksum=false", json={}).json()

    assert wanted["checksum"] == f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert not_wanted["checksum"] is None
    assert wanted["name"] == not_wanted["name"] != "x"
    assert wanted["path"] == not_wanted["path"] == ""


def test_a_series_that_makes_no_volume_any_more_is_passed_over(open_place: OpenPlace, tmp_path: Path) -> None:
    for number in (1, 2):
        put_series(tmp_path / "studies" / f"p{number}" / "CT", number)
    here = open_place(tmp_path / "studies")
    first = here.client.post("/activelearning/first?checksum=false", json={}).json()
    for path in (here.studies / first["source"]).iterdir():
        path.write_bytes(path.read_bytes()[:-20])

    sample = here.client.post("/activelearning/first", json={}).json()

    assert sample["id"] != first["id"] and sample["checksum"]
    assert here.client.get("/datastore/image", params={"image": first["id"]}).status_code == 422


def test_no_browser_keeps_an_image_or_a_label_without_asking_again(open_place: OpenPlace, tmp_path: Path) -> None:
    put_image(tmp_path / "studies" / "ct.nii.gz", 1)
    here = open_place(tmp_path / "studies")
    slicer = Slicer(here.client, tmp_path / "cache")
    slicer.next_sample()
    slicer.submit("ct")

    for path in ("/datastore/image?image=ct", "/datastore/label?label=ct&tag=final", "/annotations/latest?image=ct"):
        assert here.client.get(path).headers["cache-control"] == "no-cache"
