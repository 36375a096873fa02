"""Servers for the tests of the edge: real processes, and one in the process of the tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lib.networks.checkpoint import Checkpoint
from lib.networks.trial import refuse_unfit
from lib.refinement.learn import RefineOptions, learn_to_refine
from lib.serving import importing, log
from lib.serving.inference import Draftsman
from lib.serving.loop import LabelingLoop
from lib.serving.server import create_server, load_app
from lib.serving.worker import WORK, run_job
from lib.task import Task, numbered
from lib.training.finetune import FinetuneOptions, finetune
from tests.refinement.pairs import pair
from tests.serving.places import CONF, STRUCTURES, Server, put_images, server
from tests.training.shapes import case

APPS = Path(__file__).resolve().parents[2] / "apps"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Lets the processes that the tests start compute with one thread: small networks are no faster with more."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.fixture(scope="session")
def weights() -> bytes:
    """A checkpoint that has learned the two blocks a little."""
    task = Task("segmentation", "Two blocks", numbered(STRUCTURES))
    options = FinetuneOptions(seconds=60.0, max_epochs=2, device="cpu")
    checkpoint: Checkpoint = finetune(
        [case(seed) for seed in range(3)], None, task, options, lambda progress: None, lambda: False
    )
    return checkpoint.to_bytes()


@pytest.fixture(scope="session")
def refiner_weights() -> bytes:
    """A checkpoint of a refiner that has learned the two blocks a little, and need not be sure of what it finds."""
    task = Task("segmentation", "Two blocks", numbered(STRUCTURES))
    options = RefineOptions(seconds=60.0, max_epochs=12, seed=2, device="cpu")
    pairs = [pair(seed) for seed in range(3)]
    learned = learn_to_refine(pairs, None, task, options, lambda progress: None, lambda: False)
    return replace(learned, plan=replace(learned.plan, least_quality=0.0)).to_bytes()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server process with twelve images, of one file of tests alone: others may publish models in it or train."""
    folder = tmp_path_factory.mktemp("running")
    put_images(folder / "studies", 12)
    with server(folder / "studies", folder / "data", {}) as process:
        yield process


@pytest.fixture(autouse=True)
def nobody_refused_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process counts whom it refuses; other tests of this one have been refused before."""
    monkeypatch.setattr(log, "REFUSALS", log.Refusals())


@dataclass
class Here:
    """An app in the process of the tests: no other process runs, drafts and jobs are done when asked for."""

    client: TestClient
    app: LabelingLoop
    studies: Path
    data: Path

    def look(self) -> None:
        """Looks at the folder of studies again."""
        self.app.look()

    def work(self) -> None:
        """Does all waiting jobs."""
        while (job := self.app.record.jobs.claim("tests", tuple(WORK))) is not None:
            run_job(self.app.record, self.app.library, job, lambda: None)
        self.app.refine_jobs.do_all()

    def put_weights(self, content: bytes) -> None:
        """Lets these weights serve."""
        self._put("segmentation", content)

    def put_refiner(self, content: bytes) -> None:
        """Lets these weights refine."""
        self._put("segmentation_refine", content)

    def _put(self, model: str, content: bytes) -> None:
        response = self.client.put(f"/model/{model}", files={"file": ("model.pt", content)})
        assert response.status_code == 200, response.text


@pytest.fixture
def open_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Here]]:
    """Opens the segmentation app on the test's own folders; keywords are settings."""
    # A process of its own takes seconds to start.
    monkeypatch.setattr(importing, "tried", refuse_unfit)
    opened: list[Here] = []

    def open_it(images: int = 2, **conf: str) -> Here:
        studies, data = tmp_path / "studies", tmp_path / "data"
        put_images(studies, images)
        app = load_app(APPS / "segmentation", str(studies), {**CONF, "data": str(data), **conf})
        app.drafting.compute = app.refining.compute = Draftsman().draft
        app.look()
        client = TestClient(create_server(app), base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(Here(client, app, studies, data))
        return opened[-1]

    yield open_it
    for each in opened:
        each.client.close()
        each.app.record.close()


@pytest.fixture
def here(open_app: Callable[..., Here]) -> Here:
    """The segmentation app with two drawn images."""
    return open_app()
