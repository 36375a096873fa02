"""A day of drawing by a scripted annotator, with reloads, slow saves, lost replies and a restart: nothing is lost.

``DAYS`` and ``CASES_A_DAY`` make it longer: ``DAYS=50 CASES_A_DAY=10 pytest tests/e2e/test_annotators_day.py``.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import BrowserContext, Route

from scripts.benchmarks.common import free_port, served
from tests.e2e.browser import Viewer
from tests.serving.places import CONF, STRUCTURES, image_bytes

DAYS = int(os.environ.get("DAYS", "1"))
CASES = int(os.environ.get("CASES_A_DAY", "1"))

SIZE = (64, 48, 12)

SLOW_SECONDS = 0.5

STROKES = 3


class Desk:
    """A server that can be started anew at the same address."""

    def __init__(self, studies: Path, data: Path) -> None:
        self.studies, self.data, self.port = studies, data, free_port()
        self.running = ExitStack()

    def __enter__(self) -> Desk:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running.close()

    def start(self) -> None:
        self.running.enter_context(served(self.studies, self.data, CONF, port=self.port))

    def restart(self) -> None:
        self.running.close()
        self.start()

    def history(self, image: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = httpx.get(
            f"http://127.0.0.1:{self.port}/datastore/label/history", params={"image": image}, timeout=60
        ).json()
        return found


@dataclass
class Annotator:
    """Draws on one case and is disturbed by chance."""

    desk: Desk
    screen: Viewer
    image: str
    chance: random.Random

    def __post_init__(self) -> None:
        # So far apart that each stroke marks something new.
        places = [(across / 10, down / 10) for across in (3, 5, 7) for down in (3, 5, 6)]
        self.places = self.chance.sample(places, STROKES)

    def draw(self) -> None:
        self.screen.choose(self.chance.choice(STRUCTURES))
        self.screen.brush(*self.places.pop())

    def take_back(self) -> None:
        """Opens the drawing that the page has lost, if there is one."""
        drawn = self.drawn
        self.screen.is_open(self.image)
        if drawn != self.screen.voxels():
            self.screen.take("copy", "Open it")
            self.screen.says("message", "Your drawing is open again")
            self.screen.is_open(self.image)
        assert self.screen.voxels() == drawn

    def disturb(self) -> None:
        self.drawn = self.screen.voxels()
        how = self.chance.choice(("reload", "close", "save slowly", "lose the reply", "restart", "save"))
        {
            "reload": self.reload,
            "close": self.close,
            "save slowly": lambda: self.save(self.slow),
            "lose the reply": self.lose_the_reply,
            "restart": self.restart,
            "save": lambda: self.save(None),
        }[how]()

    def reload(self) -> None:
        self.screen.page.reload()
        self.take_back()

    def close(self) -> None:
        page = self.screen.page
        self.screen = Viewer(page.context.new_page(), self.screen.address)
        page.close(run_before_unload=True)
        self.screen.go("/open", image=self.image)
        self.take_back()

    def restart(self) -> None:
        self.desk.restart()

    def slow(self, route: Route) -> None:
        time.sleep(SLOW_SECONDS)
        route.continue_()

    def save(self, disturbed: Callable[[Route], None] | None) -> None:
        if disturbed:
            self.screen.page.route("**/dicomweb/studies?*", disturbed)
        self.screen.press("save")
        self.screen.says("message", "version")
        self.screen.is_done()
        self.screen.page.unroute_all()

    def lose_the_reply(self) -> None:
        def lost(route: Route) -> None:
            route.fetch()
            route.abort()

        self.screen.page.route("**/dicomweb/studies?*", lost)
        self.screen.press("save")
        self.screen.is_done()
        self.screen.page.unroute_all()


@pytest.mark.e2e
@pytest.mark.parametrize("day", range(DAYS))
def test_no_stroke_of_a_day_is_lost_and_every_version_knows_what_it_was_made_from(
    day: int, browser: BrowserContext, tmp_path: Path
) -> None:
    chance = random.Random(day)
    (tmp_path / "studies").mkdir()
    for number in range(CASES):
        (tmp_path / "studies" / f"case_{number}.nii.gz").write_bytes(image_bytes(number, SIZE))
    with Desk(tmp_path / "studies", tmp_path / "data") as desk:
        for number in range(CASES):
            screen = Viewer(browser.new_page(), f"http://127.0.0.1:{desk.port}")
            annotator = Annotator(desk, screen, f"case_{number}", chance)
            screen.open_case(annotator.image)
            for _ in range(STROKES):
                annotator.draw()
                annotator.disturb()
            annotator.save(None)
            drawn = annotator.screen.voxels()
            annotator.screen.open_case(annotator.image)
            assert annotator.screen.voxels() == drawn
            annotator.screen.page.close()

            history = desk.history(annotator.image)
            # One person draws on from what was saved last; nothing is saved twice.
            assert [one["parent"] for one in history] == [None, *range(1, len(history))]
            assert history[-1]["voxels"] == {name: len(drawn.get(name, ())) for name in STRUCTURES}
