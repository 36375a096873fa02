"""Every machine has a share of its memory for one image, and what claims more is refused with both numbers."""

from __future__ import annotations

import pytest

from lib import room
from lib.errors import UnreadableImage
from lib.room import memory_bytes, refuse_too_large, share_of

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "share"),
    [(64 * GIB, 4 * GIB), (1 * GIB, 3 * GIB // 4), (20 * GIB, 5 * GIB // 4), (2000 * GIB, 16 * GIB)],
)
def test_the_share_is_a_sixteenth_within_bounds(memory, share):
    assert share_of(memory) == share


@pytest.mark.parametrize(
    ("told", "is_limit"), [("1073741824\n", True), ("max\n", False), ("9223372036854771712", False)]
)
def test_the_limit_of_a_container_counts_where_there_is_one(tmp_path, told, is_limit):
    (tmp_path / "memory.max").write_text(told)

    found = memory_bytes((tmp_path / "memory.max", tmp_path / "none"))

    assert found == (GIB if is_limit else memory_bytes(()))


def test_what_takes_more_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(room, "MOST_VOXEL_BYTES", 3 * GIB // 2)

    refuse_too_large((1024, 1024, 384), 2, "a.nii")
    with pytest.raises(
        UnreadableImage,
        match=r"a\.nii has 5120x5120x4000 voxels, which take 390\.62 GiB in memory; this machine takes 1\.50 GiB an",
    ):
        refuse_too_large((5120, 5120, 4000), 2, "a.nii")


def test_voxels_of_one_byte_count_as_networks_take_them(monkeypatch):
    monkeypatch.setattr(room, "MOST_VOXEL_BYTES", 3 * GIB // 2)

    with pytest.raises(UnreadableImage, match=r"800x800x800 voxels, which take 1\.91 GiB in memory"):
        refuse_too_large((800, 800, 800), 1, "a.nii")
