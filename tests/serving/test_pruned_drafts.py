"""A draft whose mask was pruned is computed again when its model serves again, and stops nobody meanwhile."""

from __future__ import annotations

from lib.store.prune import prune_drafts
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label


def draft(here: Here) -> None:
    response = here.client.post("/infer/segmentation?image=case_00&output=image")
    assert response.status_code == 200, response.text


def versions(here: Here) -> list[tuple[int | None, bool]]:
    """Model version of each draft, and whether its mask is kept."""
    return [(a.model_version, a.mask is not None) for a in here.app.record.annotations.history("case_00")]


def test_a_pruned_draft_is_computed_again_after_going_back_to_its_model(here: Here, weights: bytes) -> None:
    for _ in range(2):
        here.put_weights(weights)
        draft(here)
    # Equal weights make equal masks, which one file holds: the newest draft keeps it.
    assert prune_drafts(here.app.record) == 0
    assert versions(here) == [(1, False), (2, True)]

    assert here.client.post("/model/serve/segmentation?version=1").status_code == 200
    draft(here)
    draft(here)

    assert versions(here) == [(1, False), (2, True), (1, True)]


def test_scoring_passes_over_drafts_whose_mask_is_no_longer_kept(here: Here, weights: bytes) -> None:
    here.put_weights(weights)
    draft(here)
    put_label(here.client, "case_00", mask_bytes(0), parent=1)
    put_label(here.client, "case_01", mask_bytes(1))
    draft_of_01 = here.client.post("/infer/segmentation?image=case_01&output=image")
    assert draft_of_01.status_code == 200
    here.app.record.models.retire("dr.kim")
    prune_drafts(here.app.record)

    job = here.client.post("/scoring/dice", json={}).json()
    here.work()

    result = here.client.get(f"/jobs/{job['id']}").json()
    assert result["status"] == "DONE", result
    found = here.app.record.jobs.get(job["id"]).result["images"]
    assert list(found) == ["case_00"]
