"""The report on an annotator as a picture."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

PANELS = {"volume_percent": "volume against the expert's (%)", "shift_mm": "boundary shift (mm, + outwards)"}
"""Title of the panel of each figure that has a mean."""

CASE_COLOUR, MEAN_COLOUR, ZERO_COLOUR = "#8fb8c4", "#2b6777", "#888888"
MISSED_COLOUR, INVENTED_COLOUR = "#c8553d", "#e0a458"

MARKS = ("a case", "mean", "95 % interval of the mean")
"""What dots, diamonds and bars stand for."""

DRAWING = threading.Lock()


def plot(report: Mapping[str, Any]) -> bytes:
    """A PNG with a row for each structure: every case as a dot, the mean with its 95 % interval, and components.

    Nothing of it is shared between threads (no ``pyplot``), and no name of a person or an image stands in it.

    Args:
        report: as ``lib.serving.bias_report.report`` gives it.
    """
    # It takes a second to load, which nobody should wait for who asks for no plot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(report["structures"])
    figure = Figure(figsize=(11, 1.6 + 0.6 * max(len(names), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=False):
        axes.set_title(title, fontsize=10)
        axes.axvline(0, color=ZERO_COLOUR, linewidth=1)
        for row, name in enumerate(names):
            _row(axes, row, report, name, key)
    _components(panels[-1], report)
    # Names are people's own words: a dollar sign in them begins no formula.
    told = [f"{name} (n={report['structures'][name]['cases']})" for name in names]
    panels[0].set_yticks(range(len(names)), told, parse_math=False)
    panels[0].set_ylim(max(len(names), 1) - 0.5, -0.5)
    if names:
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend([*_marks(), *handles], [*MARKS, *labels], loc="outside lower center", ncols=5, fontsize=8)
    content = io.BytesIO()
    # One at a time: a picture takes half a second of a core, which other requests need as well.
    with DRAWING:
        figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


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

    axes.set_title("components missed and invented", fontsize=10)
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
