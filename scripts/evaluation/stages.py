"""Pictures of how a rough mask becomes the expert's: the draft, the mask of every stage, and the expert's outline."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from lib.metrics.overlap import dice_over_structures
from lib.volume import Array, Volume
from scripts.evaluation.cases import Case
from scripts.evaluation.overlays import PLANES, TRUTH_COLOUR, grey_window, in_ras, outline, worst_slice

MASK_COLOUR = "orange"
"""Of the draft and of the stages; the expert's outline is ``TRUTH_COLOUR``."""


@dataclass(frozen=True)
class Refined:
    """One image with what was made of its draft.

    Attributes:
        image_id: stands above.
        volume: the image.
        masks: uint8 (I, J, K) by the title of their panel: the draft, then each stage.
        truth: the expert's mask; ``None``: there is none.
    """

    image_id: str
    volume: Volume
    masks: dict[str, Array]
    truth: Array | None = None


def draw_stages(cases: Sequence[Refined], window_hu: tuple[float, float] | None = None) -> bytes:
    """A PNG with a row for each image and a panel for each of its masks, with its Dice if there is a truth.

    Shown is the slice in which draft and truth, or without one draft and last stage, differ most. The Dice is that of
    the whole mask, the mean over the structures of the truth.

    Args:
        cases: at least one.
        window_hu: what becomes black and white; ``None``: the 1st and 99th percentile of the slice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = max(len(case.masks) for case in cases)
    figure = Figure(figsize=(3 * columns, 3.3 * len(cases) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(cases), columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for case, row in zip(cases, panels, strict=True):
        _row(row, case, window_hu)
    shown = {"draft or stage": (MASK_COLOUR, "solid"), "expert": (TRUTH_COLOUR, "dashed")}
    handles = [Line2D([], [], color=colour, linestyle=style, label=name) for name, (colour, style) in shown.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, facecolor="black", labelcolor="white")
    content = io.BytesIO()
    # Titles of several lines may lie outside of what the layout reckons with.
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    return content.getvalue()


def _row(row: Array, case: Refined, window_hu: tuple[float, float] | None) -> None:
    """Draws the panels of an image."""
    grid, masks = case.volume.grid, list(case.masks.values())
    target = case.truth if case.truth is not None else masks[-1]
    shown = worst_slice(Case(grid, target, masks[0], frozenset()), case.volume)
    assert shown.image is not None
    darkest, brightest = window_hu or grey_window(shown.image)
    aspect = shown.spacing_mm[1] / shown.spacing_mm[0]
    for axes, (title, mask) in zip(row, case.masks.items(), strict=False):
        axes.imshow(shown.image.T, cmap="gray", origin="lower", aspect=aspect, vmin=darkest, vmax=brightest)
        outline(axes, in_ras(mask, grid).take(shown.number, shown.axis), MASK_COLOUR, "solid")
        if case.truth is not None:
            outline(axes, shown.truth, TRUTH_COLOUR, "dashed")
            title += f"\nDice {dice_over_structures(case.truth, mask):.2f}"
        # As radiologists look at it: the patient's right, or front, on the viewer's left.
        axes.invert_xaxis()
        axes.set_title(title, fontsize=9, parse_math=False)
    place = f"{case.image_id}, {PLANES[shown.axis]} slice {shown.number + 1}"
    row[0].set_title(f"{place}\n{row[0].get_title()}", fontsize=9, parse_math=False)
