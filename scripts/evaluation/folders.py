"""Finds what belongs together in folders of truths, predictions and images: files of one name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.series import looks_like_dicom
from lib.volume import IMAGE_SUFFIXES, VOLUME_SUFFIXES, suffix_of


@dataclass(frozen=True)
class Pair:
    """The files of one case.

    Attributes:
        case: path of the truth below its folder, without suffix.
        truth: mask file.
        prediction: mask file.
        image: image file, folder of a DICOM series, or ``None`` if there is none.
    """

    case: str
    truth: Path
    prediction: Path
    image: Path | None = None


@dataclass(frozen=True)
class Matched:
    """What is in the folders.

    Attributes:
        pairs: by name of the case.
        without_prediction: names of truths alone.
        without_truth: names of predictions alone.
        ambiguous: names that several files of one folder have.
    """

    pairs: dict[str, Pair]
    without_prediction: list[str]
    without_truth: list[str]
    ambiguous: list[str]


def matched(truths: Path, predictions: Path, images: Path | None = None) -> Matched:
    """Matches files by their path below their folder, without suffix.

    An image may also be a folder of DICOM files. A name that several files of one folder have is matched with nothing.
    """
    true, doubled_truths = _named(truths, VOLUME_SUFFIXES)
    predicted, doubled_predictions = _named(predictions, VOLUME_SUFFIXES)
    seen, _ = _named(images, IMAGE_SUFFIXES) if images is not None else ({}, set())
    ambiguous = doubled_truths | doubled_predictions
    both = sorted(true.keys() & predicted.keys() - ambiguous)
    return Matched(
        pairs={name: Pair(name, true[name], predicted[name], seen.get(name) or _series(images, name)) for name in both},
        without_prediction=sorted(true.keys() - predicted.keys()),
        without_truth=sorted(predicted.keys() - true.keys()),
        ambiguous=sorted(ambiguous),
    )


def series_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and looks_like_dicom(path))


def _named(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], set[str]]:
    """Files by name without suffix, hidden ones left out, and the names that occur twice."""
    found: dict[str, Path] = {}
    doubled: set[str] = set()
    for path in sorted(folder.rglob("*")):
        suffix = suffix_of(path.name)
        if suffix in suffixes and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()[: -len(suffix)]
            if name in found:
                doubled.add(name)
            found[name] = path
    return found, doubled


def _series(images: Path | None, name: str) -> Path | None:
    folder = images / name if images is not None else None
    return folder if folder is not None and folder.is_dir() and series_files(folder) else None
