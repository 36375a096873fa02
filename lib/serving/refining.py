"""Refined masks: made once per version of a mask and refiner, then read from the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.errors import NoModelYet, UnknownAnnotation
from lib.serving.drafting import Drafting
from lib.serving.inference import Drafted, Order, RoughMask
from lib.serving.one_at_a_time import OneAtATime
from lib.stages import PROGRAMS, Role, Stage, current, in_force
from lib.store.annotations import Annotation, NewAnnotation
from lib.store.images import Image, ImageKind
from lib.store.models import Model


@dataclass(frozen=True)
class StoredRefinement:
    """A refined mask in the record.

    Attributes:
        annotation: its row.
        drafted: what was computed now; ``None`` if it was there already.
    """

    annotation: Annotation
    drafted: Drafted | None


class Refining:
    """Refines masks by the serving refiner, and stores what becomes of those in the record."""

    def __init__(self, drafting: Drafting, compute: Callable[[Order], Drafted]) -> None:
        self.record = drafting.record
        self.library = drafting.library
        self.drafting = drafting
        self.compute = compute
        self._making = OneAtATime()

    def refiner(self) -> Model:
        """What refines now.

        Raises:
            NoModelYet: if no refiner is good enough so far.
        """
        serving = self.record.refiners.serving()
        if serving is None:
            name = self.record.refiners.name
            raise NoModelYet(
                f"No refiner serves yet: it learns from drafts and what experts made of them, by itself or by "
                f"POST /train/{name}, and serves once it improves the drafts of validation cases."
            )
        return serving

    def of_image(
        self, image_id: str, version: int | None = None, asker: str = "", *, wants_stages: bool = False
    ) -> StoredRefinement:
        """The refined mask of the annotation at hand, computed only if the record does not hold it.

        Args:
            image_id: of an image in the record.
            version: of the annotation to refine; ``None``: the current one. What a refined version was made from is
                refined in its place. Where there is none, or a draft whose mask is no longer kept, a draft is made.
            asker: who wants it.
            wants_stages: the mask of every stage, too, which is not stored.

        Raises:
            UnknownImage, UnreadableImage, UnknownAnnotation, NoModelYet, ComputationInterrupted: as the words say.
        """
        image = self.library.readable(image_id)
        refiner = self.refiner()
        rough = self._at_hand(image_id, asker) if version is None else self._version(image_id, version)
        with self._making.making((image_id, rough.version, refiner.version)):
            known = self._known(rough, refiner)
            if known is not None and not wants_stages:
                return StoredRefinement(known, None)
            path = self.record.mask_file(rough)
            mask = RoughMask(path, rough.looked_at, wants_stages=wants_stages)
            with self.library.reading(image) as paths:
                drafted = self.compute(self._order(image.id, image.kind, paths, refiner, mask, asker))
            return StoredRefinement(known or self._store(image, rough, refiner, drafted), drafted)

    def of_mask(
        self, name: str, kind: ImageKind, paths: Sequence[Path], mask: RoughMask, asker: str = ""
    ) -> tuple[Drafted, Model]:
        """What becomes of a mask that is not in the record, or whose image is not; nothing is stored."""
        refiner = self.refiner()
        return self.compute(self._order(name, kind, paths, refiner, mask, asker)), refiner

    def _order(
        self, name: str, kind: ImageKind, paths: Sequence[Path], refiner: Model, mask: RoughMask, asker: str
    ) -> Order:  # fmt: skip
        return Order(name, kind, tuple(paths), self.record.task, self.record.weights.path(refiner.weights), asker, mask)

    def _at_hand(self, image_id: str, asker: str) -> Annotation:
        """The annotation that somebody who opens the image looks at, before any refining."""
        found = current(self.record.annotations.history(image_id))
        if found is not None and found.stage is Stage.REFINED and found.parent is not None:
            found = self._version(image_id, found.parent)
        if found is None or (found.role in PROGRAMS and not self.record.has_mask(found)):
            return self.drafting.of_image(image_id, asker).annotation
        return found

    def _version(self, image_id: str, version: int) -> Annotation:
        there = in_force(self.record.annotations.history(image_id))
        found = next((annotation for annotation in there if annotation.version == version), None)
        if found is None:
            raise UnknownAnnotation(
                f"{image_id!r} has no version {version} to refine; it has {[each.version for each in there] or 'none'}."
            )
        return found

    def _known(self, rough: Annotation, refiner: Model) -> Annotation | None:
        """What the refiner made of it already, if its mask is still there."""
        known = self.record.annotations.refinement_of(rough.image, rough.version, refiner.version)
        return known if known is not None and self.record.has_mask(known) else None

    def _store(self, image: Image, rough: Annotation, refiner: Model, drafted: Drafted) -> Annotation:
        refiners = self.record.refiners
        with self.record.storing_mask(drafted.content) as digest:
            return self._known(rough, refiner) or self.record.annotations.add(
                NewAnnotation(
                    image=image.id,
                    stage=Stage.REFINED,
                    author=refiners.author(refiner.version),
                    role=Role.REFINER,
                    mask=digest,
                    looked_at=rough.looked_at,
                    voxels=drafted.voxels,
                    parent=rough.version,
                    refiner_version=refiner.version,
                    info={
                        "model": refiners.name,
                        "findings": asdict(drafted.findings),
                        "kept": drafted.kept,
                    },
                )
            )
