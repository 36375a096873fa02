"""Training beside the server: when it starts, what it publishes, and what happens when a process dies."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.serving import learning
from lib.serving.log import log_file
from lib.store.models import ModelState
from lib.training.validate import CaseScore
from scripts.benchmarks.common import ROOT
from tests.serving.conftest import Here
from tests.serving.places import (
    Server,
    is_alive,
    mask_bytes,
    put_images,
    put_label,
    server,
    stopped,
    until,
)

MODEL = "/model/versions/segmentation"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, weights: bytes) -> Iterator[Server]:
    """A server that trains for two seconds after four corrections."""
    folder = tmp_path_factory.mktemp("training")
    put_images(folder / "studies", 12)
    with server(folder / "studies", folder / "data", {"train_after": "4", "train_seconds": "2"}) as started:
        yield started


def versions(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get(MODEL)
    return found


def infer(server: Server, image_id: str) -> dict[str, Any]:
    params: dict[str, Any] = server.post("/infer/segmentation", image=image_id, output="json")
    return params


# With processes. The order matters: each test leaves the server as the next one needs it.


def test_training_starts_by_itself_after_enough_corrections(process: Server) -> None:
    for number in range(5):
        process.post("/activelearning/first", {"client_id": "kim"})
        saved = process.submit(f"case_{number:02d}", number, "kim")
        assert ("training" in saved) is (number == 3)
        assert saved["split"] == ("validation" if number == 4 else "training")

    assert process.ended()["status"] == "DONE"
    assert [version["state"] for version in versions(process)] == ["serving"]
    outcome = r"Job [0-9a-f-]{36} \(train\): Version 1 is serving: "
    until(lambda: re.search(outcome, log_file(process.data).read_text()), what="the outcome in the log")


def test_the_next_draft_is_made_by_the_new_version_without_a_restart(process: Server) -> None:
    assert infer(process, "case_10")["model_version"] == 1
    process.submit("case_05", 5)
    process.post("/train/segmentation", {"seconds": 2})
    assert process.ended()["status"] == "DONE"
    process.post("/model/serve/segmentation", version=2)

    assert infer(process, "case_10")["model_version"] == 2


def test_every_validation_case_is_measured_by_itself(process: Server) -> None:
    newest = versions(process)[-1]

    assert newest["validated"] is True
    (case,) = newest["metrics"]["cases"]
    assert case["image_id"] == "case_04"
    assert set(case["dice"]) == {"Anterior", "Posterior"}
    assert 0 <= newest["mean_dice"] <= 1


def test_a_stopped_training_publishes_nothing(process: Server) -> None:
    before = versions(process)
    process.submit("case_06", 6)
    process.post("/train/segmentation", {"seconds": 120})
    until(lambda: process.get("/train/")["status"] == "RUNNING", what="the training")

    process.client.delete("/train/")

    assert process.get("/train/")["status"] == "STOPPED"
    # The worker is free again: it does the next job.
    process.post("/scoring/dice", {})
    assert process.ended("/scoring/")["status"] == "DONE"
    assert versions(process) == before


def test_a_killed_inference_process_costs_one_request_a_sentence(process: Server) -> None:
    pid = process.pid_of("inference")
    connection = http.client.HTTPConnection("127.0.0.1", process.client.base_url.port, timeout=60)
    with stopped(pid):
        connection.request("POST", "/infer/segmentation?image=case_11&output=json")
        # It stands still, so the request waits for it when it dies; other requests do not.
        for _ in range(20):
            process.get("/info/")
        os.kill(pid, signal.SIGKILL)
        reply = connection.getresponse()

    assert reply.status == 503
    assert "send the request once more" in json.loads(reply.read())["detail"]
    connection.close()
    assert infer(process, "case_11")["model_version"] == 2
    assert process.pid_of("inference") != pid


def test_a_killed_worker_is_replaced_and_its_job_done_again(process: Server) -> None:
    worker = process.pid_of("worker")
    process.submit("case_07", 7)
    process.post("/train/segmentation", {"seconds": 2, "max_epochs": 1})
    until(lambda: process.get("/train/")["status"] == "RUNNING", what="the training")

    os.kill(worker, signal.SIGKILL)

    job = process.ended()
    assert job["status"] == "DONE"
    assert "The worker stopped in attempt 1 of 2." in job["details"]


def test_a_second_server_on_the_same_data_says_who_has_it(process: Server) -> None:
    command = [sys.executable, "-m", "lib.serving", "--studies", str(process.studies), "--data", str(process.data)]

    second = subprocess.run(
        [*command, "--conf", "labels", "Anterior,Posterior"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert second.returncode == 1
    assert f"Another server (process {process.pid}) uses {process.data}" in second.stderr
    assert process.get("/info/")


def test_a_killed_server_leaves_no_process_and_publishes_nothing_afterwards(process: Server) -> None:
    before = versions(process)
    children = process.children()
    assert len(children) >= 2
    process.submit("case_08", 8)
    process.post("/train/segmentation", {"seconds": 120})
    until(lambda: process.get("/train/")["status"] == "RUNNING", what="the training")

    os.kill(process.pid, signal.SIGKILL)

    until(lambda: not any(is_alive(child) for child in children), what="the end of the orphans")
    with server(process.studies, process.data, {"train_after": "0"}) as again:
        assert versions(again) == before
        assert again.get("/train/")["status"] in ("SUBMITTED", "RUNNING")
        again.client.delete("/train/")
        # Ctrl-C ends all that the server started.
        started = again.children()
        os.kill(again.pid, signal.SIGINT)
        until(lambda: not any(is_alive(child) for child in [again.pid, *started]), what="the end of everything")


# In the process of the tests.


def label_all(here: Here, count: int) -> None:
    for number in range(count):
        here.client.post("/activelearning/first", json={"client_id": "kim"})
        put_label(here.client, f"case_{number:02d}", mask_bytes(number), client_id="kim")


def test_a_request_joins_the_job_that_waits(here: Here) -> None:
    label_all(here, 2)
    first = here.client.post("/train/segmentation", json={"seconds": 2}).json()

    assert here.client.post("/train/segmentation", json={"seconds": 2}).json()["id"] == first["id"]
    assert here.client.post("/train/segmentation", json={"seconds": 5}).json()["id"] != first["id"]


def test_training_never_starts_by_itself_when_told_so(open_app: Callable[..., Here]) -> None:
    here = open_app(images=6, train_after="0")

    label_all(here, 6)

    assert here.client.get("/train/").json()["status"] == "IDLE"


def test_corrections_count_from_the_last_training_on(open_app: Callable[..., Here]) -> None:
    here = open_app(images=5, train_after="2")

    started = [
        "training" in put_label(here.client, f"case_{number:02d}", mask_bytes(number)) for number in range(5)
    ]  # fmt: skip

    assert started == [False, True, False, True, False]


def test_a_draft_is_stored_once(here: Here, weights: bytes) -> None:
    here.put_weights(weights)
    first = here.client.post("/infer/segmentation?image=case_00&output=json").json()
    here.app.drafting.compute = None  # type: ignore[assignment]

    second = here.client.post("/infer/segmentation?image=case_00&output=json").json()

    assert second["annotation_version"] == first["annotation_version"] == 1
    assert second["latencies"]["total"] == 0.0
    (only,) = here.client.get("/datastore/label/history?image=case_00").json()
    assert (only["author"], only["stage"], only["role"]) == ("model:segmentation@v1", "draft", "model")


def test_many_requests_for_one_draft_compute_it_once(here: Here, weights: bytes) -> None:
    here.put_weights(weights)
    compute, computed = here.app.drafting.compute, []

    def counted(order: Any) -> Any:
        computed.append(order)
        return compute(order)

    here.app.drafting.compute = counted
    asking = [threading.Thread(target=here.app.drafting.of_image, args=("case_00",)) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()

    assert len(computed) == 1


def test_the_draft_of_a_file_is_not_stored(here: Here, weights: bytes) -> None:
    here.put_weights(weights)

    reply = here.client.post("/infer/segmentation?output=json", files={"file": ("a.nii.gz", mask_bytes(3))})

    assert reply.json()["stored"] is False
    assert here.client.get("/datastore/label/history?image=case_00").json() == []


def test_a_draft_whose_mask_is_no_longer_kept_is_made_again(here: Here, weights: bytes) -> None:
    here.put_weights(weights)
    here.client.post("/infer/segmentation?image=case_00")
    (draft,) = here.app.record.annotations.history("case_00")
    here.app.record.masks.path(draft.mask or "").unlink()

    assert here.client.post("/infer/segmentation?image=case_00").status_code == 200


def scored(dice: float) -> list[CaseScore]:
    return [CaseScore("case_04", {"Anterior": dice, "Posterior": dice}, {"Anterior": 1.0, "Posterior": 1.0})]


def train_with(here: Here, monkeypatch: pytest.MonkeyPatch, new: float, before: float) -> dict[str, Any]:
    """Trains with a network that is not trained, and with chosen scores; returns the new version."""
    from lib.networks.checkpoint import Checkpoint

    serving = here.app.record.models.serving()
    assert serving is not None
    start = Checkpoint.from_bytes(here.app.record.weights.get(serving.weights))
    monkeypatch.setattr(learning, "finetune", lambda *arguments: Checkpoint(start.plan, dict(start.weights)))
    results = iter([scored(new), scored(before)])
    monkeypatch.setattr(learning, "validate", lambda *arguments: next(results))
    here.client.post("/train/segmentation", json={"seconds": 1})
    here.work()
    job = here.client.get("/train/").json()
    assert job["status"] == "DONE", job
    found: dict[str, Any] = here.client.get(MODEL).json()[-1]
    return found


@pytest.mark.parametrize(
    ("new", "before", "state"), [(0.9, 0.8, ModelState.SERVING), (0.7, 0.8, ModelState.KEPT)]
)  # fmt: skip
def test_a_version_serves_only_if_it_is_no_worse(
    open_app: Callable[..., Here],
    weights: bytes,
    monkeypatch: pytest.MonkeyPatch,
    new: float,
    before: float,
    state: Any,
) -> None:
    here = open_app(images=5)
    here.put_weights(weights)
    label_all(here, 5)

    version = train_with(here, monkeypatch, new, before)

    assert version["state"] == state
    assert version["parent"] == 1
    assert here.client.get("/model/info/segmentation").json()["version"] == (2 if state is ModelState.SERVING else 1)


def test_each_training_has_a_seed_of_its_own_which_its_log_and_its_version_tell(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    finetune = learning.finetune

    def noted(cases: Any, start: Any, task: Any, options: Any, *more: Any) -> Any:
        used.append(options.seed)
        return finetune(cases, start, task, options, *more)

    monkeypatch.setattr(learning, "finetune", noted)
    here = open_app(images=2)
    label_all(here, 2)
    lines = []
    for _ in range(3):
        job = here.client.post("/train/segmentation", json={"seconds": 60, "max_epochs": 1}).json()
        here.work()
        lines += [line for line in here.client.get(f"/jobs/{job['id']}").json()["details"] if "seed" in line]

    versions = here.client.get(MODEL).json()

    assert len(set(used)) == 3
    assert [version["metrics"]["seed"] for version in versions] == used
    assert [line.rpartition(" from ")[2] for line in lines] == [f"seed {seed}." for seed in used]


def test_a_case_with_a_damaged_image_is_left_out_and_named(open_app: Callable[..., Here]) -> None:
    here = open_app(images=4)
    label_all(here, 4)
    path = here.studies / "case_02.nii.gz"
    path.write_bytes(path.read_bytes()[:3000])

    here.client.post("/train/segmentation", json={"seconds": 1, "max_epochs": 1})
    here.work()

    job = here.client.get("/train/").json()
    assert job["status"] == "DONE", job
    assert any(line.startswith("case_02 is left out:") for line in job["details"])


def test_what_a_version_learned_is_that_of_training_cases_only(open_app: Callable[..., Here]) -> None:
    here = open_app(images=5)
    label_all(here, 5)
    here.client.post("/train/segmentation", json={"seconds": 1, "max_epochs": 1})

    here.work()

    (version,) = here.app.record.models.every()
    assert sorted(image for image, _ in version.training) == ["case_00", "case_01", "case_02", "case_03"]
    assert [image for image, _ in version.validation] == ["case_04"]
    assert np.isfinite(version.metrics["mean_dice"])


def test_the_weights_of_one_server_serve_at_another(here: Here, weights: bytes, tmp_path: Path) -> None:
    here.put_weights(weights)

    downloaded = here.client.get("/model/segmentation").content

    here.put_weights(downloaded)
    assert here.client.get("/model/info/segmentation").json()["version"] == 2
