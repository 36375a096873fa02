"""A weight file is read as what it is, and not believed about sizes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import Checkpoint
from lib.networks.matching import read_state_dict
from lib.networks.weight_file import not_finite, plain_content


def saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


TENSORS = {"a": torch.arange(6.0), "b": torch.ones(2, 3, dtype=torch.int64)}


def test_tensors_and_plain_values_come_back() -> None:
    found = plain_content(saved({"weights": TENSORS, "epoch": 3}))

    assert found["epoch"] == 3 and all(torch.equal(found["weights"][name], TENSORS[name]) for name in TENSORS)


def rewritten(
    content: bytes, change: Callable[[zipfile.ZipInfo, bytes], bytes], kind: int = zipfile.ZIP_STORED
) -> bytes:
    """The same members, with other content."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w", kind) as after:
        for member in before.infolist():
            after.writestr(member.filename, change(member, before.read(member)), compress_type=kind)
    return file.getvalue()


def claiming(size: int) -> bytes:
    """A file whose directory says that a tensor's member is so large."""
    content = saved(TENSORS)
    end = content.rindex(b"PK\x05\x06")
    start = int.from_bytes(content[end + 16 : end + 20], "little")
    at = content.index(b"archive/data/0", start) - 46
    return content[: at + 24] + size.to_bytes(4, "little") + content[at + 28 :]


def packed_bomb() -> bytes:
    """A file of a megabyte whose packed member would become many."""
    return rewritten(
        saved(TENSORS), lambda member, content: b"\0" * 2**26 if member.filename.endswith("data/0") else content,
        zipfile.ZIP_DEFLATED,
    )  # fmt: skip


CLAIMS = {
    "a-larger-member": lambda: claiming(2**30),
    "the-largest-member": lambda: claiming(2**32 - 2),
    "a-packed-bomb": packed_bomb,
    "packed": lambda: rewritten(saved(TENSORS), lambda member, content: content, zipfile.ZIP_DEFLATED),
    "the-old-format": lambda: saved(TENSORS, _use_new_zipfile_serialization=False),
    "more-numbers-than-bytes": lambda: rewritten(
        saved({"a": torch.zeros(4)}), lambda member, content: content.replace(b"K\x04", b"J\x00\x00\x00\x40")
    ),
    "cut-off": lambda: saved(TENSORS)[:-40],
    "nothing": lambda: b"",
    "no-members": lambda: rewritten(saved(TENSORS), lambda member, content: b""),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_file_that_claims_more_than_it_has_is_refused(name: str) -> None:
    content = CLAIMS[name]()

    with pytest.raises(Exception, match=r"."):
        plain_content(content)
    with pytest.raises(UnacceptableFile, match=r"are no weights of this server"):
        Checkpoint.from_bytes(content)
    with pytest.raises(UnacceptableFile, match=r"no PyTorch file of plain tensors"):
        read_state_dict(content, "model.pt")
    assert not Checkpoint.is_one(content)


def test_what_holds_nan_or_infinity_is_named() -> None:
    weights = {
        "good": torch.zeros(2), "whole": torch.ones(2, dtype=torch.int64), "nan": torch.tensor([0.0, float("nan")]),
        "inf": torch.tensor([float("-inf")]), "half": torch.tensor([float("inf")], dtype=torch.float16),
    }  # fmt: skip

    assert not_finite(weights) == ["nan", "inf", "half"]
