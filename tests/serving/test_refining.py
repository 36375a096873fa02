"""Refining over HTTP: what is refined, what is stored, and what a client is told."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.errors import ComputationInterrupted, RecordAway
from lib.serving import refine_jobs
from lib.serving.inference import Drafted, Order
from lib.serving.refining import Refining
from lib.stages import Role, Stage
from lib.store.annotations import Annotation, NewAnnotation
from lib.volume import Volume, nifti_bytes
from tests.refinement.pairs import rough
from tests.serving.conftest import Here
from tests.serving.places import LABEL_INFO, image_bytes, mask_bytes, put_label, voxels
from tests.serving.test_slicer_contract import parts

REFINE = "/infer/segmentation_refine"


def rough_bytes(seed: int) -> bytes:
    """A rough mask of a drawn image as a NIfTI file."""
    return nifti_bytes(Volume(rough(seed), np.eye(4)))


def refined(here: Here, image: str = "case_00", files: Any = None, **params: Any) -> dict[str, Any]:
    """What the server tells of a refined mask."""
    reply = here.client.post(
        REFINE, params={"image": image, "output": "json"}, data={"params": json.dumps(params)}, files=files
    )
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def history(here: Here, image: str = "case_00") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = here.client.get("/datastore/label/history", params={"image": image}).json()
    return found


def drafted(here: Here, author: str) -> Annotation:
    """A draft of the first image by some program."""
    record = here.app.record
    counts = {"Anterior": int((rough(0) == 1).sum()), "Posterior": int((rough(0) == 2).sum())}
    with record.storing_mask(rough_bytes(0)) as digest:
        new = NewAnnotation("case_00", Stage.DRAFT, author, Role.MODEL, digest, tuple(counts), counts)
        return record.annotations.add(new)


@pytest.fixture
def ready(here: Here, weights: bytes, refiner_weights: bytes) -> Here:
    """A server with a model and a refiner."""
    here.put_weights(weights)
    here.put_refiner(refiner_weights)
    return here


def test_before_a_refiner_serves_it_is_listed_and_says_what_is_missing(here: Here, weights: bytes) -> None:
    here.put_weights(weights)

    listed = here.client.get("/info/").json()["models"]
    assert list(listed) == ["segmentation", "segmentation_refine"]
    assert listed["segmentation_refine"]["config"]["ready"] is False
    reply = here.client.post(REFINE, params={"image": "case_00"})
    assert reply.status_code == 409
    assert "No refiner serves yet: it learns from drafts and what experts made of them" in reply.json()["detail"]


def test_without_an_annotation_the_draft_is_made_and_refined(ready: Here) -> None:
    told = refined(ready)

    draft, last = history(ready)
    assert (draft["author"], draft["stage"]) == ("model:segmentation@v1", "draft")
    assert (last["author"], last["stage"], last["role"]) == ("model:segmentation_refine@v1", "refined", "refiner")
    assert (last["parent"], last["model_version"], last["refiner_version"]) == (1, 1, 1)
    assert (told["stored"], told["annotation_version"], told["parent"], told["model_version"]) == (True, 2, 1, 1)
    assert told["kept"] == last["kept"]
    assert ready.client.get("/info/").json()["models"]["segmentation_refine"]["config"]["ready"] is True


def test_the_current_annotation_is_refined_once(ready: Here) -> None:
    put_label(ready.client, "case_00", rough_bytes(0), client_id="lee")

    first, second = refined(ready), refined(ready)

    assert first["annotation_version"] == second["annotation_version"] == 2
    assert second["latencies"]["total"] == 0.0
    assert [one["parent"] for one in history(ready)] == [None, 1]


def test_two_requests_for_one_mask_at_once_compute_it_once(ready: Here) -> None:
    put_label(ready.client, "case_00", rough_bytes(0), client_id="lee")
    compute, both, computed = ready.app.refining.compute, threading.Barrier(2), []

    def slowly(order: Order) -> Drafted:
        computed.append(order)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=1.0)
        return compute(order)

    ready.app.refining.compute = slowly
    with ThreadPoolExecutor(2) as people:
        versions = [told["annotation_version"] for told in people.map(lambda _: refined(ready), range(2))]

    assert versions == [2, 2]
    assert len(computed) == 1


@pytest.mark.parametrize("author", ["model:OtherAI", "model:segmentation@v0"])
def test_a_programs_draft_that_the_viewer_shows_is_refined_whoever_drafts_now(ready: Here, author: str) -> None:
    drafted(ready, author)

    assert refined(ready)["parent"] == 1
    assert len(history(ready)) == 2


def test_a_programs_draft_is_refined_also_where_nothing_drafts(here: Here, refiner_weights: bytes) -> None:
    here.put_refiner(refiner_weights)
    drafted(here, "model:OtherAI")

    assert refined(here)["parent"] == 1


def test_in_place_of_a_draft_whose_mask_is_no_longer_kept_another_one_is_made_and_refined(ready: Here) -> None:
    draft = drafted(ready, "model:segmentation@v0")
    ready.app.record.masks.path(draft.mask or "").unlink()

    assert refined(ready)["parent"] == 2
    assert [one["author"] for one in history(ready)][1] == "model:segmentation@v1"


def test_a_version_that_is_named_is_refined(ready: Here) -> None:
    for seed in (0, 1):
        put_label(ready.client, "case_00", rough_bytes(seed))

    assert refined(ready, version=1)["parent"] == 1
    # A refined version that is current stands for what it was made from.
    assert refined(ready)["parent"] == 2


def test_a_version_that_is_not_there_is_refused_with_what_is(ready: Here) -> None:
    put_label(ready.client, "case_00", rough_bytes(0))

    reply = ready.client.post(REFINE, params={"image": "case_00"}, data={"params": '{"version": 7}'})

    assert reply.status_code == 404
    assert reply.json()["detail"] == "'case_00' has no version 7 to refine; it has [1]."


def test_another_refiner_refines_the_same_version_anew(ready: Here, refiner_weights: bytes) -> None:
    put_label(ready.client, "case_00", rough_bytes(0))
    refined(ready)

    ready.put_refiner(refiner_weights)

    assert (refined(ready)["annotation_version"], refined(ready)["model_version"]) == (3, 2)


def test_a_mask_of_another_size_that_comes_with_the_request_is_refused(ready: Here) -> None:
    label = {"label": ("rough.nii.gz", nifti_bytes(Volume(rough(0)[:, :, :9], np.eye(4))))}

    reply = ready.client.post(REFINE, params={"image": "case_00"}, files=label)

    assert reply.status_code == 422
    assert "is 24x20x9 voxels" in reply.json()["detail"] and "that of another image" in reply.json()["detail"]


def test_a_mask_that_comes_with_the_request_is_refined_and_not_stored(ready: Here) -> None:
    label = {"label": ("rough.nii.gz", rough_bytes(0))}

    told = refined(ready, files=label, label_info=LABEL_INFO)

    assert told["stored"] is False
    assert set(told["voxels"]) == {"Anterior", "Posterior"}
    assert history(ready) == []


def test_of_an_image_that_is_not_in_the_record_nothing_is_stored(ready: Here) -> None:
    image = {"file": ("new.nii.gz", image_bytes(3))}

    with_mask = refined(ready, "", {**image, "label": ("rough.nii.gz", rough_bytes(3))})
    with_draft = refined(ready, "", image)

    assert with_mask["stored"] is with_draft["stored"] is False


def test_a_mask_on_another_grid_is_refused_with_both(ready: Here) -> None:
    label = {"label": ("rough.nii.gz", mask_bytes(0, (30, 20, 16)))}

    reply = ready.client.post(REFINE, params={"image": "case_00"}, files=label)

    assert reply.status_code == 422
    assert "30x20x16" in reply.json()["detail"]
    assert ready.client.get("/datastore/").json()["quarantined"] == 0


def test_either_a_version_is_named_or_a_mask_is_sent(ready: Here) -> None:
    label = {"label": ("rough.nii.gz", rough_bytes(0))}

    reply = ready.client.post(REFINE, params={"image": "case_00"}, data={"params": '{"version": 1}'}, files=label)

    assert reply.status_code == 422
    assert "version=1 names a mask in the record, but an image or a mask came along" in reply.json()["detail"]


def temporary_files(here: Here) -> list[str]:
    return [path.name for path in here.app.temporary.iterdir()]


def test_what_was_sent_is_deleted_when_the_next_part_is_refused(ready: Here) -> None:
    ready.app.settings = replace(ready.app.settings, max_upload_mib=1)
    files = {"file": ("new.nii.gz", image_bytes(3)), "label": ("rough.nii", bytes(2**20 + 1))}

    reply = ready.client.post(REFINE, files=files)

    assert (reply.status_code, temporary_files(ready)) == (413, [])


@pytest.mark.parametrize("write", ["write_volume", "shutil.copyfile"])
def test_a_mask_that_cannot_be_written_leaves_no_file_behind(
    ready: Here, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    put_label(ready.client, "case_00", rough_bytes(0))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"lib.serving.infer.{write}", full)
    reply = ready.client.post(REFINE, params={"image": "case_00"}, data={"params": '{"result_extension": ".nrrd"}'})

    assert (reply.status_code, temporary_files(ready)) == (507, [])


def test_a_refined_mask_that_was_lost_is_made_again(ready: Here) -> None:
    put_label(ready.client, "case_00", rough_bytes(0))
    refined(ready)
    lost = ready.app.record.masks.path(ready.app.record.annotations.get("case_00", 2).mask or "")
    lost.unlink()

    assert refined(ready)["annotation_version"] == 2 and lost.is_file()


def test_a_lost_mask_cannot_be_refined(ready: Here) -> None:
    put_label(ready.client, "case_00", rough_bytes(0))
    ready.app.record.masks.path(ready.app.record.annotations.get("case_00", 1).mask or "").unlink()

    reply = ready.client.post(REFINE, params={"image": "case_00"})

    assert reply.status_code == 404
    assert "The mask of version 1 of 'case_00' is no longer kept; its row is." in reply.json()["detail"]


def test_every_stage_is_told_and_sent_on_request(ready: Here) -> None:
    put_label(ready.client, "case_00", rough_bytes(0))

    reply = ready.client.post(REFINE, params={"image": "case_00"}, data={"params": '{"stages": true}'})

    found = parts(reply)
    told = json.loads(found["params"].get_payload())
    content = gzip.decompress(found["image"].get_payload(decode=True))
    masks = np.asarray(nib.Nifti1Image.from_bytes(content).dataobj)
    assert masks.shape == (24, 20, 16, 2)
    np.testing.assert_array_equal(masks[..., 0], rough(0))
    counts = [
        {"Anterior": np.count_nonzero(masks[..., stage] == 1), "Posterior": np.count_nonzero(masks[..., stage] == 2)}
        for stage in range(2)
    ]
    assert told["stages"] == counts
    assert (told["stored"], told["annotation_version"]) == (True, 2)


def test_stages_have_no_other_format_than_nifti(ready: Here) -> None:
    params = json.dumps({"stages": True, "result_extension": ".nrrd"})

    reply = ready.client.post(REFINE, params={"image": "case_00"}, data={"params": params})

    assert reply.status_code == 422
    assert "stages=true gives a NIfTI file of four axes" in reply.json()["detail"]


def test_a_structure_that_the_author_did_not_look_at_does_not_appear(ready: Here) -> None:
    anterior = np.where(rough(0) == 1, 1, 0).astype(np.uint8)
    put_label(ready.client, "case_00", nifti_bytes(Volume(anterior, np.eye(4))), structures=["Anterior"])

    assert set(refined(ready)["voxels"]) == {"Anterior"}
    mask = voxels(ready.client.get("/datastore/label?label=case_00&tag=refined").content)
    assert set(np.unique(mask)) <= {0, 1}


def test_the_reason_to_keep_a_draft_is_told_and_stored(ready: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lib.refinement.refine.reasons_to_keep", lambda *seen: {"Anterior": "too odd", "Posterior": "too small"}
    )
    put_label(ready.client, "case_00", rough_bytes(0))

    assert refined(ready)["kept"] == "Anterior: too odd; Posterior: too small"
    assert history(ready)[-1]["kept"] == "Anterior: too odd; Posterior: too small"
    mask = voxels(ready.client.get("/datastore/label?label=case_00&tag=refined").content)
    np.testing.assert_array_equal(mask, rough(0))


def test_a_juniors_save_is_refined_by_a_job_that_the_reply_names(
    open_app: Callable[..., Here], weights: bytes, refiner_weights: bytes
) -> None:
    here = open_app(role="annotator")
    here.put_refiner(refiner_weights)

    saved = put_label(here.client, "case_00", rough_bytes(0), client_id="lee")
    here.work()

    job = here.client.get(f"/jobs/{saved['refining']}").json()
    assert (job["status"], job["result"]["parent"], job["result"]["version"]) == ("DONE", 1, 2)
    assert [(one["author"], one["stage"], one["parent"]) for one in history(here)] == [
        ("lee", "draft", None),
        ("model:segmentation_refine@v1", "refined", 1),
    ]


def test_without_a_refiner_a_juniors_save_asks_for_nothing(open_app: Callable[..., Here]) -> None:
    here = open_app(role="annotator")

    saved = put_label(here.client, "case_00", rough_bytes(0), client_id="lee")

    assert "refining" not in saved


def test_an_experts_save_is_not_refined(ready: Here) -> None:
    assert "refining" not in put_label(ready.client, "case_00", rough_bytes(0))


def test_a_refining_that_fails_leaves_the_juniors_mask_in_the_queue(
    open_app: Callable[..., Here], refiner_weights: bytes
) -> None:
    here = open_app(role="annotator")
    here.put_refiner(refiner_weights)
    saved = put_label(here.client, "case_00", rough_bytes(0), client_id="lee")
    here.client.delete("/model/segmentation_refine")

    here.work()

    job = here.client.get(f"/jobs/{saved['refining']}").json()
    assert job["status"] == "ERROR"
    assert "No refiner serves yet" in job["result"]["error"]
    assert [case["image"] for case in here.client.get("/queue").json()["cases"]] == ["case_00"]


@pytest.fixture
def juniors(open_app: Callable[..., Here], refiner_weights: bytes) -> Here:
    """A server with a refiner at which an annotator works."""
    here = open_app(role="annotator")
    here.put_refiner(refiner_weights)
    return here


def interrupted(here: Here, times: int, before: Callable[[], None] = lambda: None) -> None:
    """Lets the process that computes die over the next orders."""
    compute, left = here.app.refining.compute, [None] * times

    def died(order: Any) -> Any:
        if not left:
            return compute(order)
        left.pop()
        before()
        raise ComputationInterrupted("The inference process stopped.")

    here.app.refining.compute = died


@pytest.mark.parametrize(("times", "status"), [(1, "DONE"), (2, "ERROR")])
def test_a_refining_over_which_the_process_dies_is_tried_once_more(juniors: Here, times: int, status: str) -> None:
    job_id = put_label(juniors.client, "case_00", rough_bytes(0), client_id="lee")["refining"]
    interrupted(juniors, times)

    juniors.work()

    job = juniors.client.get(f"/jobs/{job_id}").json()
    assert (job["status"], len(history(juniors))) == (status, 3 - times)
    assert job["details"][1] == "The worker stopped in attempt 1 of 2."


def test_a_refining_that_the_end_of_the_server_interrupts_waits_for_the_next_start(juniors: Here) -> None:
    job_id = put_label(juniors.client, "case_00", rough_bytes(0), client_id="lee")["refining"]
    interrupted(juniors, 1, before=juniors.app.refine_jobs.stop)

    juniors.work()
    juniors.app.refine_jobs.join()

    job = juniors.client.get(f"/jobs/{job_id}").json()
    assert job["status"] == "SUBMITTED"
    assert job["details"][-1] == "The server stopped; the job goes on after its next start."


def test_a_record_that_was_away_does_not_end_the_refining(juniors: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_again = threading.Event()
    jobs, claims = juniors.app.record.jobs, iter([RecordAway("The database does not answer.")])

    def claim(*_: Any) -> None:
        if (error := next(claims, None)) is not None:
            raise error
        looked_again.set()

    monkeypatch.setattr(jobs, "claim", claim)
    monkeypatch.setattr(refine_jobs, "RETRY_SECONDS", 0.01)
    juniors.app.refine_jobs.start()

    assert looked_again.wait(10)
    juniors.app.refine_jobs.stop()
    juniors.app.refine_jobs.join()


@pytest.mark.parametrize("what", ["replaced", "taken back", "corrected"])
def test_a_mask_that_counts_no_more_when_its_turn_comes_is_not_refined(juniors: Here, what: str) -> None:
    job_id = put_label(juniors.client, "case_00", rough_bytes(0), client_id="lee")["refining"]
    role = Role.ANNOTATOR if what == "replaced" else Role.EXPERT
    juniors.app.settings = replace(juniors.app.settings, role=role)
    if what == "taken back":
        juniors.client.delete("/datastore/label?id=case_00&tag=version_1")
    else:
        put_label(juniors.client, "case_00", rough_bytes(1))

    juniors.work()

    job = juniors.client.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["result"]) == ("DONE", {"image": "case_00", "parent": 1, "version": None})
    assert job["details"][-1] == "Version 1 of 'case_00' is not refined: it was taken back or replaced meanwhile."
    refined = [one["parent"] for one in history(juniors) if one["stage"] == "refined"]
    assert refined == ([2] if what == "replaced" else [])


def test_weights_are_taken_by_the_model_of_their_kind_only(
    here: Here, weights: bytes, refiner_weights: bytes, tmp_path: Path
) -> None:
    for model, content, kind in (
        ("segmentation", refiner_weights, "refiner"),
        ("segmentation_refine", weights, "segmenter"),
    ):
        reply = here.client.put(f"/model/{model}", files={"file": ("model.pt", content)})
        assert reply.status_code == 422
        assert f"The weights are those of a {kind}" in reply.json()["detail"]


def test_both_models_have_versions_of_their_own(ready: Here, weights: bytes) -> None:
    ready.put_weights(weights)

    def versions(model: str) -> list[tuple[int, str]]:
        return [(one["version"], one["state"]) for one in ready.client.get(f"/model/versions/{model}").json()]

    assert versions("segmentation") == [(1, "kept"), (2, "serving")]
    assert versions("segmentation_refine") == [(1, "serving")]
    assert ready.client.get("/model/info/segmentation_refine").json()["version"] == 1
    assert ready.client.post("/model/serve/segmentation_refine?version=2").status_code == 404
    assert ready.client.get("/model/versions/other").status_code == 404


def test_many_masks_are_not_refined_at_once(ready: Here) -> None:
    reply = ready.client.post("/batch/infer/segmentation_refine")

    assert reply.status_code == 422
    assert "masks are refined singly" in reply.json()["detail"]


def test_a_draft_has_no_stages(ready: Here) -> None:
    reply = ready.client.post("/infer/segmentation?image=case_00", data={"params": '{"stages": true}'})

    assert reply.status_code == 422
    assert "A draft has no stages; ask segmentation_refine" in reply.json()["detail"]


def test_what_another_server_refined_and_stored_meanwhile_is_stored_once(ready: Here) -> None:
    annotations = ready.app.record.annotations
    put_label(ready.client, "case_00", rough_bytes(0))
    compute = ready.app.refining.compute

    def meanwhile(order: Any) -> Any:
        Refining(ready.app.drafting, compute).of_image("case_00")
        return compute(order)

    ready.app.refining.compute = meanwhile

    assert refined(ready)["annotation_version"] == 2
    assert [one.role for one in annotations.history("case_00")] == [Role.EXPERT, Role.REFINER]
