"""Drafts of images: made once per image and model version, then read from the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from lib.errors import NoModelYet
from lib.serving.inference import Drafted, Order
from lib.serving.library import Library
from lib.serving.one_at_a_time import OneAtATime
from lib.serving.turns import NOBODY
from lib.stages import PROGRAMS, Role, Stage, in_force
from lib.store.annotations import Annotation, NewAnnotation
from lib.store.images import Image, ImageKind
from lib.store.jobs import JobKind
from lib.store.models import Model
from lib.store.record import Record


@dataclass(frozen=True)
class StoredDraft:
    """A draft in the record.

    Attributes:
        annotation: its row.
        seconds: time of each step; empty if it was there already.
    """

    annotation: Annotation
    seconds: dict[str, float]


@dataclass(frozen=True)
class Source:
    """What makes drafts: a model version, or the task's rule before the first one.

    Attributes:
        author: as annotations name it.
        model: ``None`` for a rule.
    """

    author: str
    model: Model | None


class Drafting:
    """Makes drafts by the serving model, or by the task's rule until there is one, and stores them."""

    def __init__(
        self,
        record: Record,
        library: Library,
        compute: Callable[[Order], Drafted],
        needed: int,
        hurry: Callable[[str, str], None] = lambda image_id, asker: None,
    ) -> None:
        """Computes nothing yet.

        Args:
            record: what there is, and where drafts go.
            library: the images.
            compute: makes a draft.
            needed: corrections after which there is a model.
            hurry: is told the image and the asker when a person wants what is being computed for nobody.
        """
        self.record = record
        self.library = library
        self.compute = compute
        self.needed = needed
        self.hurry = hurry
        self._making = OneAtATime()

    def source(self) -> Source:
        """What makes drafts now.

        Raises:
            NoModelYet: if nothing has been trained so far, and the task has no rule.
        """
        task = self.record.task
        model = self.record.models.serving()
        if model is not None:
            return Source(f"model:{task.name}@v{model.version}", model)
        if task.draft_rule:
            return Source(f"rule:{task.draft_rule}", None)
        if self.record.jobs.count_open(JobKind.TRAIN):
            raise NoModelYet("No model yet: the first training is running; GET /train/ tells how far it is.")
        labelled = self.record.annotations.count_by_stage().get(Stage.EXPERT, 0)
        missing = max(1, self.needed - labelled)
        corrections = "1 correction" if missing == 1 else f"{missing} corrections"
        raise NoModelYet(
            f"No model yet: store {corrections} and train. {labelled} labelled so far; draw on the empty image and "
            "submit it."
        )

    def of_image(self, image_id: str, asker: str | None = "") -> StoredDraft:
        """The draft of an image by what makes drafts now, computed only if the record does not hold it.

        Args:
            image_id: of an image in the record.
            asker: who wants it; several wait in turn. ``None``: nobody waits for it.

        Raises:
            UnknownImage, UnreadableImage, NoModelYet, ComputationInterrupted: as the words say.
        """
        image = self.library.readable(image_id)
        source = self.source()
        with self._making.making((image_id, source.author), partial(self._hurry, image_id, asker)):
            known = self._kept_draft(image_id, source)
            if known is not None:
                return StoredDraft(known, {})
            drafted = self._computed(image, source, asker)
            return StoredDraft(self._store(image, source, drafted), drafted.seconds)

    def lacks_draft(self, image_id: str, source: Source) -> bool:
        """Whether an image lacks a draft by a source.

        One that somebody took back is not wanted again, nor that of a rule where another program's model drew one.
        """
        history = self.record.annotations.history(image_id)
        if source.model is None and any(one.role is Role.MODEL for one in in_force(history)):
            return False
        made = [one for one in history if one.author == source.author and one.role in PROGRAMS]
        if made and made[-1] not in in_force(history):
            return False
        return self._kept_draft(image_id, source) is None

    def of_file(self, kind: ImageKind, paths: list[Path], asker: str = "") -> tuple[Drafted, Source]:
        """The draft of an image that is not in the record; nothing is stored."""
        source = self.source()
        return self.compute(self._order(paths[0].name, kind, paths, source, asker)), source

    def _hurry(self, image_id: str, asker: str | None) -> None:
        if asker is not NOBODY:
            self.hurry(image_id, asker)

    def _order(self, name: str, kind: ImageKind, paths: list[Path], source: Source, asker: str | None) -> Order:
        weights = self.record.weights.path(source.model.weights) if source.model is not None else None
        return Order(name, kind, tuple(paths), self.record.task, weights, asker)

    def _kept_draft(self, image_id: str, source: Source) -> Annotation | None:
        """The draft in the record, unless its mask was pruned while another version served."""
        known = self.record.annotations.draft_of(image_id, source.author)
        return known if known is not None and self.record.has_mask(known) else None

    def _computed(self, image: Image, source: Source, asker: str | None) -> Drafted:
        with self.library.reading(image) as paths:
            return self.compute(self._order(image.id, image.kind, paths, source, asker))

    def _store(self, image: Image, source: Source, drafted: Drafted) -> Annotation:
        task = self.record.task
        with self.record.storing_mask(drafted.content) as digest:
            known = self._kept_draft(image.id, source)
            if known is not None:
                return known
            return self.record.annotations.add(
                NewAnnotation(
                    image=image.id,
                    stage=Stage.DRAFT,
                    author=source.author,
                    role=Role.RULE if source.model is None else Role.MODEL,
                    mask=digest,
                    looked_at=tuple(drafted.voxels),
                    voxels=drafted.voxels,
                    model_version=source.model.version if source.model is not None else None,
                    rule=task.draft_rule if source.model is None else "",
                    info={
                        "model": task.name,
                        "findings": asdict(drafted.findings),
                    },
                )
            )
