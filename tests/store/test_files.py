"""Files named by their content: there once, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.errors import StorageFull, UnknownAnnotation
from lib.store.files import FileStore, write_durably


@pytest.fixture
def files(tmp_path):
    return FileStore(tmp_path / "masks", ".nii.gz")


def everything_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_found_by_its_digest(files):
    digest = files.put(b"a mask")

    assert digest == hashlib.sha256(b"a mask").hexdigest()
    assert files.get(digest) == b"a mask"
    assert files.path(digest) == files.folder / digest[:2] / f"{digest}.nii.gz"


def test_equal_content_is_kept_once_and_not_written_again(files):
    first = files.put(b"a mask")
    written = files.path(first).stat()

    assert files.put(b"a mask") == first
    assert everything_in(files.folder) == [f"{first}.nii.gz"]
    assert (files.path(first).stat().st_ino, files.path(first).stat().st_mtime_ns) == (
        written.st_ino,
        written.st_mtime_ns,
    )


def test_threads_that_keep_the_same_content_at_once_keep_one_file(files):
    start = threading.Barrier(8)

    def put(_):
        start.wait()
        return files.put(b"a mask" * 1000)

    with ThreadPoolExecutor(8) as threads:
        (digest,) = set(threads.map(put, range(8)))

    assert everything_in(files.folder) == [f"{digest}.nii.gz"]
    assert files.get(digest) == b"a mask" * 1000


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["fsync", "replace", "mkdir"])
def test_a_full_disk_is_told_and_nothing_is_left(files, monkeypatch, number, step):
    def full(*_args, **_more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, full)

    with pytest.raises(StorageFull, match=r"disk that holds masks is full\. Free some space and send it again"):
        files.put(b"a mask")

    assert everything_in(files.folder) == []


def test_another_error_of_the_disk_stays_what_it_is(files, monkeypatch):
    def broken(*_args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)

    with pytest.raises(OSError, match=r"Input/output error"):
        files.put(b"a mask")

    assert everything_in(files.folder) == []


def test_a_file_has_its_name_only_once_all_its_bytes_are_on_the_disk(files, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle):
        steps.append(("on the disk", os.fstat(handle).st_size if not os.path.isdir(f"/proc/self/fd/{handle}") else 0))
        fsync(handle)

    def noted_replace(source, target):
        steps.append(("named", os.path.getsize(source)))
        replace(source, target)

    files.put(b"the folder is made by this one")
    digest = hashlib.sha256(b"a mask").hexdigest()
    files.path(digest).parent.mkdir(exist_ok=True)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)

    files.put(b"a mask")

    assert steps == [("on the disk", 6), ("named", 6), ("on the disk", 0)]


def test_a_torn_temporary_file_of_a_killed_process_is_never_seen(files):
    digest = hashlib.sha256(b"a mask").hexdigest()
    files.path(digest).parent.mkdir()
    (files.path(digest).parent / ".new-abc123").write_bytes(b"a m")

    with pytest.raises(UnknownAnnotation, match=rf"The file {digest[:12]}… is missing below masks"):
        files.get(digest)

    assert files.put(b"a mask") == digest and files.get(digest) == b"a mask"


def test_a_write_over_an_older_file_leaves_that_when_it_fails(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"older")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match=r"No space left"):
        write_durably(tmp_path / "file", b"newer")

    assert everything_in(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"older"
