"""Many requests at the same time: nothing is lost, nothing stops being noticed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.serving.places import Server, image_bytes, mask_bytes, put_images, put_label, server, until

AT_ONCE = 50

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with fifty images that looks at its studies all the time."""
    folder = tmp_path_factory.mktemp("busy")
    put_images(folder / "studies", AT_ONCE)
    with server(folder / "studies", folder / "data", {"rescan": "0.2"}) as process:
        yield process


def submitted(address: str, image_id: str, author: str) -> int:
    """Submits a mask over a connection of its own and returns its version."""
    with httpx.Client(base_url=address, timeout=120) as client:
        version: int = put_label(client, image_id, mask_bytes(0), client_id=author)["version"]
        return version


def test_fifty_labels_of_fifty_images_at_once_are_all_kept(busy: Server) -> None:
    before = busy.get("/datastore/")["completed"]
    with ThreadPoolExecutor(AT_ONCE) as people:
        jobs = [people.submit(submitted, busy.address, f"case_{n:02d}", f"author {n}") for n in range(AT_ONCE)]
        versions = [job.result() for job in jobs]

    assert versions == [1] * AT_ONCE
    assert busy.get("/datastore/")["completed"] == before + AT_ONCE
    authors = [busy.get("/datastore/label/info", label=f"case_{n:02d}", tag="final")["author"] for n in range(AT_ONCE)]
    assert authors == [f"author {n}" for n in range(AT_ONCE)]


def test_fifty_labels_of_one_image_at_once_are_versions_without_gaps(busy: Server) -> None:
    before = len(busy.get("/datastore/label/history", image="case_07"))
    with ThreadPoolExecutor(AT_ONCE) as people:
        jobs = [people.submit(submitted, busy.address, "case_07", f"second {n}") for n in range(AT_ONCE)]
        versions = {f"second {n}": job.result() for n, job in enumerate(jobs)}

    history = busy.get("/datastore/label/history", image="case_07")
    assert [entry["version"] for entry in history] == list(range(1, before + AT_ONCE + 1))
    assert {entry["author"]: entry["version"] for entry in history[before:]} == versions


def test_new_files_are_still_noticed_after_many_uploads(busy: Server) -> None:
    total = busy.get("/datastore/")["total"]
    for number in range(60):
        files = {"file": ("image.nii.gz", image_bytes(number))}
        busy.client.put("/datastore/image", params={"image": f"upload_{number:02d}"}, files=files).raise_for_status()
    assert busy.get("/datastore/")["total"] == total + 60

    late = Path(busy.studies) / "late.nii.gz"
    late.write_bytes(image_bytes(99))
    until(lambda: busy.get("/datastore/")["total"] == total + 61, what="the notice of a new file")
    late.unlink()
    until(lambda: busy.get("/datastore/")["total"] == total + 60, what="the notice that it is gone")
