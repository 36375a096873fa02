"""Numbers for Prometheus: requests as they come, everything else as it stands when somebody asks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from lib.stages import Role
from lib.store.comparisons import Corrected
from lib.store.jobs import JobKind

if TYPE_CHECKING:
    from lib.serving.loop import LabelingLoop

PREFIX = "label_refinery"

REQUESTS = CollectorRegistry()

REQUEST_COUNT = Counter(
    f"{PREFIX}_requests", "Replies by first part of the path, method and status",
    ["route", "method", "status"], registry=REQUESTS,
)  # fmt: skip

REQUEST_SECONDS = Histogram(
    f"{PREFIX}_request_seconds", "Time until a reply begins", ["route"], registry=REQUESTS,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)  # fmt: skip

AUDIT_FAILURES = Counter(
    f"{PREFIX}_audit_failures", "Changes that are missing in the audit; the log tells them", registry=REQUESTS
)

ROUTES = frozenset(
    "activelearning annotations annotators audit auth batch cases datastore dicomweb health infer info jobs logs"
    " metrics model ohif ohif-bar ohif-monai open queue scoring session train".split()
)
"""First parts of our paths; anything else is counted as ``other``, so that no client can invent labels."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
"""The same for methods."""


def count_request(path: str, method: str, status: int, seconds: float) -> None:
    """Counts one reply."""
    first = path.strip("/").partition("/")[0]
    route = first if first in ROUTES else "other"
    REQUEST_COUNT.labels(route, method if method in METHODS else "other", str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)


class _State:
    """A collector of how the data set, the model and the jobs stand."""

    def __init__(self, loop: LabelingLoop) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Asks the record."""
        record = self._loop.record
        images = GaugeMetricFamily(f"{PREFIX}_images", "Images", labels=["state", "standing", "split"])
        for place, count in record.images.counts().items():
            images.add_metric([place.state, place.standing, place.split or ""], count)
        yield images
        serving = record.models.serving()
        yield GaugeMetricFamily(
            f"{PREFIX}_model_version", "Serving model version, 0 if none", value=serving.version if serving else 0
        )
        if serving is not None and serving.metrics.get("mean_dice") is not None:
            dice = serving.metrics["mean_dice"]
            yield GaugeMetricFamily(f"{PREFIX}_validation_dice", "Of the serving model version", value=dice)
        running = GaugeMetricFamily(f"{PREFIX}_jobs_open", "Jobs that run or wait", labels=["kind"])
        for kind in JobKind:
            running.add_metric([kind], record.jobs.count_open(kind))
        yield running
        yield from _corrections(record.comparisons.totals())
        free = shutil.disk_usage(self._loop.settings.data).free
        yield GaugeMetricFamily(f"{PREFIX}_free_bytes", "Room on the disk of the data folder", value=free)


def _corrections(totals: Mapping[Role, Corrected]) -> Iterator[Metric]:
    """How much experts had to draw: the saving is 1 - drawn / outline."""
    for name, what, field in (
        ("corrections", "Expert versions that were made from one by this role", "corrections"),
        ("correction_drawn_mm", "Outlines that experts drew anew", "drawn_mm"),
        ("correction_outline_mm", "All outlines of these expert versions", "outline_mm"),
    ):
        family = GaugeMetricFamily(f"{PREFIX}_{name}", what, labels=["from"])
        for role, corrected in totals.items():
            family.add_metric([role], getattr(corrected, field))
        yield family


def exposition(loop: LabelingLoop) -> str:
    """All numbers in Prometheus' text format."""
    state = CollectorRegistry()
    state.register(_State(loop))
    return (generate_latest(REQUESTS) + generate_latest(state)).decode()
