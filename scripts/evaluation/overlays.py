"""Pictures of single cases: the slice where truth and prediction disagree most, with both outlines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import io_orientation

from lib.volume import Array, Grid, Volume, onto_grid
from scripts.evaluation.cases import Case

TRUTH_COLOUR, PREDICTION_COLOUR = "deepskyblue", "orange"
"""Told apart by all kinds of colour vision, on grey."""

PLANES = ("sagittal", "coronal", "axial")
"""By the axis across them: right, anterior, superior."""


@dataclass(frozen=True)
class Slice:
    """What is drawn; rows run to the viewer's right, columns upwards.

    Attributes:
        image: float (X, Y), or ``None`` if there is only the masks.
        truth: uint8 (X, Y).
        prediction: uint8 (X, Y).
        spacing_mm: pixel edges along X, Y.
        number: of the slice along its axis, from 0, in the order right, anterior, superior.
        axis: see ``PLANES``.
    """

    image: Array | None
    truth: Array
    prediction: Array
    spacing_mm: tuple[float, float]
    number: int
    axis: int


def draw(
    path: Path, case: Case, image: Volume | None, title: str, window_hu: tuple[float, float] | None = None
) -> None:
    """Writes the picture of a case as PNG.

    Args:
        path: where to.
        case: both masks.
        image: what they were drawn on, or ``None``.
        title: stands above.
        window_hu: what becomes black and white; ``None``: the 1st and 99th percentile of the slice.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    shown = worst_slice(case, image)
    figure, axes = plt.subplots(figsize=(6, 6.5), layout="constrained")
    background = shown.image if shown.image is not None else np.zeros(shown.truth.shape)
    darkest, brightest = window_hu or grey_window(background)
    aspect = shown.spacing_mm[1] / shown.spacing_mm[0]
    axes.imshow(background.T, cmap="gray", origin="lower", aspect=aspect, vmin=darkest, vmax=brightest)
    outline(axes, shown.truth, TRUTH_COLOUR, "solid")
    outline(axes, shown.prediction, PREDICTION_COLOUR, "dashed")
    # As radiologists look at it: the patient's right, or front, on the viewer's left.
    axes.invert_xaxis()
    axes.set_axis_off()
    axes.set_title(f"{title}\n{PLANES[shown.axis]} slice {shown.number + 1}", fontsize=9)
    figure.legend(
        handles=[
            Line2D([], [], color=TRUTH_COLOUR, label="truth"),
            Line2D([], [], color=PREDICTION_COLOUR, linestyle="dashed", label="prediction"),
        ],
        loc="outside lower center", ncols=2, facecolor="black", labelcolor="white",
    )  # fmt: skip
    figure.savefig(path, dpi=110)
    plt.close(figure)


def worst_slice(case: Case, image: Volume | None) -> Slice:
    """The slice with the most voxels in which the masks differ; without any, the one with most of the truth.

    Slices lie across the axis with the longest voxel edges, as they were taken; axial ones if all edges are equal.
    """
    truth, prediction = in_ras(case.truth, case.grid), in_ras(case.prediction, case.grid)
    spacing_mm = [0.0, 0.0, 0.0]
    for source, (target, _) in enumerate(io_orientation(case.grid.affine)):
        spacing_mm[int(target)] = case.grid.spacing_mm[source]
    axis = max(range(3), key=lambda axis: (truth.shape[axis] == 1, round(spacing_mm[axis], 2), axis))
    others = tuple({0, 1, 2} - {axis})
    differing = np.count_nonzero(truth != prediction, axis=others)
    area = np.count_nonzero(truth, axis=others)
    number = int(np.lexsort((area, differing))[-1])
    voxels = in_ras(onto_grid(image, case.grid, "the case"), case.grid) if image is not None else None
    return Slice(
        image=voxels.take(number, axis).astype(float) if voxels is not None else None,
        truth=truth.take(number, axis),
        prediction=prediction.take(number, axis),
        spacing_mm=(spacing_mm[others[0]], spacing_mm[others[1]]),
        number=number,
        axis=axis,
    )


def in_ras(voxels: Array, grid: Grid) -> Array:
    """The voxels with axes in the order right, anterior, superior, or as near to it as they come."""
    return np.asarray(nib.orientations.apply_orientation(voxels, io_orientation(grid.affine)))


def grey_window(image: Array) -> tuple[float, float]:
    """Grey values from the 1st to the 99th percentile of a slice; 1 apart if they are equal."""
    darkest, brightest = np.nanpercentile(image, (1, 99))
    return float(darkest), float(brightest if brightest > darkest else darkest + 1)


def outline(axes: Any, mask: Array, colour: str, style: str) -> None:
    """Draws the outline of each structure of a mask (X, Y)."""
    # A frame of background closes outlines at the border of the image.
    x, y = (np.arange(-1, size + 1) for size in mask.shape)
    for value in np.unique(mask[mask != 0]):
        axes.contour(x, y, np.pad(mask == value, 1).T.astype(float), [0.5], colors=colour, linestyles=style)
