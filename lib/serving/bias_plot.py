"""The report on an annotator as a picture."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANELS = {
    "volume_percent": ("volume", "larger (+) or smaller (−) than the expert's (%)"),
    "shift_mm": ("boundary", "outside (+) or inside (−) the expert's (mm)"),
}
"""Title and label of the panel of each figure that has a mean."""

COMPONENTS = ("components", "number in all cases together")

CASE_COLOUR, MEAN_COLOUR, ZERO_COLOUR = "#8fb8c4", "#2b6777", "#888888"
MISSED_COLOUR, INVENTED_COLOUR = "#c8553d", "#e0a458"

MARKS = ("a case", "mean", "95 % interval of the mean")
"""What dots, diamonds and bars stand for."""

DRAWING = threading.Lock()


def plot(report: Mapping[str, Any]) -> bytes:
    """The figure as a PNG.

    Args:
        report: as ``lib.serving.bias_report.report`` gives it.
    """
    content = io.BytesIO()
    figure = figure_of(report)
    # One at a time: a picture takes half a second of a core, which other requests need as well.
    with DRAWING:
        figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def figure_of(report: Mapping[str, Any]) -> Figure:
    """A row for each structure: every case as a dot, the mean with its 95 % interval, and components.

    At the right of a panel stands how many cases are in it: a figure is undefined where a mask is empty. Nothing of
    the figure is shared between threads (no ``pyplot``), and no name of a person or an image stands in it.

    Args:
        report: as ``lib.serving.bias_report.report`` gives it.
    """
    # It takes a second to load, which nobody should wait for who asks for no plot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    structures = report["structures"]
    names = list(structures)
    figure = Figure(figsize=(11, 1.8 + 0.6 * max(len(names), 1)), layout=ConstrainedLayoutEngine(w_pad=0.12))
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, sharey=True)
    for axes in panels[1:]:
        axes.tick_params(left=False)
    for axes, (key, words) in zip(panels, PANELS.items(), strict=False):
        _label(axes, words, [structures[name][key]["n"] for name in names])
        axes.axvline(0, color=ZERO_COLOUR, linewidth=1)
        for row, name in enumerate(names):
            _row(axes, row, report, name, key)
    _label(panels[-1], COMPONENTS, [structures[name]["cases"] for name in names])
    _components(panels[-1], report)
    # Names are people's own words: a dollar sign in them begins no formula.
    panels[0].set_yticks(range(len(names)), names, parse_math=False)
    panels[0].set_ylim(max(len(names), 1) - 0.5, -0.5)
    panels[0].set_ylabel("structure")
    if names:
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend([*_marks(), *handles], [*MARKS, *labels], loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _label(axes: Axes, words: tuple[str, str], cases: Sequence[int]) -> None:
    """Says what a panel shows, its unit, and how many cases of each structure are in it."""
    title, unit = words
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(cases)), [f"n={count}" for count in cases], fontsize=8)
    beside.tick_params(length=0)


def _marks() -> list[Line2D]:
    """A sample of each of ``MARKS``."""
    from matplotlib.lines import Line2D

    looks: list[dict[str, Any]] = [
        {"marker": "o", "linestyle": "", "color": CASE_COLOUR, "markersize": 4},
        {"marker": "D", "linestyle": "", "color": MEAN_COLOUR, "markersize": 7},
        {"linewidth": 3, "color": MEAN_COLOUR},
    ]
    return [Line2D([], [], **look) for look in looks]


def _row(axes: Axes, row: int, report: Mapping[str, Any], name: str, key: str) -> None:
    values = [case["structures"][name][key] for case in report["rows"] if name in case["structures"]]
    defined = [value for value in values if value is not None]
    # Dots above each other, or many cases would look like a few.
    heights = [row - 0.25 + 0.1 * (number % 6) for number in range(len(defined))]
    axes.plot(defined, heights, "o", color=CASE_COLOUR, markersize=4)
    spread = report["structures"][name][key]
    if spread["mean"] is not None:
        axes.plot([spread["mean"]], [row], "D", color=MEAN_COLOUR, markersize=7)
    if None not in spread["interval"]:
        axes.plot(spread["interval"], [row, row], color=MEAN_COLOUR, linewidth=3)


def _components(axes: Axes, report: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = range(len(report["structures"]))
    most = 1
    for offset, key, colour in ((-0.2, "missed", MISSED_COLOUR), (0.2, "invented", INVENTED_COLOUR)):
        counts = [figures[key] for figures in report["structures"].values()]
        most = max([most, *counts])
        bars = axes.barh([row + offset for row in rows], counts, 0.36, color=colour, label=key)
        # Where there is no bar, a 0 says that there was nothing to count.
        axes.bar_label(bars, padding=3, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, 1.1 * most)
