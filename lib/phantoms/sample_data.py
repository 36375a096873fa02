"""Writes phantoms as a study folder with its truth beside it, equal bytes for an equal seed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.phantoms.abdomen import ORIENTATIONS, AbdomenParameters, draw_abdomen, random_parameters
from lib.phantoms.dicom_series import write_dicom_series
from lib.volume import Grid, Volume, write_volume

DICOM_CASES = 2
IMAGES, TRUTH = "segmentation", "segmentation-truth"


@dataclass(frozen=True)
class WrittenVolume:
    """A volume file, or the folder of one DICOM series.

    Attributes:
        name: relative to the folder that holds images and truth; ends in ``/`` for a DICOM series.
        sha256: of the file, or of all files of the series one after the other, by name.
        size_bytes: as many as were digested.
        grid: where the voxels lie.
    """

    name: str
    sha256: str
    size_bytes: int
    grid: Grid

    def row(self) -> str:
        """The volume as a line of a Markdown table."""
        shape = " × ".join(map(str, self.grid.shape))
        spacing = " × ".join(f"{edge:.2f}" for edge in self.grid.spacing_mm)
        is_oblique = np.count_nonzero(self.grid.affine[:3, :3].round(6)) > 3
        axes = self.grid.orientation + (", oblique" if is_oblique else "")
        return f"| `{self.name}` | {shape} | {spacing} | {axes} | {self.size_bytes} | `{self.sha256}` |"


def case_parameters(seed: int, number: int, of: int) -> AbdomenParameters:
    """Parameters of case ``number``, counted from 1: orientations take turns, the sixth shows kidney only.

    The last two become DICOM, so their axes point to left, back and head as a CT scanner stores them.
    """
    case_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    orientation = "LPS" if number > of - DICOM_CASES else ORIENTATIONS[number % len(ORIENTATIONS)]
    return random_parameters(case_seed, orientation, "lower" if number % 10 == 6 else "whole")


def write_case(folder: Path, number: int, of: int, seed: int) -> list[WrittenVolume]:
    """Draws one case; the last two images become DICOM, every fifth NRRD, the others NIfTI, as all truth.

    Returns:
        Image and truth.
    """
    parameters = case_parameters(seed, number, of)
    phantom = draw_abdomen(parameters)
    name = f"abdomen_{number:02d}"
    truth = folder / TRUTH / f"{name}.nii.gz"
    truth.parent.mkdir(parents=True, exist_ok=True)
    write_volume(truth, Volume(phantom.mask, phantom.affine))
    if number > of - DICOM_CASES:
        image = folder / IMAGES / name
        write_dicom_series(
            image, phantom.image, phantom.affine, patient_id=f"LR-PHANTOM-{number:02d}", seed=parameters.seed
        )
    else:
        image = folder / IMAGES / f"{name}{'.nrrd' if number % 5 == 3 else '.nii.gz'}"
        image.parent.mkdir(parents=True, exist_ok=True)
        write_volume(image, Volume(phantom.image, phantom.affine))
    grid = Volume(phantom.image, phantom.affine).grid
    return [_written(path, folder, grid) for path in (image, truth)]


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, or of all files of a folder one after the other, by name."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    content = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(content).hexdigest(), len(content)


def _written(path: Path, folder: Path, grid: Grid) -> WrittenVolume:
    sha256, size_bytes = digest(path)
    name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
    return WrittenVolume(name, sha256, size_bytes, grid)
