"""How the server keeps in step with the studies while it runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator

import pytest

from lib.serving.watch import FolderWatch
from lib.store.images import ImageState
from tests.serving.conftest import Here
from tests.serving.places import image_bytes, until


@pytest.fixture
def looking(open_app: Callable[..., Here]) -> Iterator[Here]:
    """An app with three images that walks through the studies every ten minutes only, and is told in between."""
    here = open_app(images=3, rescan="600")
    here.app.watch = FolderWatch(here.studies, quiet_seconds=0.1)
    yield from kept_looking(here)


def kept_looking(here: Here) -> Iterator[Here]:
    looks = threading.Thread(target=here.app._keep_looking, args=[here.app.watch])
    looks.start()
    until(lambda: here.app.watch.is_watching, what="the watch")
    yield here
    here.app._stopping.set()
    here.app.watch.stop()
    looks.join(30)
    assert not looks.is_alive()


def sources(here: Here) -> dict[str, str]:
    """File of each readable image."""
    return {image.id: image.source for image in here.app.record.images.every(ImageState.OK)}


def is_told(here: Here, wanted: dict[str, str]) -> None:
    until(lambda: sources(here) == wanted, what=f"{wanted}; there is {sources(here)}")


def test_files_added_renamed_and_deleted_while_it_runs_are_noticed(looking: Here) -> None:
    first = {f"case_0{n}": f"case_0{n}.nii.gz" for n in range(3)}
    (looking.studies / "late.nii.gz").write_bytes(image_bytes(7))
    is_told(looking, {**first, "late": "late.nii.gz"})

    (looking.studies / "p1").mkdir()
    (looking.studies / "late.nii.gz").rename(looking.studies / "p1" / "renamed.nii.gz")
    is_told(looking, {**first, "late": "p1/renamed.nii.gz"})

    (looking.studies / "p1").rename(looking.studies / "p2")
    is_told(looking, {**first, "late": "p2/renamed.nii.gz"})

    shutil.rmtree(looking.studies / "p2")
    is_told(looking, first)


def test_a_folder_of_many_files_that_is_copied_in_is_noticed(looking: Here) -> None:
    content = image_bytes(0)
    for number in range(300):
        place = looking.studies / f"p{number % 10}" / f"{number}.nii.gz"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)

    until(lambda: len(sources(looking)) == 303, what="300 new images")
    for number in range(10):
        (looking.studies / f"p{number}").rename(looking.studies / f"q{number}")
    until(lambda: sum(source.startswith("q") for source in sources(looking).values()) == 300, what="300 new names")

    assert len(sources(looking)) == 303
    assert looking.app.record.images.counts() == looking.app.record.images.recounted()


def test_a_look_that_fails_is_logged_and_a_walk_makes_up_for_it(
    looking: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(paths: object) -> None:
        raise OSError("the network folder is away")

    monkeypatch.setattr(looking.app.intake, "look_at", away)

    (looking.studies / "late.nii.gz").write_bytes(image_bytes(7))

    until(lambda: "late" in sources(looking), what="the walk")
    assert "Looking at the studies failed; trying again later." in caplog.messages


def test_without_events_the_walks_find_what_is_new(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_app(images=1, rescan="0.1")
    monkeypatch.setattr(FolderWatch, "on_any_event", lambda self, event: None)
    for _ in kept_looking(here):
        (here.studies / "late.nii.gz").write_bytes(image_bytes(7))
        until(lambda: "late" in sources(here), what="the next walk")


def test_what_the_server_does_by_itself_keeps_the_id_of_a_copy(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_app(images=1, rescan="0.05")
    digests = threading.Thread(target=here.app._keep_digesting)
    digests.start()
    until(lambda: not here.app.intake.studies.contents.unknown(), what="the digest")
    here.app._stopping.set()
    digests.join(30)

    content = (here.studies / "case_00.nii.gz").read_bytes()
    (here.studies / "case_00.nii.gz").unlink()
    here.look()
    here.app.intake.studies._lately_gone.clear()
    (here.studies / "restored.nii.gz").write_bytes(content)
    here.look()

    assert sources(here) == {"case_00": "restored.nii.gz"}
