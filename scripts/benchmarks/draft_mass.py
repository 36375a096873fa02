"""The rule-based mass draft, on fresh phantoms and on the films of mini-MIAS: how many masses it finds."""

from __future__ import annotations

import gzip
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lib.drafts.mass import Candidate
    from lib.phantoms.scanner import Phantom
    from lib.volume import Volume

MIAS_MM, MIAS_PIXELS = 0.2, 1024
MIAS_MASSES = ("CIRC", "SPIC", "MISC")
"""Classes of mini-MIAS that count as masses; ARCH and ASYM are told by themselves, CALC is left out."""


class Found(NamedTuple):
    """A mass of a phantom that was hit, or a candidate beside all masses (``rank`` is that of the candidate)."""

    score: float
    rank: int
    is_mass: bool


def on_phantoms(seeds: Sequence[int]) -> dict[str, Any]:
    """Sensitivity against false positives per image, and Dice of the drafts of images with a mass."""
    from tqdm import tqdm

    from lib.drafts.mass import candidates, mass
    from lib.phantoms.breast import draw_mammogram, random_parameters
    from lib.task import Task, numbered
    from lib.volume import Volume

    task = Task("mass", "Breast masses", numbered(["mass"]))
    count, masses = len(seeds), 0
    found: list[Found] = []
    dice, seconds = [], []
    for one in tqdm(seeds, desc="mammograms"):
        parameters = random_parameters(one)
        phantom = draw_mammogram(parameters)
        volume = Volume(phantom.image, phantom.affine)
        begin = time.monotonic()
        draft = mass(volume, task)
        seconds.append(time.monotonic() - begin)
        found += compared(phantom, candidates(volume))
        masses += len(parameters.masses)
        if parameters.masses:
            dice.append(2 * float((draft & phantom.mask).sum()) / float(draft.sum() + phantom.mask.sum()))
    hits = [one for one in found if one.is_mass]
    return {
        "images": count,
        "images_with_mass": len(dice),
        "masses": masses,
        "sensitivity_at_fp_per_image": {
            str(rate): sensitivity(found, masses, rate * count) for rate in (0.25, 0.5, 1.0, 2.0)
        },
        "among_best": {str(best): sum(hit.rank < best for hit in hits) / masses for best in (1, 3)},
        "draft_dice": {
            "mean": mean(dice),
            "median": median(dice),
            "where_it_overlaps": mean([value for value in dice if value > 0] or [math.nan]),
            "without_overlap": sum(value == 0 for value in dice),
        },
        "draft_seconds": median(seconds),
    }


def compared(phantom: Phantom, ranked: Sequence[Candidate]) -> list[Found]:
    """Each mass by the first candidate whose centre lies in it, and all candidates beside the masses."""
    from scipy.ndimage import label

    pieces, _ = label(phantom.mask[:, :, 0])
    hit: set[int] = set()
    found = []
    for rank, candidate in enumerate(ranked):
        i, j = (min(round(middle), length - 1) for middle, length in zip(candidate.centre, pieces.shape, strict=True))
        piece = int(pieces[i, j])
        if piece not in hit:
            found.append(Found(candidate.score, rank, piece > 0))
        if piece:
            hit.add(piece)
    return found


def sensitivity(found: Sequence[Found], masses: int, false_positives: float) -> float:
    """Share of the masses with a higher score than the first candidate that would be one false positive too many."""
    wrong = sorted((one.score for one in found if not one.is_mass), reverse=True)
    allowed = int(false_positives)
    limit = wrong[allowed] if allowed < len(wrong) else -math.inf
    return sum(one.is_mass and one.score > limit for one in found) / masses


def on_dataset(folder: Path) -> dict[str, Any]:
    """Share of the lesions of mini-MIAS whose circle holds the centre of the best, or of one of the best three."""
    from tqdm import tqdm

    from lib.drafts.mass import candidates

    lesions = mias_lesions(folder / "Info.txt")
    hits: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    seconds = []
    for name, volume in tqdm(list(mias_films(folder, lesions)), desc="films"):
        begin = time.monotonic()
        ranked = candidates(volume)[:3]
        seconds.append(time.monotonic() - begin)
        for kind, column, row, radius in lesions[name]:
            inside = [math.dist(candidate.centre, (column, row)) <= radius for candidate in ranked]
            hits[kind].append((any(inside[:1]), any(inside)))
    hits["masses"] = [hit for kind in MIAS_MASSES for hit in hits.get(kind, [])]
    rows = {
        kind: {
            "lesions": len(all_hits),
            "best": mean(a for a, _ in all_hits),
            "best_three": mean(b for _, b in all_hits),
        }
        for kind, all_hits in hits.items()
        if all_hits
    }
    return {"films": len(seconds), "seconds": median(seconds), "hit": rows}


def mias_lesions(info: Path) -> dict[str, list[tuple[str, int, int, int]]]:
    """Class, column, row and radius in pixels of the lesions of each film; those without coordinates are left out."""
    lesions: dict[str, list[tuple[str, int, int, int]]] = defaultdict(list)
    for line in info.read_text(encoding="latin-1").splitlines():
        words = line.split()
        if len(words) == 7 and words[0].startswith("mdb") and words[2] != "CALC":
            name, _, kind, _, x, y, radius = words
            # Rows are counted from the bottom there.
            lesions[name].append((kind, int(x), MIAS_PIXELS - 1 - int(y), int(radius)))
    return lesions


def mias_films(folder: Path, lesions: dict[str, Any]) -> Iterator[tuple[str, Volume]]:
    """The films with lesions, packed or not, with their true pixel size."""
    import numpy as np

    from lib.volume import Volume, read_volume

    for path in sorted([*folder.glob("*.pgm"), *folder.glob("*.pgm.gz")]):
        name = path.name.partition(".")[0]
        if name not in lesions:
            continue
        with tempfile.TemporaryDirectory() as unpacked:
            content = path.read_bytes()
            plain = Path(unpacked) / f"{name}.pgm"
            plain.write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
            yield name, Volume(read_volume(plain).voxels, np.diag([-MIAS_MM, -MIAS_MM, 1, 1]))
