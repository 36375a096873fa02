"""On what kind of disk a folder lies, read from mount tables that are written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.errors import SetupError
from lib.store import disk
from lib.store.disk import NETWORK, file_system, refuse_network_disk

LINE = "{number} 25 0:{number} / {point} rw,relatime shared:1{optional} - {kind} {source} rw,vers=4.2\n"


@pytest.fixture
def mounted(tmp_path):
    """Writes a mount table: a local root, and what each test adds."""

    def write(*mounts: tuple[Path | str, str]) -> Path:
        table = tmp_path / "mountinfo"
        lines = [("/", "ext4"), *mounts]
        escaped = str.maketrans({" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"})
        table.write_text(
            "".join(
                LINE.format(
                    number=number, point=str(point).translate(escaped), kind=kind, source="server:/x",
                    optional=" master:2" if number % 2 else "",
                )
                for number, (point, kind) in enumerate(lines)
            )
        )  # fmt: skip
        return table

    return write


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "ext4", "xfs", "btrfs", "zfs"])
def test_the_kind_is_that_of_the_mount(tmp_path, mounted, kind):
    assert file_system(tmp_path, mounted((tmp_path, kind))) == kind


def test_a_folder_that_does_not_exist_yet_lies_on_the_disk_of_its_parent(tmp_path, mounted):
    assert file_system(tmp_path / "a" / "b", mounted((tmp_path, "nfs4"))) == "nfs4"


def test_the_innermost_mount_counts_in_whatever_order_they_are_listed(tmp_path, mounted):
    inside = tmp_path / "share" / "local"
    inside.mkdir(parents=True)

    assert file_system(inside, mounted((tmp_path / "share", "nfs4"), (inside, "xfs"))) == "xfs"
    assert file_system(inside, mounted((inside, "xfs"), (tmp_path / "share", "nfs4"))) == "xfs"
    assert file_system(tmp_path / "share", mounted((inside, "xfs"), (tmp_path / "share", "nfs4"))) == "nfs4"


def test_of_two_mounts_at_one_place_the_later_one_counts(tmp_path, mounted):
    assert file_system(tmp_path, mounted((tmp_path, "autofs"), (tmp_path, "nfs4"))) == "nfs4"


def test_a_neighbour_whose_name_begins_alike_is_another_folder(tmp_path, mounted):
    assert file_system(tmp_path / "data2", mounted((tmp_path / "data", "nfs4"))) == "ext4"


@pytest.mark.parametrize("name", ["my data", "tab\there", "back\\slash", "line\nend", "a - b"])
def test_odd_letters_of_a_mount_are_read_as_the_system_escapes_them(tmp_path, mounted, name):
    assert file_system(tmp_path / name / "deeper", mounted((tmp_path / name, "cifs"))) == "cifs"


def test_a_link_leads_to_the_disk_on_which_its_target_lies(tmp_path, mounted):
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")

    assert file_system(tmp_path / "link", mounted((tmp_path / "share", "nfs4"))) == "nfs4"


def test_a_system_that_does_not_tell_is_taken_as_local(tmp_path):
    assert file_system(tmp_path, tmp_path / "no table") == ""


@pytest.mark.parametrize("kind", NETWORK)
def test_a_network_disk_is_refused_with_both_ways_out(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(disk, "file_system", lambda folder: kind)

    with pytest.raises(SetupError, match=rf"network disk \({kind}\).*--data folder on a local disk.*--conf store"):
        refuse_network_disk(tmp_path)


@pytest.mark.parametrize("kind", ["", "ext4", "xfs", "tmpfs", "overlay", "fuseblk"])
def test_a_local_disk_is_accepted(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(disk, "file_system", lambda folder: kind)

    refuse_network_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []
