"""What an app labels: the structures with their values, the modality and how the network sees an image."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.errors import InvalidSetting

BACKGROUND = 0
"""Label value of everything that is no structure."""

NO_STRUCTURES = ("background", "foreground_scribbles", "background_scribbles")
"""Names that 3D Slicer's modules and label maps give to what is no structure."""

MAX_STRUCTURES = 255
"""Masks are uint8 with 0 for the background."""

PALETTE = (
    (183, 120, 84), (75, 66, 255), (228, 246, 39), (66, 183, 228), (129, 255, 201), (30, 102, 174), (210, 120, 30),
    (30, 129, 255), (174, 255, 156), (30, 156, 138), (210, 237, 102), (129, 255, 246), (84, 138, 165), (75, 210, 183),
    (201, 30, 93), (219, 30, 48), (93, 210, 120), (75, 111, 39), (57, 111, 93), (30, 192, 201), (84, 174, 255),
    (30, 183, 120), (66, 228, 255), (147, 183, 75), (156, 30, 210), (201, 183, 30), (66, 102, 147), (201, 48, 201),
)  # fmt: skip
"""Colours (red, green, blue) for structures whose task names none, repeated when they run out.

Told apart by people who see no red or no green as well; the first ones differ most.
"""


REGIONS = ("tissue", "largest")
"""What ``Task.region`` may be."""


@dataclass(frozen=True)
class Structure:
    """A named organ or lesion and the number that stands for it in a mask.

    Attributes:
        name: as annotators see it; compared without regard to case, outer blanks and Unicode form.
        value: label value, 1 to 255.
        colour: red, green, blue, 0 to 255.
        code: SNOMED CT concept id, or empty.
        range: lowest and highest intensity (HU on CT) of its voxels, for a first draft by threshold; ``None``: unknown.
    """

    name: str
    value: int
    colour: tuple[int, int, int]
    code: str = ""
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Task:
    """One labelling task.

    Attributes:
        name: short name, also that of its model and trainer.
        description: one sentence for people.
        structures: in the order of their label values; empty until the settings name them.
        modality: DICOM modality of images whose files name none, for example ``CT`` or ``MR``.
        modalities: those of DICOM images that the task works on; empty: any.
        window_hu: lower and upper bound that become -1 and 1 for the network; ``None``: zero mean and unit
            variance of each image by itself, for modalities without a fixed scale.
        spacing_mm: voxel edges that the network works at; ``None``: the median of the training images.
        region: what a network sees of an image: ``tissue``: all that is no air; ``largest``: only the largest
            connected piece of it, as the head without its holder or the breast without film markers.
        is_flat: images have one slice, as radiographs do.
        network: name in ``lib.networks.segmenter.NETWORKS`` of what is trained from scratch.
        encoder_weights: path of the weight file for a network with a frozen encoder; empty: none.
        patch_voxels: of a training patch at most; ``None``: what suits the network. Smaller ones allow more steps in
            the same time, which structures need that are rare and small.
        loss: name in ``lib.losses.LOSSES`` of what training minimises.
        draft_rule: name in ``lib.drafts.RULES`` of the draft before the first model; empty: there is none.
        flag_ml: volume of all structures together from which a case is flagged, in ml; ``None``: cases are not flagged.
    """

    name: str
    description: str
    structures: tuple[Structure, ...] = ()
    modality: str = "MR"
    modalities: tuple[str, ...] = ()
    window_hu: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    region: str = "tissue"
    is_flat: bool = False
    network: str = "residual_unet"
    encoder_weights: str = ""
    patch_voxels: int | None = None
    loss: str = "dice_ce"
    draft_rule: str = ""
    flag_ml: float | None = None

    def __post_init__(self) -> None:
        """Refuses structures that share a name or a value."""
        names = [name_key(structure.name) for structure in self.structures]
        values = [structure.value for structure in self.structures]
        if len(set(names)) < len(names) or len(set(values)) < len(values):
            raise InvalidSetting(f"Structures must differ in name and value, found {listed(self.structures)}.")
        if not all(names) or any(not 1 <= value <= MAX_STRUCTURES for value in values):
            raise InvalidSetting(
                f"Each structure needs a name and a value from 1 to {MAX_STRUCTURES}, found {listed(self.structures)}."
            )
        if self.region not in REGIONS:
            raise ValueError(f"A task's region is one of {', '.join(REGIONS)}, found {self.region!r}.")

    @property
    def values(self) -> dict[str, int]:
        """Label value by structure name."""
        return {structure.name: structure.value for structure in self.structures}

    @property
    def positions(self) -> dict[str, int]:
        """1, 2, 3 … by structure name, in the order of the label values: how MONAI Label's clients number masks.

        3D Slicer gives the n-th name to the voxels of value n, whatever number stands beside the name.
        """
        by_value = sorted(self.values, key=lambda name: self.values[name])
        return {name: position for position, name in enumerate(by_value, start=1)}

    def structure(self, name: str) -> Structure | None:
        """The structure with this name, whatever its case, or ``None``."""
        return next((s for s in self.structures if name_key(s.name) == name_key(name)), None)


def name_key(name: str) -> str:
    """What two spellings of one structure's name have in common."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def listed(structures: Iterable[Structure]) -> str:
    """``liver=1, spleen=2``, for messages."""
    return ", ".join(f"{structure.name}={structure.value}" for structure in structures) or "none"


def numbered(names: Iterable[str]) -> tuple[Structure, ...]:
    """Structures with the values 1, 2, 3 … in the order given and colours from the palette."""
    return tuple(
        Structure(name.strip(), value, PALETTE[(value - 1) % len(PALETTE)]) for value, name in enumerate(names, start=1)
    )


def with_kept_values(task: Task, recorded: Iterable[Structure]) -> Task:
    """The task with every structure that the record already knows, in the order of their values.

    A structure that is only in the record stays part of the task (its voxels are in stored masks); a new one is
    appended. A known one keeps the spelling of its name, by which stored annotations call it. The caller has already
    refused other values for known names.
    """
    recorded = list(recorded)
    spelling = {name_key(structure.name): structure.name for structure in recorded}
    asked = [replace(s, name=spelling.get(name_key(s.name), s.name)) for s in task.structures]
    kept = [structure for structure in recorded if task.structure(structure.name) is None]
    return replace(task, structures=tuple(sorted((*asked, *kept), key=lambda structure: structure.value)))
