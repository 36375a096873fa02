"""MONAI Label's datastore on top of the record."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from monailabel.interfaces.datastore import Datastore

from lib.decoder import foreign
from lib.errors import (
    DamagedFile,
    InvalidRequest,
    NotAllowed,
    NotFound,
    StudiesAway,
    UnknownAnnotation,
    UnreadableImage,
)
from lib.opened import opened
from lib.serving.annotator import Annotator, annotator_of
from lib.serving.file_names import file_name
from lib.serving.intake import Intake
from lib.serving.library import Library
from lib.serving.made_once import deleted_if_it_fails
from lib.serving.renumbering import renumbered
from lib.serving.requests import Submission
from lib.serving.saving import Saved, save_mask
from lib.serving.settings import Settings
from lib.split import Split, split_warning
from lib.stages import Role, Stage, Standing
from lib.store import layout
from lib.store.annotations import TAG_FINAL, TAG_ORIGINAL, Annotation, tags_of
from lib.store.files import full_disk_told, made_anew
from lib.store.images import UNREAD, Image, ImageState, State
from lib.store.notes import over
from lib.store.record import Record
from lib.store.schema import now
from lib.volume import suffix_of

LOG = logging.getLogger(__name__)

LABEL_SUFFIX = ".nii.gz"


class RecordDatastore(Datastore):
    """The 26 methods of MONAI Label's interface; a label's id is that of its image.

    The routes use ``store``, ``withdraw`` and the record itself, which know the author; the methods that know none
    act for the system user.
    """

    def __init__(self, record: Record, library: Library, intake: Intake, settings: Settings) -> None:
        self.record = record
        self.library = library
        self.intake = intake
        self.settings = settings
        # By the number of images: counting patients reads all of them, and clients ask for the state all the time.
        self._split_warning = (0, "")

    def store(self, submission: Submission, received: Path, annotator: Annotator) -> tuple[Saved, tuple[str, ...]]:
        """Checks a mask file and appends it to the history of its image.

        Returns:
            What came of it, and remarks on what of the mask was not taken as it came.

        Raises:
            UnknownImage, UnreadableImage, GridMismatch, UnknownStructure, StageConflict: as the words say; nothing
                is stored then.
        """
        image, grid = self.library.readable_with_grid(submission.image_id)
        mask, remarks = foreign.mask(received, grid, submission.label_info or None, self.record.task, image.id)
        return save_mask(self.record, mask, grid, submission, annotator), remarks

    def withdraw(self, image_id: str, tag: str, annotator: Annotator) -> Annotation:
        """Takes back the version that a tag stands for.

        Raises:
            NotAllowed: if it is somebody else's and the person is no expert.
        """
        self.record.images.get(image_id)
        found = self.record.annotations.tagged(image_id, tag)
        if annotator.role is Role.ANNOTATOR and found.author != annotator.name:
            raise NotAllowed(f"Version {found.version} of {image_id!r} is {found.author}'s; an expert may withdraw it.")
        return self.record.annotations.withdraw(
            image_id, found.version, annotator.name, annotator.role, annotator.client
        )

    def note_image(self, image_id: str, info: Mapping[str, Any], annotator: Annotator) -> None:
        """Notes something about an image; what it replaces is kept.

        Raises:
            UnknownImage: if there is none with this id.
            StageConflict: if there would be too many notes.
        """
        with self.record.database.transaction():
            known = self.record.images.get(image_id).info
            self.record.images.note(image_id, over(known, {**info, "user": annotator.name}, now()))

    def note_label(self, image_id: str, tag: str, info: Mapping[str, Any], annotator: Annotator) -> None:
        """Notes something about the version that a tag stands for; what it replaces is kept.

        Raises:
            NotAllowed: if the version is an expert's and the person is none.
            InvalidRequest: if it is not what the author said when the version was stored.
            StageConflict: if there would be too many notes.
        """
        with self.record.database.transaction():
            self.record.images.get(image_id)
            found = self.record.annotations.tagged(image_id, tag)
            if annotator.role is Role.ANNOTATOR and found.stage is Stage.EXPERT:
                raise NotAllowed(
                    f"Version {found.version} of {image_id!r} is an expert's; experts may add notes to it."
                )
            told = self._label_info(found)
            said = annotation_info(found)
            other = [key for key in Submission.KNOWN if key in info and info[key] not in (said.get(key), told.get(key))]
            if other:
                raise InvalidRequest(
                    f"{' and '.join(other)} of version {found.version} of {image_id!r} cannot be changed by a note: "
                    "that is what its author said. Store a new version, or note it under another name."
                )
            added = {key: note for key, note in info.items() if key not in Submission.KNOWN}
            noted = over(found.info, {**added, "user": annotator.name}, now())
            self.record.annotations.note(image_id, found.version, noted)

    def _system(self) -> Annotator:
        return annotator_of(None, self.settings.role, "")

    def name(self) -> str:
        """Name of the task."""
        return self.record.task.name

    def set_name(self, name: str) -> None:
        """The name is the task's and stays."""
        raise InvalidRequest(f"The data set is called {self.name()}; its name cannot be changed to {name!r}.")

    def description(self) -> str:
        """Description of the task."""
        return self.record.task.description

    def set_description(self, description: str) -> None:
        """The description is the task's and stays."""
        raise InvalidRequest(f"The description is the task's and cannot be changed to {description!r}.")

    def datalist(self) -> list[dict[str, Any]]:
        """Image and current expert mask, as paths, of all labelled training cases."""
        return [
            {
                "image": str(self.library.image_file(self.record.images.get(annotation.image))),
                "label": str(self.record.masks.path(annotation.mask or "")),
            }
            for annotation in self.record.annotations.expert_labels(Split.TRAINING)
            if self.record.has_mask(annotation)
        ]

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """The image's id for each tag that it has."""
        return dict.fromkeys(tags_of(self.record.annotations.history(image_id)), image_id)

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The image's id if it has the tag, else an empty text."""
        try:
            self.record.annotations.tagged(image_id, tag)
        except UnknownAnnotation:
            return ""
        return image_id

    def get_image(self, image_id: str, params: Any = None) -> Any:
        """The bytes of the image's file."""
        return Path(self.get_image_uri(image_id)).read_bytes()

    def get_image_uri(self, image_id: str) -> str:
        """Path of one file with the image."""
        return str(self.library.image_file(self.library.readable(image_id)))

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        """The bytes of the mask file."""
        return renumbered(Path(self.get_label_uri(label_id, label_tag)), self.record.task)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of the mask file."""
        self.record.images.get(label_id)
        annotation = self.record.annotations.tagged(label_id, label_tag)
        return str(self.record.mask_file(annotation))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of an image, and what clients noted about it."""
        image = self.record.images.get(image_id)
        paths = [str(self.library.folders[root] / path) for root, path in self.record.images.files(image_id)]
        return {**image_info(image, self.file_name(image)), "path": paths[0] if paths else ""}

    def file_name(self, image: Image) -> str:
        """What a client may call an image, see ``file_names``."""
        state = self.record.images.file_states(image.id).get(image.id, State())
        return file_name(image, state, self.library.sent_suffix(image))

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known of an annotation, and what its client said."""
        self.record.images.get(label_id)
        return self._label_info(self.record.annotations.tagged(label_id, label_tag))

    def label_file(self, label_id: str, label_tag: str) -> tuple[Path, bool]:
        """The mask that a tag stands for as clients of MONAI Label read it, numbered as ``Task.positions``.

        Returns:
            Its file, and whether the caller deletes it.
        """
        path, task = Path(self.get_label_uri(label_id, label_tag)), self.record.task
        if task.positions == task.values:
            return path, False
        handle, name = tempfile.mkstemp(suffix=LABEL_SUFFIX, dir=made_anew(self.settings.data / layout.TEMPORARY))
        with deleted_if_it_fails(Path(name)), full_disk_told(self.settings.data), open(handle, "wb") as file:
            file.write(renumbered(path, task))
        return Path(name), True

    def _label_info(self, annotation: Annotation) -> dict[str, Any]:
        """What a client of MONAI Label is told about an annotation, with the numbers that its file has for it."""
        told, positions = annotation_info(annotation), self.record.task.positions
        said = told.get("params")
        # 3D Slicer reads the names of the segments that it starts from here, in this order.
        told["params"] = {**(said if isinstance(said, dict) else {}), "label_names": positions}
        if "label_info" in told:
            told["label_info"] = [{"name": name, "idx": position} for name, position in positions.items()]
        return told

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Ids of images with an expert annotation."""
        return self.record.images.ids(Standing.LABELLED)

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Ids of readable images without an expert annotation."""
        return self.record.images.ids(Standing.UNTOUCHED, Standing.DRAFTED, Standing.WAITING)

    def list_images(self) -> list[str]:
        """Ids of all readable images."""
        return self.record.images.ids()

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """A new ZIP file with the images, their current human masks and what is known of both; delete it after use."""
        return str(self.archive(limit_cases)[0])

    def archive(self, limit_cases: int | None) -> tuple[Path, dict[str, str]]:
        """The same, with the reason by image id for each case that is left out: a mask or an image that is lost."""
        handle, name = tempfile.mkstemp(suffix=".zip", dir=made_anew(self.settings.data / layout.TEMPORARY))
        with deleted_if_it_fails(Path(name)), full_disk_told(self.settings.data), open(handle, "wb") as file:
            return Path(name), self._write_archive(file, limit_cases)

    def _write_archive(self, file: IO[bytes], limit_cases: int | None) -> dict[str, str]:
        listing: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        with zipfile.ZipFile(file, "w") as archive:
            for image_id in self.record.images.ids(Standing.LABELLED)[:limit_cases]:
                image = self.record.images.get(image_id)
                annotation = self.record.annotations.tagged(image_id, TAG_FINAL)
                try:
                    mask, source = self.record.mask_file(annotation), self.library.image_file(image)
                    # Opened within its folder: whatever is put at its path meanwhile is not sent.
                    with opened(source) as whole:
                        _put(archive, f"image/{image_id}{suffix_of(source.name)}", whole.file)
                except (NotFound, DamagedFile, UnreadableImage, StudiesAway, FileNotFoundError) as error:
                    LOG.warning("%s is left out of the data set: %s", image_id, error)
                    left_out[image_id] = str(error)
                    continue
                archive.write(mask, f"label/{image_id}{LABEL_SUFFIX}")
                told = image_info(image, self.file_name(image))
                listing[image_id] = {"image": told, "label": annotation_info(annotation)}
            content = {"structures": self.record.task.values, "images": listing, "left_out": left_out}
            archive.writestr("metadata.json", json.dumps(content, indent=2), zipfile.ZIP_DEFLATED)
        return left_out

    def refresh(self) -> None:
        """Looks at the folders again."""
        self.intake.look()

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Takes in an image file."""
        received = Path(image_filename)
        image = self.intake.upload(image_id, received, received.name)
        self.record.images.note(image.id, image_info)
        return image.id

    def remove_image(self, image_id: str) -> None:
        """Hides an image; its files and annotations stay."""
        self.record.images.get(image_id)
        self.record.images.set_state(image_id, ImageState.HIDDEN, "removed by a client")

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Appends a mask to the history of an image."""
        submission = Submission.from_monailabel(image_id, label_tag, label_info, self.record.task)
        annotator = annotator_of(submission.client_id, self.settings.role, "")
        return self.store(submission, Path(label_filename), annotator)[0].annotation.image

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Withdraws an annotation."""
        self.withdraw(label_id, label_tag, self._system())

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Notes something about an image."""
        self.note_image(image_id, info, self._system())

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Notes something about an annotation."""
        self.note_label(label_id, label_tag, info, self._system())

    def status(self) -> dict[str, Any]:
        """How far the work has come."""
        counts = self.record.images.counts()
        standings: Counter[Standing] = Counter()
        splits: Counter[Split | None] = Counter()
        for place, images in counts.items():
            if place.state is ImageState.OK:
                standings[place.standing] += images
                splits[place.split] += images if place.standing is Standing.LABELLED else 0
        tags = {TAG_FINAL: standings[Standing.LABELLED], TAG_ORIGINAL: standings[Standing.DRAFTED]}
        if self._split_warning[0] != standings.total():
            self._split_warning = (standings.total(), split_warning(standings.total(), *self.record.images.patients()))
        return {
            "total": standings.total(),
            "completed": standings[Standing.LABELLED],
            "label_tags": {tag: images for tag, images in tags.items() if images},
            "waiting": standings[Standing.WAITING],
            "quarantined": sum(n for place, n in counts.items() if place.state is ImageState.QUARANTINED),
            "no_image": sum(n for place, n in counts.items() if place.state is ImageState.NO_IMAGE),
            "labelled_by_split": {split: splits[split] for split in Split},
            "split_warning": self._split_warning[1],
            "unseen": self.intake.fault,
        }

    def json(self) -> dict[str, Any]:
        """All images with their tags, and the files that gave none with the reason."""
        histories = self.record.annotations.all_histories()
        states = self.record.images.file_states()

        def told(image: Image) -> dict[str, Any]:
            suffix = self.library.sent_suffix(image)
            return {"ext": suffix, "info": image_info(image, file_name(image, states.get(image.id, State()), suffix))}

        objects = {
            image.id: {
                "image": told(image),
                "labels": {
                    tag: {"ext": LABEL_SUFFIX, "info": self._label_info(annotation)}
                    for tag, annotation in tags_of(histories.get(image.id, [])).items()
                },
            }
            for image in self.record.images.every(ImageState.OK)
        }
        quarantined, no_image = (
            {image.id: {"source": image.source, "reason": image.reason} for image in self.record.images.every(state)}
            for state in UNREAD
        )
        return {
            "name": self.name(),
            "description": self.description(),
            "images_dir": "",
            "labels_dir": "",
            "objects": objects,
            "quarantined": quarantined,
            "no_image": no_image,
        }


def _put(archive: zipfile.ZipFile, name: str, file: IO[bytes]) -> None:
    with archive.open(name, "w", force_zip64=True) as entry:
        shutil.copyfileobj(file, entry)


def image_info(image: Image, name: str) -> dict[str, Any]:
    """What a client is told about an image; its own notes first, so that they cannot hide what is known.

    Args:
        image: any.
        name: under which the client may keep it.
    """
    known: dict[str, Any] = {
        "ts": int(image.added.timestamp()),
        "name": name,
        "source": image.source,
        "kind": image.kind,
        "modality": image.modality,
        "split": image.split,
        "state": image.state,
        "standing": image.standing,
        "current_version": image.current,
    }
    if image.grid is not None:
        known |= {
            "shape": list(image.grid.shape),
            "spacing_mm": [round(edge, 6) for edge in image.grid.spacing_mm],
            "orientation": image.grid.orientation,
        }
    if image.state is ImageState.OK and image.reason:
        known["doubt"] = image.reason
    return {**image.info, **known}


def annotation_info(annotation: Annotation) -> dict[str, Any]:
    """What a client is told about an annotation."""
    return {
        **annotation.info,
        "ts": int(annotation.created.timestamp()),
        "name": f"{annotation.mask or ''}{LABEL_SUFFIX}",
        "version": annotation.version,
        "stage": annotation.stage,
        "author": annotation.author,
        "role": annotation.role,
        "parent": annotation.parent,
        "structures": list(annotation.looked_at),
        "voxels": annotation.voxels,
        "model_version": annotation.model_version,
        "refiner_version": annotation.refiner_version,
        "rule": annotation.rule,
        "seconds": annotation.seconds,
        "created": annotation.created.isoformat(),
    }
