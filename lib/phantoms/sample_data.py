"""Writes phantoms as study folders with their truth beside them, one pair per app, equal bytes for an equal seed."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lib.phantoms import abdomen, breast, head
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.phantoms.dicom_series import write_dicom_series
from lib.phantoms.scanner import Phantom
from lib.volume import Grid, Volume, read_grid, suffix_of, write_volume

PARAMETERS = "parameters.json"
"""Beside the true masks: what each phantom was drawn with, by its name."""


class Collection(ABC):
    """The sample data of one app; cases are counted from 1.

    Attributes:
        stem: how the names of its images begin.
        patient: how its DICOM patient ids begin.
        cases: how many belong to the project's own sample data.
        dicom_cases: how many of them, at the end, become DICOM.
    """

    stem: ClassVar[str]
    patient: ClassVar[str]
    cases: ClassVar[int]
    dicom_cases: ClassVar[int] = 2

    @abstractmethod
    def parameters(self, case_seed: int, number: int, is_dicom: bool) -> Any:
        """What the case is drawn with: a dataclass with the field ``seed``."""

    @abstractmethod
    def draw(self, parameters: Any) -> Phantom:
        """The scan and its truth."""

    def suffix(self, number: int) -> str:
        """File type of a case that is not DICOM."""
        return ".nii.gz"

    def write_dicom(self, path: Path, phantom: Phantom, patient_id: str, parameters: Any) -> None:
        """Writes the image of a case as DICOM into a folder."""
        write_dicom_series(path, phantom.image, phantom.affine, patient_id=patient_id, seed=parameters.seed)


class Abdomens(Collection):
    """Orientations take turns, every fifth is NRRD, the sixth shows kidney only."""

    stem, patient, cases = "abdomen", "LR-PHANTOM", 14

    def parameters(self, case_seed: int, number: int, is_dicom: bool) -> abdomen.AbdomenParameters:
        """The axes of DICOM cases point to left, back and head as a CT scanner stores them."""
        orientation = "LPS" if is_dicom else abdomen.ORIENTATIONS[number % len(abdomen.ORIENTATIONS)]
        return abdomen.random_parameters(case_seed, orientation, "lower" if number % 10 == 6 else "whole")

    def draw(self, parameters: abdomen.AbdomenParameters) -> Phantom:
        """An abdomen."""
        return abdomen.draw_abdomen(parameters)

    def suffix(self, number: int) -> str:
        """NRRD now and then."""
        return ".nrrd" if number % 5 == 3 else ".nii.gz"


class Heads(Collection):
    """Every third head has no bleed; the others show each kind alone first, then several together."""

    stem, patient, cases = "head", "LR-HEAD", 12
    bleeds: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("IPH",), ("SDH",), (), ("EDH",), ("SAH",), (), ("IVH",), ("IPH", "IVH"), (), ("SAH", "SDH"),
        ("EDH", "IPH", "SAH"), (),
    )  # fmt: skip

    def parameters(self, case_seed: int, number: int, is_dicom: bool) -> head.HeadParameters:
        """Three of four point to left, back and head as CT does; the others are stored like converted research data."""
        orientation = "RAS" if number % 4 == 2 and not is_dicom else "LPS"
        return head.random_parameters(case_seed, self.bleeds[(number - 1) % len(self.bleeds)], orientation)

    def draw(self, parameters: head.HeadParameters) -> Phantom:
        """A head."""
        return head.draw_head(parameters)


class Breasts(Collection):
    """One view each; every fourth has no mass."""

    stem, patient, cases = "breast", "LR-BREAST", 12

    def parameters(self, case_seed: int, number: int, is_dicom: bool) -> breast.BreastParameters:
        """Both views take turns."""
        drawn = breast.random_parameters(case_seed, "CC" if number % 2 else "MLO")
        return drawn if number % 4 else replace(drawn, masses=())

    def draw(self, parameters: breast.BreastParameters) -> Phantom:
        """A mammogram."""
        return breast.draw_mammogram(parameters)

    def write_dicom(self, path: Path, phantom: Phantom, patient_id: str, parameters: breast.BreastParameters) -> None:
        """A folder with the one image of the case."""
        write_mammogram(
            path, phantom, laterality=parameters.laterality, view=parameters.view, patient_id=patient_id,
            seed=parameters.seed,
        )  # fmt: skip


COLLECTIONS: dict[str, Collection] = {"segmentation": Abdomens(), "hemorrhage": Heads(), "mass": Breasts()}
"""By the name of the app."""


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


def write_cases(folder: Path, app: str, cases: int, seed: int) -> Iterator[str]:
    """Draws the cases of an app into ``folder/APP`` and ``folder/APP-truth``, and names each when it is written.

    The last cases become DICOM; all truth is NIfTI. The parameters are written when all cases are.
    """
    collection = COLLECTIONS[app]
    images, truth = folder / app, folder / f"{app}-truth"
    for one in (images, truth):
        one.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for number in range(1, cases + 1):
        name, is_dicom = f"{collection.stem}_{number:02d}", number > cases - collection.dicom_cases
        case_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        parameters = collection.parameters(case_seed, number, is_dicom)
        phantom = collection.draw(parameters)
        write_volume(truth / f"{name}.nii.gz", Volume(phantom.mask, phantom.affine))
        if is_dicom:
            collection.write_dicom(images / name, phantom, f"{collection.patient}-{number:02d}", parameters)
        else:
            path = images / f"{name}{collection.suffix(number)}"
            write_volume(path, Volume(phantom.image, phantom.affine))
        drawn[name] = asdict(parameters)
        yield name
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in drawn.items())
    (truth / PARAMETERS).write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


def written_volumes(folder: Path, app: str) -> list[WrittenVolume]:
    """Truth and images of an app that lie in a folder, by name; each image has the grid of its truth."""
    truth = folder / f"{app}-truth"
    grids = {path.name.removesuffix(".nii.gz"): read_grid(path) for path in truth.glob("*.nii.gz")}
    found = []
    for path in [*truth.iterdir(), *(folder / app).iterdir()]:
        grid = grids.get(path.name.removesuffix(suffix_of(path.name)))
        if grid is not None:
            sha256, size_bytes = digest(path)
            name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
            found.append(WrittenVolume(name, sha256, size_bytes, grid))
    return sorted(found, key=lambda volume: volume.name)


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file, or of all files of a folder one after the other, by name."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    content = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(content).hexdigest(), len(content)
