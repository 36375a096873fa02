"""Takes a body of several parts apart while it comes: each part becomes a file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lib.errors import InvalidRequest, TooLarge
from lib.store.files import full_disk_told, made_anew

WANTED = 'Send multipart/related; type="application/dicom"; boundary=… with one DICOM file a part.'

LARGEST_PART_MIB = 512
"""A part is read as a whole later: an uncompressed mask of 512x512x2000 voxels, a byte each."""

LONGEST_BOUNDARY = 256
"""Bytes of what parts the parts; longer ones are nobody's (RFC 2046 has 70)."""

MOST_PARTS = 1000
"""Objects in one request."""


def boundary_of(content_type: str) -> bytes | None:
    """What parts the parts of a body of the type ``multipart/related`` (RFC 2387); ``None``: it is of another type."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    return boundary if kind == b"multipart/related" and 0 < len(boundary) <= LONGEST_BOUNDARY else None


def holds_instances(content_type: str) -> bool:
    """Whether the parts of such a body are DICOM files."""
    return parse_options_header(content_type)[1].get(b"type", b"application/dicom") == b"application/dicom"


class PartFiles:
    """Writes the parts of a body into a folder, in their order.

    Attributes:
        paths: the files so far.
        is_complete: the end of the body has come.
    """

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self.paths: list[Path] = []
        self.is_complete = False
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._add,
                "on_part_end": self.close,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        """Takes the next bytes of the body.

        Raises:
            FormParserError: if they cannot be taken apart.
        """
        self._parser.write(piece)

    def close(self) -> None:
        """Closes the file of the present part."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _begin(self) -> None:
        self.paths.append(self._folder / f"{len(self.paths) + 1:05d}.dcm")
        self._file = self.paths[-1].open("wb")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self.is_complete = True


class ReceivedParts(PartFiles):
    """The parts of a request, within limits; they are deleted when the block ends."""

    def __init__(self, content_type: str, folder: Path) -> None:
        """Waits for the body.

        Args:
            content_type: of the request.
            folder: where the files lie meanwhile, in a folder of their own.

        Raises:
            InvalidRequest: if it is of another type, or names no boundary.
        """
        self._content_type = content_type
        boundary = boundary_of(content_type)
        if boundary is None:
            raise self._refused()
        super().__init__(boundary, Path(tempfile.mkdtemp(prefix="parts-", dir=made_anew(folder))))
        self._room = 0

    def __enter__(self) -> ReceivedParts:
        """Begins the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Deletes all files."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, piece: bytes) -> None:
        """Takes the next bytes of the body.

        Raises:
            InvalidRequest: if they are not of the type that the request says.
            TooLarge: if a part is too large, or there are too many.
            StorageFull: if the disk is full.
        """
        try:
            with full_disk_told(self._folder):
                super().write(piece)
        except FormParserError as error:
            raise self._refused() from error

    def files(self) -> list[Path]:
        """The parts of a body that has come as a whole.

        Raises:
            InvalidRequest: if its end is missing, or it has no part.
        """
        if not self.paths:
            raise InvalidRequest(f"The body has no part. {WANTED}")
        if not self.is_complete:
            raise InvalidRequest("The body ends before its last boundary: a part of it is missing. Send it again.")
        return self.paths

    def _refused(self) -> InvalidRequest:
        return InvalidRequest(f"The body cannot be taken apart (Content-Type {self._content_type[:80]!r}). {WANTED}")

    def _begin(self) -> None:
        if len(self.paths) == MOST_PARTS:
            raise TooLarge(f"The body has more than {MOST_PARTS} parts. Send them in several requests.")
        super()._begin()
        self._room = LARGEST_PART_MIB * 2**20

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._room -= end - start
        if self._room < 0:
            raise TooLarge(f"A part of the body is larger than {LARGEST_PART_MIB} MiB. Store it in smaller objects.")
        super()._add(data, start, end)
