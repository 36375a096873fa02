"""The indexer: the record follows the folder, and what cannot be read never stops the rest."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from sqlalchemy import update

from lib.errors import NoImage, UnreadableImage
from lib.patients import PatientRule
from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import oriented_grid
from lib.serving.folder import FolderReader
from lib.stages import Role, Standing
from lib.store import schema
from lib.store.folder import Skipped
from lib.store.images import ImageKind, ImageState, NewImage
from lib.store.indexer import Described, Indexer, Look, Part
from lib.store.record import open_record
from lib.task import Task
from lib.volume import Volume, write_volume
from tests.store.records import GRID, TASK, Outside, add

OK, QUARANTINED, HIDDEN = ImageState.OK, ImageState.QUARANTINED, ImageState.HIDDEN
NO_IMAGE = ImageState.NO_IMAGE


class TinyReader:
    """Reads files of our own: ``image``, ``slice of UID``, ``notes``, or anything else, which is damaged."""

    def __init__(self):
        self.read = []

    def id_of(self, relative):
        return unicodedata.normalize("NFC", os.path.splitext(relative)[0])

    def patient_of(self, image_id):
        return image_id.split("/")[0]

    def describe_file(self, path, image_id):
        self.read.append(path.name)
        content = path.read_text()
        if content.startswith("slice of "):
            return Part(content.removeprefix("slice of ").split()[0])
        if content.startswith("notes"):
            raise NoImage(f"{path.name} holds notes.")
        if not content.startswith("image"):
            raise UnreadableImage(f"{path.name} is no image.")
        return Described(GRID, "MR", self.patient_of(image_id))

    def describe_series(self, paths):
        numbers = sorted(int(path.read_text().split()[-1]) for path in paths)
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise UnreadableImage(f"Series of {numbers}: a slice is missing.")
        return Described(GRID, "CT", "patient of a series")


class Folder:
    """A folder of studies, its indexer, and short ways to change and to see both."""

    def __init__(self, path, reader, data):
        path.mkdir()
        self.path = path
        self.reader = reader
        self.record = open_record(TASK, data)
        self.indexer = Indexer(self.record.images, "studies", path, reader, Skipped(frozenset({"patients.csv"})))

    def put(self, name, content="image", **format_values):
        file = self.path / name.format(**format_values)
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content)
        return file

    def look(self):
        return self.indexer.look()

    def images(self):
        """State of each image, as another connection sees it."""
        return {image.id: image.state for image in Outside(self.record).images.every(*ImageState)}

    def reasons(self):
        return {image.id: image.reason for image in Outside(self.record).images.every(QUARANTINED, NO_IMAGE)}

    def unseen(self):
        return {one.path: one.reason for one in self.indexer.unseen}

    def reopened(self):
        """The same after a restart."""
        self.indexer = Indexer(self.record.images, "studies", self.path, self.reader, Skipped())
        return self

    def digest(self):
        """Digests all that is left to digest."""
        while self.indexer.digest_some(60):
            pass

    def copied(self, name, to):
        """Another file with the same bytes takes the place of one, as after a restore from a backup."""
        content = (self.path / name).read_bytes()
        (self.path / name).unlink()
        self.put("anything in between", content)
        copy = self.put(to, content)
        (self.path / "anything in between").unlink()
        os.utime(copy, ns=(1, 1))
        return copy

    def files(self, image_id):
        return [path for _, path in Outside(self.record).images.files(image_id)]


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """The data folder of a closed record without images, to be copied."""
    data = tmp_path_factory.mktemp("blank") / "data"
    open_record(TASK, data).close()
    return data


@pytest.fixture
def data(tmp_path, blank):
    return Path(shutil.copytree(blank, tmp_path / "data"))


@pytest.fixture
def tiny(tmp_path, data):
    """A folder whose files are words."""
    return Folder(tmp_path / "studies", TinyReader(), data)


@pytest.fixture
def real(tmp_path, data):
    """A folder of NIfTI, NRRD and DICOM files, read as the server reads them."""
    return Folder(tmp_path / "studies", FolderReader(PatientRule(b"secret"), Task("t", "Anything on MR")), data)


# --- one look after the other ----------------------------------------------------------------------------------------


def test_new_files_become_images(tiny):
    tiny.put("a.img")
    tiny.put("p1/b.img")

    assert tiny.look() == Look(added=2, changed=0, gone=0)
    assert tiny.images() == {"a": OK, "p1/b": OK}
    assert tiny.record.images.get("p1/b").patient == "p1"
    assert tiny.files("p1/b") == ["p1/b.img"]


def test_what_is_unchanged_is_not_opened_again(tiny):
    tiny.put("a.img")
    tiny.look()
    tiny.put("b.img")

    assert tiny.look() == Look(added=1, changed=0, gone=0)
    assert tiny.look() == Look(added=0, changed=0, gone=0)
    assert tiny.reader.read == ["a.img", "b.img"]


def test_two_thousand_files_are_opened_once(tiny):
    for number in range(2000):
        tiny.put(f"p{number % 40}/{number:04d}.img")

    reports = []
    tiny.indexer.look(lambda done, total: reports.append((done, total)))
    tiny.look()

    assert len(tiny.reader.read) == 2000
    assert len(tiny.record.images.ids()) == 2000
    assert reports == [(done, 2000) for done in range(200, 2001, 200)]


def test_a_changed_file_is_read_again_and_keeps_its_annotations(tiny):
    file = tiny.put("a.img")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    file.write_text("image, but a longer one")

    assert tiny.look() == Look(added=0, changed=1, gone=0)
    assert tiny.record.images.get("a").standing is Standing.LABELLED
    assert tiny.reader.read == ["a.img", "a.img"]


def test_a_changed_file_that_is_damaged_now_is_quarantined_until_it_is_repaired(tiny):
    file = tiny.put("a.img")
    tiny.look()
    file.write_text("broken")
    tiny.look()
    assert tiny.reasons() == {"a": "a.img is no image."}

    file.write_text("image again")
    tiny.look()

    assert tiny.images() == {"a": OK}


def test_a_renamed_file_keeps_its_id_and_is_not_opened(tiny):
    file = tiny.put("a.img")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    file.rename(tiny.path / "another name.img")

    assert tiny.look() == Look(added=0, changed=0, gone=0)
    assert tiny.images() == {"a": OK}
    assert tiny.record.images.get("a").source == "another name.img"
    assert (tiny.files("a"), tiny.reader.read) == (["another name.img"], ["a.img"])


def test_a_renamed_folder_keeps_all_ids(tiny):
    for name in ("p1/a.img", "p1/b.img"):
        tiny.put(name)
    tiny.look()
    (tiny.path / "p1").rename(tiny.path / "p2")

    tiny.look()

    assert tiny.images() == {"p1/a": OK, "p1/b": OK}
    assert tiny.files("p1/a") == ["p2/a.img"]


def test_a_renamed_file_keeps_its_id_when_it_changes_later(tiny):
    file = tiny.put("a.img")
    tiny.look()
    moved = file.rename(tiny.path / "b.img")
    tiny.look()
    moved.write_text("image, but a longer one")

    tiny.look()

    assert tiny.images() == {"a": OK}


def test_the_former_name_of_a_renamed_file_is_taken_by_another_image(tiny):
    tiny.put("a.img").rename(tiny.path / "b.img")
    tiny.look()
    (tiny.path / "b.img").rename(tiny.path / "c.img")
    tiny.look()
    tiny.put("b.img", "image of somebody else")

    tiny.look()

    assert tiny.images() == {"b": OK, "b.img": QUARANTINED}
    assert tiny.reasons()["b.img"] == "b.img would be image 'b', which c.img is already. Rename one of them."


def test_a_deleted_file_quarantines_its_image_and_keeps_the_annotations(tiny):
    file = tiny.put("a.img")
    tiny.put("b.img")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    file.unlink()

    assert tiny.look() == Look(added=0, changed=0, gone=1)
    assert tiny.images() == {"a": QUARANTINED, "b": OK}
    assert tiny.reasons() == {"a": "a.img is gone. Put it back, or remove the image."}
    assert Outside(tiny.record).versions("a") == [(1, "expert", "expert")]


def test_a_file_that_came_back_is_the_same_image_again(tiny):
    file = tiny.put("a.img")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    file.unlink()
    tiny.look()

    tiny.put("a.img")
    tiny.look()

    assert tiny.images() == {"a": OK}
    assert tiny.record.images.get("a").standing is Standing.LABELLED


def test_an_image_that_comes_back_in_another_format_is_the_same_image(tiny):
    tiny.put("a.img").unlink(tiny.look())
    tiny.put("a.other")

    tiny.look()

    assert tiny.images() == {"a": OK}
    assert tiny.record.images.get("a").source == "a.other"


def test_a_folder_that_is_gone_for_a_while_leaves_all_as_it_is(tiny):
    for name in ("a.img", "b.img"):
        tiny.put(name)
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    tiny.path.rename(tiny.path.with_name("unplugged"))

    assert tiny.look() == Look(added=0, changed=0, gone=0)
    assert tiny.unseen() == {"": "No such file or directory"}
    assert tiny.images() == {"a": OK, "b": OK}

    tiny.path.with_name("unplugged").rename(tiny.path)

    assert tiny.look() == Look(added=0, changed=0, gone=0)
    assert (tiny.images(), tiny.unseen()) == ({"a": OK, "b": OK}, {})
    assert tiny.record.images.get("a").standing is Standing.LABELLED


def test_a_hidden_image_stays_hidden_whatever_its_file_does(tiny):
    file = tiny.put("a.img")
    tiny.look()
    tiny.record.images.set_state("a", HIDDEN, "removed by a client")

    file.write_text("image, but a longer one")
    tiny.look()
    file.rename(tiny.path / "b.img")
    tiny.look()
    (tiny.path / "b.img").unlink()
    tiny.look()
    tiny.put("a.img")
    tiny.look()

    assert tiny.images() == {"a": HIDDEN}


def test_an_erased_image_stays_a_tombstone_when_its_file_is_still_there(tiny):
    tiny.put("a.img")
    tiny.look()
    tiny.record.images.set_state("a", ImageState.ERASED, "erased")
    (tiny.path / "a.img").write_text("image, but a longer one")

    tiny.look()

    assert tiny.images() == {"a": ImageState.ERASED}


# --- copies, and files on their way ----------------------------------------------------------------------------------


def test_a_copy_of_a_file_that_is_gone_keeps_the_id_and_the_annotations(tiny):
    tiny.put("a.img", "image of 17 bytes")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    tiny.digest()

    tiny.copied("a.img", to="restored/b.img")
    tiny.look()

    assert tiny.images() == {"a": OK}
    assert (tiny.files("a"), tiny.record.images.get("a").source) == (["restored/b.img"], "restored/b.img")
    assert tiny.record.images.get("a").standing is Standing.LABELLED


def test_a_copy_that_comes_back_after_a_restart_keeps_the_id(tiny, tmp_path):
    file = tiny.put("a.img", "image of 17 bytes")
    tiny.look()
    tiny.digest()
    file.unlink()
    tiny.look()
    assert tiny.images() == {"a": QUARANTINED}

    tiny.put("b.img", "image of 17 bytes")
    Indexer(tiny.record.images, "studies", tiny.path, tiny.reader).look()

    assert (tiny.images(), tiny.files("a")) == ({"a": OK}, ["b.img"])


def test_without_a_digest_a_copy_is_a_new_image(tiny):
    tiny.put("a.img")
    tiny.look()

    tiny.copied("a.img", to="b.img")
    tiny.look()

    assert tiny.images() == {"a": QUARANTINED, "b": OK}


def test_a_file_of_the_same_size_with_other_bytes_is_a_new_image(tiny):
    file = tiny.put("a.img", "image 1")
    tiny.look()
    tiny.digest()
    file.unlink()
    tiny.put("b.img", "image 2")

    tiny.look()

    assert tiny.images() == {"a": QUARANTINED, "b": OK}


def test_a_copy_beside_the_file_is_another_image(tiny):
    tiny.put("a.img")
    tiny.look()
    tiny.digest()

    tiny.put("b.img")
    tiny.look()

    assert tiny.images() == {"a": OK, "b": OK}


def test_two_equal_files_that_are_gone_come_back_as_themselves(tiny):
    for name in ("a.img", "b.img"):
        tiny.put(name)
    tiny.look()
    tiny.digest()
    tiny.copied("b.img", to="elsewhere")
    tiny.copied("a.img", to="b.img")

    tiny.look()

    assert tiny.images() == {"a": OK, "b": OK}
    assert (tiny.files("a"), tiny.files("b")) == (["elsewhere"], ["b.img"])


def test_of_two_equal_files_the_annotated_one_comes_back_first(tiny):
    for name in ("a.img", "b.img"):
        tiny.put(name)
    tiny.look()
    add(tiny.record, "b", Role.EXPERT)
    tiny.digest()
    for name in ("a.img", "b.img"):
        (tiny.path / name).unlink()
    tiny.look()

    tiny.put("c.img")
    tiny.look()

    assert tiny.images() == {"a": QUARANTINED, "b": OK}


@pytest.mark.parametrize("state", [HIDDEN, ImageState.ERASED])
def test_a_copy_of_what_was_taken_out_does_not_come_back(tiny, state):
    tiny.put("a.img")
    tiny.look()
    tiny.digest()
    tiny.record.images.set_state("a", state, "taken out")

    tiny.copied("a.img", to="b.img")
    tiny.look()

    assert tiny.images() == {"a": state}


def test_only_files_of_the_size_of_a_lost_one_are_digested(tiny, monkeypatch):
    file = tiny.put("a.img", "image 1")
    tiny.look()
    tiny.digest()
    file.unlink()
    tiny.look()
    digested = []
    monkeypatch.setattr("lib.store.indexer.digest_of", lambda path: digested.append(path.name))

    tiny.put("longer.img", "image of another size")
    tiny.put("alike.img", "image 2")
    tiny.look()

    assert digested == ["alike.img"]


def test_a_changed_file_is_digested_anew(tiny):
    file = tiny.put("a.img", "image 1")
    tiny.look()
    tiny.digest()
    file.write_text("image, but another")
    tiny.look()
    tiny.digest()

    tiny.copied("a.img", to="b.img")
    tiny.look()

    assert tiny.images() == {"a": OK}


def test_what_changes_while_it_is_digested_is_not_noted(tiny, monkeypatch):
    file = tiny.put("a.img")
    tiny.look()

    def slow_digest(path):
        file.write_text("image, but a longer one")
        return "ab" * 32

    monkeypatch.setattr("lib.store.indexer.digest_of", slow_digest)

    assert tiny.indexer.digest_some(60) == 0


def test_annotated_images_are_digested_first(tiny, monkeypatch):
    for name in ("a", "b", "c"):
        tiny.put(f"{name}.img")
    tiny.look()
    add(tiny.record, "c", Role.EXPERT)
    digested = []
    monkeypatch.setattr("lib.store.indexer.digest_of", lambda path: digested.append(path.name))

    tiny.indexer.digest_some(60)

    assert digested == ["c.img", "a.img", "b.img"]


def test_a_file_that_leaves_the_folder_and_returns_under_another_name_keeps_its_id(tiny, tmp_path):
    file = tiny.put("a.img")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    outside = file.rename(tmp_path / "outside.img")
    tiny.look()
    assert tiny.images() == {"a": QUARANTINED}

    outside.rename(tiny.path / "b.img")
    tiny.look()

    assert (tiny.images(), tiny.files("a")) == ({"a": OK}, ["b.img"])


# --- only some paths -------------------------------------------------------------------------------------------------


def test_a_look_at_some_paths_sees_nothing_else(tiny):
    for name in ("a.img", "p1/b.img", "p1/q/c.img", "p2/d.img"):
        tiny.put(name)

    assert tiny.indexer.look(paths=["p1", "a.img"]) == Look(added=3, changed=0, gone=0)
    assert tiny.images() == {"a": OK, "p1/b": OK, "p1/q/c": OK}
    (tiny.path / "a.img").write_text("image, but a longer one")
    (tiny.path / "p1/b.img").unlink()
    assert tiny.indexer.look(paths=["p2"]) == Look(added=1, changed=0, gone=0)
    assert tiny.indexer.look(paths=["a.img", "p1"]) == Look(added=0, changed=1, gone=1)
    assert tiny.images() == {"a": OK, "p1/b": QUARANTINED, "p1/q/c": OK, "p2/d": OK}


def test_neighbours_of_a_folder_are_not_taken_for_gone(tiny):
    for name in ("p/a.img", "p0/a.img", "p-1/a.img", "p.img", "pp/a.img", "P/a.img", "p_/a.img", "p%/a.img"):
        tiny.put(name)
    tiny.look()

    assert tiny.indexer.look(paths=["p"]) == Look(0, 0, 0)
    shutil.rmtree(tiny.path / "p")
    assert tiny.indexer.look(paths=["p"]) == Look(added=0, changed=0, gone=1)


def test_a_rename_seen_by_its_two_paths_keeps_the_id(tiny):
    for name in ("p1/a.img", "p1/b.img"):
        tiny.put(name)
    tiny.look()
    (tiny.path / "p1").rename(tiny.path / "p2")

    assert tiny.indexer.look(paths=["p1", "p2"]) == Look(0, 0, 0)
    assert tiny.files("p1/a") == ["p2/a.img"]


@pytest.mark.parametrize("order", [("p1", "p2"), ("p2", "p1")])
def test_a_rename_seen_in_two_looks_keeps_the_id(tiny, order):
    tiny.put("p1/a.img")
    tiny.look()
    (tiny.path / "p1").rename(tiny.path / "p2")

    for path in order:
        tiny.indexer.look(paths=[path])

    assert (tiny.images(), tiny.files("p1/a")) == ({"p1/a": OK}, ["p2/a.img"])


def test_deleting_the_first_of_two_files_makes_the_second_the_image_also_if_only_one_path_is_told(tiny):
    first = tiny.put("a.img")
    tiny.put("a.other")
    tiny.look()

    first.unlink()
    tiny.indexer.look(paths=["a.img"])

    assert (tiny.images(), tiny.files("a")) == ({"a": OK}, ["a.other"])


def test_paths_that_are_skipped_or_behind_a_link_are_not_looked_at(tiny, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.img").write_text("image")
    (tiny.path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("labels/final/a.img", ".git/a.img", "patients.csv"):
        tiny.put(name)

    tiny.indexer.look(paths=["link", "link/b.img", "labels/final", ".git/a.img", "patients.csv", "nowhere", "../x"])

    assert tiny.images() == {}


# --- what is left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "left"),
    [("*_mask.img", {"a", "p1/b", "derivatives2/c"}), ("derivatives2/*", {"a", "a_mask", "p1/b", "p1/b_mask"}),
     ("p1", {"a", "a_mask", "derivatives2/c"}), ("b.img", {"a", "a_mask", "p1/b_mask", "derivatives2/c"})],
)  # fmt: skip
def test_patterns_leave_out_paths_and_names(tiny, pattern, left):
    for name in ("a.img", "a_mask.img", "p1/b.img", "p1/b_mask.img", "derivatives2/c.img"):
        tiny.put(name)

    Indexer(tiny.record.images, "studies", tiny.path, tiny.reader, Skipped(patterns=(pattern,))).look()

    assert set(tiny.images()) == left


def test_images_that_are_left_out_later_are_gone(tiny):
    for name in ("a.img", "a_mask.img"):
        tiny.put(name)
    tiny.look()

    Indexer(tiny.record.images, "studies", tiny.path, tiny.reader, Skipped(patterns=("*_mask*",))).look()

    assert tiny.images() == {"a": OK, "a_mask": QUARANTINED}
    assert tiny.reasons() == {"a_mask": "a_mask.img is gone. Put it back, or remove the image."}


# --- what cannot be seen ---------------------------------------------------------------------------------------------


class Broken:
    """A disk that refuses what lies at some places, by the number of the system's error."""

    def __init__(self, monkeypatch):
        self.listing, self.half_listing, self.looking, self.opening = {}, {}, {}, {}
        scandir, stat, opened = os.scandir, os.stat, os.open

        def refuse(places, path):
            for place, number in places.items():
                if os.fspath(path) == os.fspath(place):
                    raise OSError(number, os.strerror(number))

        @contextlib.contextmanager
        def half(path):
            with scandir(path) as found:
                yield itertools.chain(found, self._breaking(self.half_listing[Path(path)]))

        def list_folder(path="."):
            refuse(self.listing, path)
            return half(path) if Path(path) in self.half_listing else scandir(path)

        def look_at(path, **options):
            refuse(self.looking, path)
            return stat(path, **options)

        def open_file(path, *arguments, **options):
            refuse(self.opening, path)
            return opened(path, *arguments, **options)

        for name, patched in (("scandir", list_folder), ("stat", look_at), ("open", open_file)):
            monkeypatch.setattr(os, name, patched)

    @staticmethod
    def _breaking(number):
        raise OSError(number, os.strerror(number))
        yield

    def mend(self):
        for places in (self.listing, self.half_listing, self.looking, self.opening):
            places.clear()


@pytest.fixture
def broken(monkeypatch):
    return Broken(monkeypatch)


TROUBLES = [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN]


@pytest.mark.parametrize("number", TROUBLES, ids=errno.errorcode.get)
@pytest.mark.parametrize("when", ["listing", "half_listing"])
@pytest.mark.parametrize("place", ["", "p1"])
def test_a_folder_that_cannot_be_listed_is_not_empty(tiny, broken, number, when, place):
    for name in ("p1/a.img", "p1/q/b.img", "p2/c.img"):
        tiny.put(name)
    tiny.look()
    add(tiny.record, "p1/a", Role.EXPERT)
    tiny.put("p2/d.img")
    getattr(broken, when)[tiny.path / place] = number

    assert tiny.look() == Look(added=1 if place else 0, changed=0, gone=0)
    assert set(tiny.images().values()) == {OK}
    assert tiny.unseen() == {place: os.strerror(number)}

    broken.mend()
    assert tiny.look() == Look(added=0 if place else 1, changed=0, gone=0)
    assert (set(tiny.images()), tiny.unseen()) == ({"p1/a", "p1/q/b", "p2/c", "p2/d"}, {})


def test_of_a_folder_that_cannot_be_listed_only_its_own_images_wait(tiny, broken):
    for name in ("p1/a.img", "p1/b.img", "p10/c.img", "p2/d.img"):
        tiny.put(name)
    tiny.look()
    for name in ("p1/a.img", "p10/c.img", "p2/d.img"):
        (tiny.path / name).unlink()
    broken.listing[tiny.path / "p1"] = errno.EACCES

    assert tiny.look() == Look(added=0, changed=0, gone=2)
    assert tiny.images() == {"p1/a": OK, "p1/b": OK, "p10/c": QUARANTINED, "p2/d": QUARANTINED}

    broken.mend()
    tiny.look()
    assert tiny.images()["p1/a"] is QUARANTINED


def test_a_file_that_cannot_be_asked_for_is_not_gone(tiny, broken):
    for name in ("a.img", "b.img"):
        tiny.put(name)
    tiny.look()
    broken.looking[tiny.path / "a.img"] = errno.EACCES

    assert tiny.look() == Look(0, 0, 0)
    assert tiny.unseen() == {"a.img": "Permission denied"}


def test_what_cannot_be_seen_is_not_gone_where_only_some_paths_are_looked_at(tiny, broken):
    for name in ("p1/a.img", "p2/b.img"):
        tiny.put(name)
    tiny.look()
    broken.listing[tiny.path / "p1"] = errno.EMFILE
    broken.looking[tiny.path / "p2/b.img"] = errno.EIO

    assert tiny.indexer.look(paths=["p1", "p2/b.img"]) == Look(0, 0, 0)
    assert tiny.unseen() == {"p1": "Too many open files", "p2/b.img": "Input/output error"}
    broken.mend()
    tiny.indexer.look(paths=["p1"])
    assert tiny.unseen() == {"p2/b.img": "Input/output error"}


@pytest.mark.parametrize("paths", [None, ["a.img"]], ids=["walk", "some paths"])
def test_an_empty_folder_in_the_place_of_a_full_one_is_a_disk_that_is_not_mounted(tiny, paths):
    tiny.put("a.img")
    tiny.look()
    full = tiny.path.rename(tiny.path.with_name("unmounted"))
    tiny.path.mkdir()

    assert tiny.indexer.look(paths=paths) == Look(0, 0, 0)
    assert tiny.images() == {"a": OK}
    assert "another" in tiny.unseen()[""]

    tiny.path.rmdir()
    full.rename(tiny.path)
    tiny.look()
    assert (tiny.images(), tiny.unseen()) == ({"a": OK}, {})


def test_a_folder_that_is_empty_at_the_start_of_a_server_and_was_not_is_told(tiny):
    file = tiny.put("a.img")
    tiny.look()
    file.unlink()

    assert tiny.reopened().look() == Look(0, 0, 0)
    assert tiny.images() == {"a": OK}
    assert "is its disk mounted?" in tiny.unseen()[""]


def test_a_folder_that_was_emptied_before_our_eyes_is_empty(tiny):
    file = tiny.put("a.img")
    tiny.look()
    file.unlink()

    assert tiny.look() == Look(added=0, changed=0, gone=1)
    assert (tiny.images(), tiny.unseen()) == ({"a": QUARANTINED}, {})


def test_a_series_of_which_a_part_cannot_be_seen_waits_with_all_its_changes(tiny, broken):
    for number in range(3):
        tiny.put(f"p{number}/s.dcm", f"slice of 1.2.3 {number}")
    tiny.look()
    broken.listing[tiny.path / "p1"] = errno.EIO
    tiny.put("p3/s.dcm", "slice of 1.2.3 3")
    (tiny.path / "p0/s.dcm").unlink()

    tiny.look()
    assert tiny.images() == {"1.2.3": OK}

    broken.mend()
    tiny.look()
    assert tiny.images() == {"1.2.3": OK}
    assert tiny.files("1.2.3") == ["p1/s.dcm", "p2/s.dcm", "p3/s.dcm"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_what_this_machine_cannot_open_just_now_says_nothing_of_the_image(tiny, broken, number):
    known = tiny.put("a.img")
    tiny.put("1.dcm", "slice of 1.2.3 1")
    tiny.look()
    known.write_text("image, but a longer one")
    tiny.put("b.img")
    tiny.put("2.dcm", "slice of 1.2.3 2")
    for name in ("a.img", "b.img", "1.dcm", "2.dcm"):
        broken.opening[tiny.path / name] = number

    tiny.look()
    assert tiny.images() == {"a": OK, "1.2.3": OK}
    assert set(tiny.unseen()) == {"a.img", "b.img", "2.dcm"}

    broken.mend()
    tiny.look()
    assert (tiny.images(), tiny.unseen()) == ({"a": OK, "b": OK, "1.2.3": OK}, {})
    assert tiny.files("1.2.3") == ["1.dcm", "2.dcm"]


def test_an_image_whose_files_may_be_read_again_takes_part_again(tiny, broken):
    tiny.put("a.img")
    for number in range(2):
        tiny.put(f"{number}.dcm", f"slice of 1.2.3 {number}")
    broken.opening[tiny.path / "a.img"] = broken.opening[tiny.path / "1.dcm"] = errno.EACCES

    for _ in range(2):
        tiny.look()
        assert tiny.reasons()["a"] == "a.img cannot be read: Permission denied. It is tried again at each look."

    broken.mend()
    tiny.reopened().look()
    assert tiny.images() == {"a": OK, "1.2.3": OK}
    assert tiny.files("1.2.3") == ["0.dcm", "1.dcm"]


def test_what_cannot_be_seen_is_said_once_in_the_log_and_once_that_it_can(tiny, broken, caplog):
    tiny.put("p1/a.img")
    tiny.look()
    broken.listing[tiny.path / "p1"] = errno.EACCES
    for _ in range(3):
        tiny.look()
    broken.mend()
    for _ in range(3):
        tiny.look()

    assert [record.getMessage() for record in caplog.records] == [
        f"{tiny.path}/p1 cannot be seen: Permission denied. What is known of it stays as it is until the next look.",
        f"Everything in {tiny.path} can be seen again.",
    ]


# --- two names of one file -------------------------------------------------------------------------------------------


HARD, SOFT = "hard links", "links"


def second_name(tiny, file, name, kind):
    other = tiny.path / name
    if kind == HARD:
        other.hardlink_to(file)
    else:
        other.symlink_to(file.name)


def away(tiny, *names):
    """Takes files out of the folder, together, and looks."""
    place = tiny.path.with_name("away")
    place.mkdir(exist_ok=True)
    for name in names:
        (tiny.path / name).rename(place / name)
    tiny.look()


def back(tiny, *names):
    for name in names:
        (tiny.path.with_name("away") / name).rename(tiny.path / name)
    tiny.look()


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("labelled", ["a", "b", "c"])
@pytest.mark.parametrize("kind", [HARD, SOFT])
def test_names_of_one_file_that_were_away_come_back_as_themselves(tiny, kind, labelled, restarted):
    file = tiny.put("a.img")
    for name in ("b.img", "c.img"):
        second_name(tiny, file, name, kind)
    tiny.put("other.img", "image of somebody else")
    tiny.look()
    add(tiny.record, labelled, Role.EXPERT)
    names = ("a.img", "b.img", "c.img")

    away(tiny, *names)
    assert [tiny.images()[name] for name in "abc"] == [QUARANTINED] * 3
    back(tiny.reopened() if restarted else tiny, *names)

    assert tiny.images() == {"a": OK, "b": OK, "c": OK, "other": OK}
    assert [tiny.files(name) for name in "abc"] == [["a.img"], ["b.img"], ["c.img"]]
    assert tiny.record.images.get(labelled).standing is Standing.LABELLED


@pytest.mark.parametrize("name", ["a", "b"])
def test_of_two_names_that_were_away_the_one_that_comes_back_alone_is_itself(tiny, name):
    second_name(tiny, tiny.put("a.img"), "b.img", HARD)
    tiny.put("other.img", "image of somebody else")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)

    away(tiny, "a.img", "b.img")
    back(tiny, f"{name}.img")

    assert tiny.images() == {"a": QUARANTINED, "b": QUARANTINED, "other": OK} | {name: OK}
    assert tiny.files(name) == [f"{name}.img"]


@pytest.mark.parametrize("labelled", ["a", "b"])
def test_a_file_of_two_names_that_comes_back_under_a_third_is_the_labelled_image(tiny, labelled):
    second_name(tiny, tiny.put("a.img"), "b.img", HARD)
    tiny.put("other.img", "image of somebody else")
    tiny.look()
    add(tiny.record, labelled, Role.EXPERT)

    away(tiny, "a.img", "b.img")
    (tiny.path.with_name("away") / "a.img").rename(tiny.path / "third.img")
    tiny.look()

    assert tiny.files(labelled) == ["third.img"]


@pytest.mark.parametrize("renamed", ["a", "b"])
def test_of_two_names_the_one_that_is_renamed_is_followed(tiny, renamed):
    second_name(tiny, tiny.put("a.img"), "b.img", HARD)
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)

    (tiny.path / f"{renamed}.img").rename(tiny.path / "c.img")
    tiny.look()

    assert tiny.images() == {"a": OK, "b": OK}
    assert tiny.files(renamed) == ["c.img"]


@pytest.mark.parametrize("labelled", ["a", "b"])
def test_of_two_names_that_become_one_other_the_labelled_one_is_followed(tiny, labelled):
    second_name(tiny, tiny.put("a.img"), "b.img", HARD)
    tiny.put("other.img", "image of somebody else")
    tiny.look()
    add(tiny.record, labelled, Role.EXPERT)

    (tiny.path / "a.img").rename(tiny.path / "c.img")
    (tiny.path / "b.img").unlink()
    tiny.look()

    assert tiny.files(labelled) == ["c.img"]
    assert sorted(tiny.images().values()) == [OK, OK, QUARANTINED]


def test_two_names_that_are_swapped_stay_what_they_are(tiny):
    second_name(tiny, tiny.put("a.img"), "b.img", HARD)
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)

    (tiny.path / "a.img").rename(tiny.path / "between")
    (tiny.path / "b.img").rename(tiny.path / "a.img")
    (tiny.path / "between").rename(tiny.path / "b.img")

    assert tiny.look() == Look(0, 0, 0)
    assert (tiny.files("a"), tiny.files("b")) == (["a.img"], ["b.img"])


def test_a_record_that_took_a_name_for_another_is_mended(tiny):
    """Records of before may say so: an image without files whose file is kept under its own path."""
    tiny.put("a.img")
    tiny.put("other.img", "image of somebody else")
    tiny.look()
    add(tiny.record, "a", Role.EXPERT)
    tiny.record.images.put(NewImage("a.img", ImageKind.FILE, "a.img", None, "", "a", "a.img would be image 'b'."))
    file = schema.file.c
    with tiny.record.database.transaction() as connection:
        connection.execute(update(schema.file).where(file.path == "a.img").values(image="a.img"))
    tiny.record.images.set_state("a", QUARANTINED, "a.img is gone. Put it back, or remove the image.")

    tiny.look()

    assert tiny.images() == {"a": OK, "other": OK}
    assert tiny.files("a") == ["a.img"]


# --- two files, one id -----------------------------------------------------------------------------------------------


def test_the_second_of_two_files_with_one_id_is_quarantined_with_a_sentence(tiny):
    tiny.put("a.img")
    tiny.put("a.other")

    tiny.look()

    assert tiny.images() == {"a": OK, "a.other": QUARANTINED}
    assert tiny.reasons() == {"a.other": "a.other would be image 'a', which a.img is already. Rename one of them."}


def test_renaming_the_second_file_makes_it_an_image(tiny):
    tiny.put("a.img")
    second = tiny.put("a.other")
    tiny.look()

    second.rename(tiny.path / "b.other")
    tiny.look()

    assert tiny.images() == {"a": OK, "b": OK}


def test_a_change_does_not_make_the_second_file_an_image(tiny):
    tiny.put("a.img")
    second = tiny.put("a.other")
    tiny.look()

    second.write_text("image, but a longer one")
    tiny.look()

    assert tiny.images() == {"a": OK, "a.other": QUARANTINED}


def test_deleting_the_first_file_makes_the_second_the_image(tiny):
    first = tiny.put("a.img")
    tiny.put("a.other")
    tiny.look()

    first.unlink()
    tiny.look()

    assert tiny.images() == {"a": OK}
    assert tiny.files("a") == ["a.other"]


@pytest.mark.parametrize("order", ["notes first", "image first", "together"])
@pytest.mark.parametrize("notes", ["a.aaa", "a.zzz", "a"])
@pytest.mark.parametrize(("words", "state"), [("only words", QUARANTINED), ("notes", NO_IMAGE)])
def test_notes_beside_an_image_never_take_its_id(tiny, order, notes, words, state):
    """Data sets often keep ``scan.json`` beside ``scan.nii.gz``."""
    for name, content in [(notes, words), ("a.img", "image")][:: -1 if order == "image first" else 1]:
        tiny.put(name, content)
        if order != "together":
            tiny.look()
    tiny.look()

    other = f"{notes} (2)" if notes == "a" else notes
    assert tiny.images() == {"a": OK, other: state}
    assert tiny.reasons()[other] in (f"{notes} is no image.", f"{notes} holds notes.")
    assert tiny.files("a") == ["a.img"]
    assert tiny.look() == Look(0, 0, 0)


def test_an_upload_and_a_study_with_one_name_are_not_mixed(tiny, tmp_path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.img").write_text("image")
    uploads = Indexer(tiny.record.images, "uploads", tmp_path / "uploads", tiny.reader)
    assert uploads.add("a.img") == "a"
    tiny.put("a.img")

    tiny.look()
    uploads.look()

    assert tiny.record.images.files("a") == [("uploads", "a.img")]
    assert tiny.images() == {"a": OK, "a.img": QUARANTINED}


# --- what is no image ------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_quarantined_with_its_reason_and_the_rest_is_indexed(tiny):
    tiny.put("a.img")
    tiny.put("b.img", "letters")
    tiny.put("c.img", "")
    tiny.put("d.img", b"\xc3\xa9".decode("latin-1"))

    tiny.look()

    assert tiny.images() == {"a": OK, "b": QUARANTINED, "c": QUARANTINED, "d": QUARANTINED}
    assert tiny.reasons()["b"] == "b.img is no image."


def test_what_never_was_meant_to_be_an_image_is_not_in_quarantine(tiny):
    tiny.put("a.img")
    tiny.put("notes.txt", "notes")
    tiny.put("damaged.img", "letters")

    tiny.look()

    assert tiny.images() == {"a": OK, "notes": NO_IMAGE, "damaged": QUARANTINED}
    assert tiny.reasons()["notes"] == "notes.txt holds notes."
    assert Outside(tiny.record).images.counts() == Outside(tiny.record).images.recounted()


@pytest.mark.parametrize("content", ["letters", "notes"])
def test_a_file_that_was_never_an_image_is_forgotten_when_it_is_gone(tiny, content):
    tiny.put("a.img")
    notes = tiny.put("notes.txt", content)
    tiny.look()

    notes.unlink()
    tiny.look()

    assert tiny.images() == {"a": OK}


def test_a_new_name_may_cure_an_unreadable_file(real):
    write_volume(real.path / "a.nii", Volume(np.zeros((4, 3, 2), np.uint8), np.eye(4)))
    (real.path / "a.nii").rename(real.path / "scan.dat")
    real.look()
    assert real.images() == {"scan": NO_IMAGE}

    (real.path / "scan.dat").rename(real.path / "scan.nii")
    real.look()

    assert real.images() == {"scan": OK}


def test_a_file_without_permission_is_quarantined_with_the_systems_words(tiny, monkeypatch):
    tiny.put("a.img")
    tiny.put("b.img")

    def denied(path, image_id):
        raise PermissionError(13, "Permission denied", str(path))

    describe = tiny.reader.describe_file
    monkeypatch.setattr(tiny.reader, "describe_file", lambda p, i: (denied if p.name == "a.img" else describe)(p, i))

    tiny.look()

    assert tiny.images() == {"a": QUARANTINED, "b": OK}
    assert tiny.reasons() == {"a": "a.img cannot be read: Permission denied. It is tried again at each look."}


def test_a_link_out_of_the_folder_is_ignored_and_one_inside_is_an_image(tiny, tmp_path):
    (tmp_path / "secret.img").write_text("image of somebody else")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.img").write_text("image")
    tiny.put("a.img")
    (tiny.path / "out.img").symlink_to(tmp_path / "secret.img")
    (tiny.path / "folder").symlink_to(tmp_path / "elsewhere")
    (tiny.path / "nowhere.img").symlink_to(tmp_path / "missing.img")
    (tiny.path / "inside.img").symlink_to(tiny.path / "a.img")
    (tiny.path / "circle.img").symlink_to("circle.img")

    tiny.look()

    assert tiny.images() == {"a": OK, "inside": OK}


def test_label_folders_dot_files_and_ignored_names_are_skipped(tiny):
    for name in ("labels/a.img", "derivatives/a.img", ".hidden.img", ".git/a.img", "p1/.DS_Store", "patients.csv",
                 "a.img", "p1/labels/b.img", "p1/patients.csv"):  # fmt: skip
        tiny.put(name)

    tiny.look()

    assert tiny.images() == {"a": OK, "p1/labels/b": OK, "p1/patients": OK}


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["with spaces", "Köln/Höhle", "北京/腦", "a'b\"c", "100%", "a;b&c=d", "p.1/v1.2", "back\\slash", "Ωμέγα"]
)
def test_names_of_any_letters_are_kept_as_ids(tiny, name):
    tiny.put(f"{name}.img")

    tiny.look()
    tiny.look()

    assert tiny.images() == {name: OK}
    assert tiny.files(name) == [f"{name}.img"]


def test_two_ways_to_write_a_letter_are_one_id(tiny):
    composed, apart = "Hüfte", "Hu\u0308fte"
    tiny.put(f"{apart}.img")
    tiny.look()
    assert tiny.images() == {composed: OK}

    tiny.put(f"{composed}.img")
    tiny.look()

    assert tiny.images() == {composed: OK, f"{composed}.img": QUARANTINED}
    assert tiny.files(composed) == [f"{apart}.img"]


def test_a_name_that_is_no_utf_8_is_quarantined_and_the_rest_is_indexed(tiny):
    tiny.put("a.img")
    with open(os.fsencode(tiny.path) + b"/caf\xe9.img", "w") as file:
        file.write("image")

    tiny.look()
    tiny.look()

    assert tiny.images() == {"a": OK, "caf\\xe9": QUARANTINED}
    assert "name is not UTF-8. Rename it." in tiny.reasons()["caf\\xe9"]


# --- while the folder changes ----------------------------------------------------------------------------------------


def test_a_file_that_appears_while_the_walk_goes_on_is_found_by_the_next_look_at_the_latest(tiny, monkeypatch):
    tiny.put("a.img")
    walk = tiny.indexer._walk

    def slow_walk():
        yield from walk()
        tiny.put("late.img")

    monkeypatch.setattr(tiny.indexer, "_walk", slow_walk)
    tiny.look()
    tiny.look()

    assert tiny.images() == {"a": OK, "late": OK}


def test_a_file_that_is_renamed_while_the_walk_goes_on_and_seen_twice_keeps_its_id(tiny, monkeypatch):
    tiny.put("a.img")
    tiny.look()
    walk = tiny.indexer._walk

    def slow_walk():
        yield from list(walk())
        (tiny.path / "a.img").rename(tiny.path / "b.img")
        yield from (seen for seen in walk() if seen.path == "b.img")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.indexer, "_walk", slow_walk)
        tiny.look()
    tiny.look()

    assert (tiny.images(), tiny.files("a")) == ({"a": OK}, ["b.img"])


def test_a_file_that_is_renamed_while_the_walk_goes_on_and_not_seen_keeps_its_id(tiny, monkeypatch):
    file = tiny.put("a.img")
    tiny.look()
    walk = tiny.indexer._walk

    def slow_walk():
        file.rename(tiny.path / "b.img")
        return (seen for seen in walk() if seen.path != "b.img")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.indexer, "_walk", slow_walk)
        tiny.look()
    tiny.look()

    assert (tiny.images(), tiny.files("a")) == ({"a": OK}, ["b.img"])


def test_a_second_name_of_a_file_is_another_image(tiny):
    file = tiny.put("a.img")
    tiny.look()
    (tiny.path / "b.img").hardlink_to(file)

    tiny.look()

    assert tiny.images() == {"a": OK, "b": OK}


def test_an_upload_that_arrives_while_the_walk_goes_on_is_not_taken_for_gone(tiny, monkeypatch):
    tiny.put("a.img")
    walk = tiny.indexer._walk

    def slow_walk():
        yield from list(walk())
        tiny.put("upload.img")
        tiny.indexer.add("upload.img")

    monkeypatch.setattr(tiny.indexer, "_walk", slow_walk)
    tiny.look()

    assert tiny.images() == {"a": OK, "upload": OK}


def test_an_upload_that_the_walk_has_seen_already_is_put_once(tiny, monkeypatch):
    tiny.put("upload.img")
    read = tiny.indexer._read

    def late_read(files, series, report):
        monkeypatch.undo()
        tiny.indexer.add("upload.img")
        read(files, series, report)

    monkeypatch.setattr(tiny.indexer, "_read", late_read)
    tiny.look()

    assert (tiny.images(), tiny.files("upload")) == ({"upload": OK}, ["upload.img"])


def test_a_file_that_vanishes_while_the_walk_goes_on_leaves_nothing(tiny, monkeypatch):
    tiny.put("a.img")
    short = tiny.put("short.img")
    walk = tiny.indexer._walk

    def slow_walk():
        yield from list(walk())
        short.unlink(missing_ok=True)

    monkeypatch.setattr(tiny.indexer, "_walk", slow_walk)
    tiny.look()
    tiny.look()

    assert tiny.images() == {"a": OK}


def test_a_file_that_is_copied_in_slowly_is_an_image_once_it_is_whole(real):
    write_volume(real.path / "whole.nii", Volume(np.zeros((40, 30, 20), np.uint8), np.eye(4)))
    content = (real.path / "whole.nii").read_bytes()
    (real.path / "whole.nii").unlink()
    for share in (0.1, 0.5, 0.9):
        real.put("scan.nii", content[: int(len(content) * share)])
        real.look()
        assert real.images() == {"scan": QUARANTINED}

    real.put("scan.nii", content)
    real.look()

    assert real.images() == {"scan": OK}


def test_a_look_that_is_killed_half_way_loses_no_id_and_no_image(tiny, monkeypatch):
    for name in ("a", "b", "c"):
        tiny.put(f"{name}.img")
    tiny.look()
    (tiny.path / "a.img").rename(tiny.path / "renamed.img")
    tiny.look()
    (tiny.path / "renamed.img").write_text("image, but a longer one")
    (tiny.path / "b.img").unlink()

    def killed(files, series, report):
        raise KeyboardInterrupt("killed")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.indexer, "_read", killed)
        with pytest.raises(KeyboardInterrupt, match=r"killed"):
            tiny.look()
    tiny.look()

    assert tiny.images() == {"a": OK, "b": QUARANTINED, "c": OK}


# --- series, as words ------------------------------------------------------------------------------------------------


def test_slices_make_one_image_under_the_uid_of_their_series(tiny):
    for number in (1, 2, 3):
        tiny.put(f"ct/{number}.dcm", f"slice of 1.2.3 {number}")

    assert tiny.look().added == 3
    assert tiny.images() == {"1.2.3": OK}
    image = tiny.record.images.get("1.2.3")
    assert (image.kind, image.source, image.patient, image.modality) == ("series", "ct", "patient of a series", "CT")
    assert tiny.files("1.2.3") == ["ct/1.dcm", "ct/2.dcm", "ct/3.dcm"]


def test_a_slice_that_is_sent_later_mends_its_series(tiny):
    for number in (1, 3):
        tiny.put(f"ct/{number}.dcm", f"slice of 1.2.3 {number}")
    tiny.look()
    assert tiny.reasons() == {"1.2.3": "Series of [1, 3]: a slice is missing."}

    tiny.put("ct/2.dcm", "slice of 1.2.3 2")
    tiny.look()

    assert tiny.images() == {"1.2.3": OK}


def test_a_slice_that_is_deleted_later_quarantines_its_series(tiny):
    for number in (1, 2, 3):
        tiny.put(f"ct/{number}.dcm", f"slice of 1.2.3 {number}")
    tiny.look()

    (tiny.path / "ct/2.dcm").unlink()
    tiny.look()

    assert tiny.reasons() == {"1.2.3": "Series of [1, 3]: a slice is missing."}
    assert tiny.files("1.2.3") == ["ct/1.dcm", "ct/3.dcm"]


def test_a_series_without_slices_is_gone_and_comes_back(tiny):
    tiny.put("ct/1.dcm", "slice of 1.2.3 1")
    tiny.look()
    (tiny.path / "ct/1.dcm").unlink()
    tiny.look()
    assert tiny.reasons() == {"1.2.3": "Series 1.2.3 is gone. Put it back, or remove the image."}

    tiny.put("ct/1.dcm", "slice of 1.2.3 1")
    tiny.look()

    assert tiny.images() == {"1.2.3": OK}


def test_a_slice_that_was_rewritten_into_another_series_leaves_the_first(tiny):
    for number in (1, 2, 3):
        tiny.put(f"ct/{number}.dcm", f"slice of 1.2.3 {number}")
    tiny.look()

    tiny.put("ct/2.dcm", "slice of 1.2.9 20")
    tiny.look()

    assert tiny.reasons() == {"1.2.3": "Series of [1, 3]: a slice is missing."}
    assert tiny.files("1.2.9") == ["ct/2.dcm"]


def test_a_slice_that_is_damaged_later_leaves_its_series(tiny):
    for number in (1, 2, 3):
        tiny.put(f"ct/{number}.dcm", f"slice of 1.2.3 {number}")
    tiny.look()

    tiny.put("ct/3.dcm", "broken")
    tiny.look()

    assert tiny.images() == {"1.2.3": OK, "ct/3": QUARANTINED}
    assert tiny.files("1.2.3") == ["ct/1.dcm", "ct/2.dcm"]


def test_a_renamed_series_folder_keeps_its_image_and_tells_the_new_place(tiny):
    for number in (1, 2):
        tiny.put(f"ct/{number}.dcm", f"slice of 1.2.3 {number}")
    tiny.look()
    (tiny.path / "ct").rename(tiny.path / "moved")
    reads = len(tiny.reader.read)

    tiny.look()

    assert tiny.images() == {"1.2.3": OK} and len(tiny.reader.read) == reads
    assert tiny.record.images.get("1.2.3").source == "moved"


# --- real files ------------------------------------------------------------------------------------------------------


def write_series(folder, seed=1, shape=(6, 5, 5)):
    shape, affine = oriented_grid("LPS", shape, (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), (0.0, 0.0, 0.0))
    return write_dicom_series(folder, np.zeros(shape, np.int16), affine, patient_id="p1", seed=seed)


def changed(path, **attributes):
    one = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(one, name, value)
    one.save_as(path)


def test_a_folder_of_all_sorts_gives_its_images_and_names_the_rest(real):
    volume = Volume(np.arange(24, dtype=np.int16).reshape(4, 3, 2), np.diag([0.5, 1.0, 2.0, 1.0]))
    for name in ("p1/a.nii", "p1/b.nii.gz", "p2/c.nrrd", "p2/D.NII.GZ"):
        (real.path / name).parent.mkdir(exist_ok=True)
        write_volume(real.path / name, volume)
    whole = (real.path / "p1/b.nii.gz").read_bytes()
    real.put("cut.nii.gz", whole[: len(whole) // 2])
    real.put("empty.nii")
    (real.path / "empty.nii").write_bytes(b"")
    real.put("letter.nii.gz", "not an image")
    real.put("readme.txt", "not an image")
    real.put("noise", np.random.default_rng(0).bytes(500))
    (real.path / "nothing").write_bytes(b"")
    uid = write_series(real.path / "dicom")

    real.look()

    images = real.images()
    assert {image_id for image_id, state in images.items() if state is OK} == {"p1/a", "p1/b", "p2/c", "p2/D", uid}
    assert {image_id for image_id, state in images.items() if state is NO_IMAGE} == {"readme", "noise"}
    assert {image_id for image_id, state in images.items() if state is QUARANTINED} == {
        "cut", "empty", "letter", "nothing"
    }  # fmt: skip
    assert "cut.nii.gz is" in real.reasons()["cut"]
    assert real.reasons()["empty"] == "empty.nii is empty (0 bytes)."
    assert "readme.txt is no image: neither DICOM nor one of .nii.gz" in real.reasons()["readme"]
    assert real.record.images.get("p1/a").grid.is_same_as(volume.grid)


def test_a_dicom_series_is_one_image_of_its_patient(real):
    uid = write_series(real.path / "p1" / "ct")

    real.look()

    image = real.record.images.get(uid)
    assert (image.grid.shape, image.modality, image.source) == ((6, 5, 5), "CT", "p1/ct")
    assert image.patient == PatientRule(b"secret").of_series("p1@")


def test_a_series_with_a_missing_slice_is_quarantined_with_the_gap(real):
    uid = write_series(real.path / "ct")
    (real.path / "ct" / "slice_003.dcm").unlink()

    real.look()

    assert "slices 2 and 3 are 10.0 mm apart, the others 5.0 mm. A slice is probably missing" in real.reasons()[uid]


def test_a_slice_deleted_later_is_noticed_and_its_return_too(real):
    uid = write_series(real.path / "ct")
    real.look()
    missing = real.path / "ct" / "slice_003.dcm"
    missing.rename(real.path.parent / "elsewhere.dcm")
    real.look()
    assert "A slice is probably missing" in real.reasons()[uid]

    (real.path.parent / "elsewhere.dcm").rename(missing)
    real.look()

    assert real.images() == {uid: OK}


def test_a_last_slice_deleted_later_shortens_the_grid(real):
    uid = write_series(real.path / "ct")
    real.look()

    (real.path / "ct" / "slice_005.dcm").unlink()
    real.look()

    assert real.record.images.get(uid).grid.shape == (6, 5, 4)


def test_two_series_in_one_folder_are_two_images(real):
    first, second = write_series(real.path / "first", seed=1), write_series(real.path / "second", seed=2)
    (real.path / "mixed").mkdir()
    for folder in ("first", "second"):
        for path in (real.path / folder).iterdir():
            path.rename(real.path / "mixed" / f"{folder}_{path.stem}")
        (real.path / folder).rmdir()

    real.look()

    assert real.images() == {first: OK, second: OK}
    assert len(real.files(first)) == len(real.files(second)) == 5


@pytest.mark.parametrize(
    ("attributes", "state", "reason"),
    [({"SamplesPerPixel": 3}, QUARANTINED, "is a colour image (3 samples a pixel"),
     ({"NumberOfFrames": 9}, QUARANTINED, "holds 9 frames in one file"),
     ({"Modality": "SEG"}, NO_IMAGE, "is no image but a segmentation (DICOM SEG)"),
     ({"Modality": "RTSTRUCT"}, NO_IMAGE, "is no image but a set of contours (DICOM RTSTRUCT)"),
     ({"Modality": "SR"}, NO_IMAGE, "is no image but a report (DICOM SR)")],
)  # fmt: skip
def test_other_objects_beside_a_series_are_named_and_the_series_is_an_image(real, attributes, state, reason):
    uid = write_series(real.path / "ct")
    write_series(real.path / "other", seed=2, shape=(6, 5, 1))
    changed(real.path / "other" / "slice_001.dcm", **attributes)

    real.look()

    assert real.images() == {uid: OK, "other/slice_001": state}
    assert reason in real.reasons()["other/slice_001"]


@pytest.mark.parametrize(
    ("name", "content", "state", "reason"),
    [("scan.dcm", b"x" * 200, QUARANTINED, "scan.dcm has no DICOM preamble."),
     ("scan", b"", QUARANTINED, "scan is empty (0 bytes)."),
     ("scan.nii.gz", b"", QUARANTINED, "scan.nii.gz is empty (0 bytes)."),
     ("scan.seg.nrrd", b"NRRD0004", NO_IMAGE, "scan.seg.nrrd is no image but a segmentation."),
     ("scan.json", b"{}", NO_IMAGE, "scan.json is no image: neither DICOM nor one of .nii.gz"),
     ("scan.txt", b"", NO_IMAGE, "scan.txt is no image: neither DICOM nor one of .nii.gz"),
     ("LICENSE", b"Apache", NO_IMAGE, "LICENSE is no image: neither DICOM nor one of .nii.gz")],
)  # fmt: skip
def test_a_file_is_damaged_only_if_its_name_claims_an_image(real, name, content, state, reason):
    real.put(name, content)

    real.look()

    (found,) = real.reasons().values()
    assert found.startswith(reason) and list(real.images().values()) == [state]


@pytest.mark.parametrize("name", ["scan.dcm", "scan", "scan.ima", "scan.txt", "IM0001"])
def test_dicom_without_a_preamble_is_quarantined_with_one_reason_whatever_its_name(real, name):
    write_series(real.path / "ct", shape=(6, 5, 1))
    one = pydicom.dcmread(real.path / "ct" / "slice_001.dcm")
    del one.file_meta
    one.preamble = None
    (real.path / "ct" / "slice_001.dcm").unlink()
    pydicom.dcmwrite(real.path / name, one, implicit_vr=True, little_endian=True, force_encoding=True)

    real.look()

    (found,) = real.reasons().values()
    assert found.startswith(f"{name} is DICOM without its preamble (128 bytes and the letters DICM)")
    assert list(real.images().values()) == [QUARANTINED]


def scattered(real, numbers=(1, 1, 1, 1, 1), **attributes):
    """Slices of one stack with a SeriesInstanceUID each, and these numbers; the UIDs."""
    write_series(real.path / "ct", shape=(6, 5, len(numbers)))
    for k, (path, number) in enumerate(zip(sorted((real.path / "ct").iterdir()), numbers, strict=True)):
        changed(path, SeriesInstanceUID=f"1.2.{k}", SeriesNumber=number, **attributes)
    return [f"1.2.{k}" for k in range(len(numbers))]


@pytest.mark.parametrize("number", [7, None])
@pytest.mark.parametrize("attributes", [{}, {"PatientID": ""}, {"FrameOfReferenceUID": ""}])
def test_slices_of_one_stack_with_a_series_uid_each_are_quarantined_with_a_hint(real, number, attributes):
    uids = scattered(real, (number,) * 5, **attributes)

    real.look()

    assert real.images() == dict.fromkeys(uids, QUARANTINED)
    reason = real.reasons()["1.2.3"]
    assert reason.startswith("Series 1.2.3 is one slice, and one of 5 such series of its study")
    assert "were given a SeriesInstanceUID each" in reason and "Give them one" in reason


@pytest.mark.parametrize("restarted", [True, False])
def test_a_slice_of_such_a_stack_that_comes_later_is_known_too(real, restarted):
    uids = scattered(real)
    for number in (3, 4):
        (real.path / "ct" / f"slice_00{number + 1}.dcm").rename(real.path.parent / f"{number}")
    real.look()
    assert set(real.images().values()) == {QUARANTINED}
    if restarted:
        real.reopened()

    (real.path.parent / "3").rename(real.path / "ct" / "late.dcm")
    real.look()
    (real.path.parent / "4").rename(real.path / "ct" / "last.dcm")
    real.look()

    assert real.images() == dict.fromkeys(uids, QUARANTINED)
    assert "one of 5 such series" in real.reasons()["1.2.0"]


def test_such_a_stack_is_an_image_once_its_slices_have_one_uid(real):
    scattered(real)
    real.look()

    for path in (real.path / "ct").iterdir():
        changed(path, SeriesInstanceUID="1.2.9")
    real.look()

    assert real.images() == {"1.2.9": OK}


def test_single_slices_with_numbers_of_their_own_are_images(real):
    uids = scattered(real, numbers=(1, 2, 3, 4, 5))

    real.look()

    assert real.images() == dict.fromkeys(uids, OK)


def test_two_single_slices_may_be_anything(real):
    uids = scattered(real, numbers=(1, 1))

    real.look()

    assert real.images() == dict.fromkeys(uids, OK)


def test_single_slices_at_one_place_are_no_stack(real):
    uids = scattered(real, ImagePositionPatient=[0, 0, 0])

    real.look()

    assert real.images() == dict.fromkeys(uids, OK)


def test_a_localiser_beside_a_stack_stays_an_image(real):
    uid = write_series(real.path / "ct")
    write_series(real.path / "scout", shape=(6, 5, 1))
    changed(real.path / "scout" / "slice_001.dcm", SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.1")

    real.look()

    assert real.images() == {uid: OK, "1.2.3": OK}


def test_two_patients_under_one_series_uid_are_quarantined_with_the_reason(real):
    uid = write_series(real.path / "ct")
    for path in sorted((real.path / "ct").iterdir())[3:]:
        changed(path, PatientID="somebody else")

    real.look()

    assert "holds slices of 2 patients (PatientID)" in real.reasons()[uid]
    assert "somebody" not in real.reasons()[uid]


def test_the_directory_of_a_disc_is_no_image(real):
    uid = write_series(real.path / "ct")
    listing = pydicom.dcmread(real.path / "ct" / "slice_001.dcm")
    listing.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    listing.save_as(real.path / "DICOMDIR")

    real.look()

    assert real.images() == {uid: OK, "DICOMDIR": NO_IMAGE}
    assert real.reasons() == {"DICOMDIR": "DICOMDIR is no image but the list of files on a disc (DICOMDIR)."}


def test_copies_of_a_series_are_noticed(real):
    uid = write_series(real.path / "ct")
    shutil.copytree(real.path / "ct", real.path / "copy")

    real.look()

    copies = "5 of its slices are there more than once, such as copy/slice_001.dcm and ct/slice_001.dcm"
    assert copies in real.reasons()[uid]
    assert Path(real.files(uid)[0]).parent.name == "copy"


# --- mammograms ------------------------------------------------------------------------------------------------------


@pytest.fixture
def films(tmp_path, data):
    """A folder of mammograms, read as the server reads them."""
    task = Task("t", "Masses", modality="MG", is_flat=True)
    return Folder(tmp_path / "studies", FolderReader(PatientRule(b"secret"), task), data)


MAMMOGRAM = draw_mammogram(BreastParameters(seed=1, shape=(64, 80), masses=()))


def view(films, laterality, name):
    return write_mammogram(films.path / "p1", MAMMOGRAM, laterality=laterality, view=name, patient_id="p1", seed=1)


def test_every_view_of_a_mammogram_series_is_an_image_of_its_own_and_keeps_its_id(films):
    first = view(films, "L", "CC")
    films.look()
    assert films.images() == {first: OK}

    second = view(films, "R", "MLO")
    films.look()

    assert films.images() == {first: OK, second: OK}
    assert films.files(first) == ["p1/L_CC.dcm"] and films.files(second) == ["p1/R_MLO.dcm"]
    assert len({image.patient for image in films.record.images.every(OK)}) == 1


def test_a_view_that_is_written_again_stays_the_same_image(films):
    first, second = view(films, "L", "CC"), view(films, "R", "CC")
    films.look()
    os.utime(films.path / "p1" / "L_CC.dcm", ns=(1, 1))
    films.look()

    assert films.images() == {first: OK, second: OK}
    assert films.files(first) == ["p1/L_CC.dcm"]


def test_a_grey_picture_is_an_image_and_a_coloured_one_is_quarantined_with_the_reason(films):
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(films.path / "film.png")
    Image.fromarray(np.full((5, 4, 3), (9, 8, 7), np.uint8)).save(films.path / "photo.png")
    films.look()

    assert films.images() == {"film": OK, "photo": QUARANTINED}
    assert "is a colour picture" in films.reasons()["photo"]


def test_a_picture_beside_volumes_is_no_image(real):
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(real.path / "preview.png")
    real.look()

    assert real.images() == {"preview": NO_IMAGE}
    assert real.reasons()["preview"] == "preview.png is a picture; the task t works on volumes."
