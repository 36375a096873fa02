"""Stacks whose slices came with a SeriesInstanceUID each, which would pass for many images of one slice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import func, select

from lib.store import schema
from lib.store.images import Image, ImageKind, Images, ImageState, NewImage
from lib.volume import Grid

FEWEST = 3
"""Single slices that make a stack; two may be anything."""


class Slice(Protocol):
    """What a reader tells of an image of one slice."""

    @property
    def grid(self) -> Grid:
        """Its lattice."""

    @property
    def stack(self) -> str:
        """What all slices of its stack would say alike; empty if it is no slice, or not alone."""


class Scattered:
    """Finds such slices among the images of one task, and quarantines all of them with the reason."""

    def __init__(self, images: Images, described: Callable[[Image], Slice | None]) -> None:
        """Knows nothing yet.

        Args:
            images: of the task.
            described: reads an image of one file that an earlier process read; ``None`` if it cannot be read.
        """
        self._images = images
        self._described = described
        self._slices: dict[str, Slice | None] = {}
        self._new: set[str] = set()

    def note(self, image_id: str, described: Slice) -> None:
        """Remembers an image that was just described."""
        self._slices.pop(image_id, None)
        if described.stack:
            self._slices[image_id] = described
            self._new.add(image_id)

    def quarantine(self) -> None:
        """Quarantines the slices that were noted since, and others, where they are one stack."""
        new, self._new = self._new, set()
        stacks = {found.stack for image_id in new if (found := self._slices.get(image_id))}
        patients = {image.patient for image_id in new if (image := self._images.find(image_id))}
        together: dict[str, list[tuple[Image, Slice]]] = defaultdict(list)
        for patient in sorted(patients):
            for image in self._of_one_file(patient):
                if image.id not in self._slices:
                    self._slices[image.id] = self._described(image)
                found = self._slices[image.id]
                if found is not None and found.stack in stacks:
                    together[found.stack].append((image, found))
        for slices in together.values():
            if len({tuple(one.grid.affine[:3, 3].round(2)) for _, one in slices}) >= FEWEST:
                self._put_away([image for image, _ in slices])

    def _of_one_file(self, patient: str) -> list[Image]:
        image, file = schema.image.c, schema.file.c
        query = (
            select(image.id)
            .join(schema.file, (file.task == image.task) & (file.image == image.id))
            .where(
                image.task == self._images.task,
                image.patient == patient,
                image.kind == ImageKind.SERIES,
                image.state.in_((ImageState.OK, ImageState.QUARANTINED)),
            )
            .group_by(image.id)
            .having(func.count() == 1)
        )
        with self._images.database.reading() as connection:
            ids = list(connection.scalars(query.order_by(image.id)))
        return [found for image_id in ids if (found := self._images.find(image_id))]

    def _put_away(self, images: list[Image]) -> None:
        with self._images.database.transaction():
            for image in images:
                reason = (
                    f"Series {image.id} is one slice, and one of {len(images)} such series of its study that have the "
                    "same number, size and direction: a stack whose slices were given a SeriesInstanceUID each, as "
                    "some scanners and anonymisers do. Give them one, and send them again."
                )
                self._images.put(
                    NewImage(image.id, image.kind, image.source, None, image.modality, image.patient, reason)
                )
