"""Drafts of images: made once per image and model version, then read from the record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.errors import NoModelYet, UnreadableImage
from lib.serving.inference import Drafted, Order
from lib.serving.library import Library
from lib.stages import Role, Stage
from lib.store.annotations import Annotation, NewAnnotation
from lib.store.images import Image, ImageKind, ImageState
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


class Drafting:
    """Makes drafts with the serving model and stores them."""

    def __init__(self, record: Record, library: Library, compute: Callable[[Order], Drafted], needed: int) -> None:
        self.record = record
        self.library = library
        self.compute = compute
        self.needed = needed
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, int], tuple[threading.Lock, int]] = {}

    def serving_model(self) -> Model:
        """The model that makes drafts.

        Raises:
            NoModelYet: if nothing has been trained so far.
        """
        model = self.record.models.serving()
        if model is None:
            if self.record.jobs.count_open(JobKind.TRAIN):
                raise NoModelYet("No model yet: the first training is running; GET /train/ tells how far it is.")
            labelled = self.record.annotations.count_by_stage().get(Stage.EXPERT, 0)
            missing = max(1, self.needed - labelled)
            corrections = "1 correction" if missing == 1 else f"{missing} corrections"
            raise NoModelYet(
                f"No model yet: store {corrections} and train. {labelled} labelled so far; draw on the empty image and "
                "submit it."
            )
        return model

    def of_image(self, image_id: str) -> StoredDraft:
        """The draft of an image by the serving model, computed only if the record does not hold it.

        Raises:
            UnknownImage, UnreadableImage, NoModelYet, ComputationInterrupted: as the words say.
        """
        image = self.library.readable(image_id)
        model = self.serving_model()
        with self._only_one(image_id, model.version):
            known = self._kept_draft(image_id, model)
            if known is not None:
                return StoredDraft(known, {})
            drafted = self._computed(image, model)
            return StoredDraft(self._store(image, model, drafted), drafted.seconds)

    def of_file(self, kind: ImageKind, paths: list[Path]) -> tuple[Drafted, Model]:
        """The draft of an image that is not in the record; nothing is stored."""
        model = self.serving_model()
        order = Order(paths[0].name, kind, tuple(paths), self.record.weights.path(model.weights))
        return self.compute(order), model

    def _kept_draft(self, image_id: str, model: Model) -> Annotation | None:
        """The draft in the record, unless its mask was pruned while another version served."""
        known = self.record.annotations.draft_of(image_id, model.version)
        is_kept = known is not None and known.mask is not None and self.record.masks.path(known.mask).is_file()
        return known if is_kept else None

    def _computed(self, image: Image, model: Model) -> Drafted:
        order = Order(image.id, image.kind, tuple(self.library.files(image)), self.record.weights.path(model.weights))
        try:
            return self.compute(order)
        except UnreadableImage as error:
            self.record.images.set_state(image.id, ImageState.QUARANTINED, str(error))
            raise

    def _store(self, image: Image, model: Model, drafted: Drafted) -> Annotation:
        digest = self.record.masks.put(drafted.content)
        with self.record.database.transaction():
            self.record.masks.keep(digest, drafted.content)
            known = self._kept_draft(image.id, model)
            if known is not None:
                return known
            return self.record.annotations.add(
                NewAnnotation(
                    image=image.id,
                    stage=Stage.DRAFT,
                    author=f"model:{self.record.task.name}@v{model.version}",
                    role=Role.MODEL,
                    mask=digest,
                    looked_at=tuple(drafted.voxels),
                    voxels=drafted.voxels,
                    model_version=model.version,
                    # 3D Slicer reads the names of a draft's segments here.
                    info={"model": self.record.task.name, "params": {"label_names": self.record.task.values}},
                )
            )

    @contextmanager
    def _only_one(self, image_id: str, version: int) -> Iterator[None]:
        """Lets several requests for one draft wait for the first of them."""
        key = (image_id, version)
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, users - 1)
