"""Training the refiner: from which pairs it learns, when it starts, and when it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lib.metrics.overlap import dice_over_structures
from lib.networks.checkpoint import Checkpoint
from lib.refinement.refine import Refinement, Refiner
from lib.serving import learning_to_refine, pairs
from lib.serving.pairs import Origin, training_pairs, usual_strength, validation_pairs
from lib.stages import Role, Stage
from lib.store.annotations import NewAnnotation
from lib.volume import Array, Volume, nifti_bytes
from tests.refinement.pairs import rough
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label
from tests.training.shapes import drawn

REFINER = "segmentation_refine"


def add_draft(here: Here, image_id: str, mask: Array, role: Role = Role.ANNOTATOR, author: str = "lee") -> int:
    """Stores a mask that somebody may correct."""
    digest = here.app.record.masks.put(nifti_bytes(Volume(mask, np.eye(4))))
    voxels = {"Anterior": int((mask == 1).sum()), "Posterior": int((mask == 2).sum())}
    new = NewAnnotation(image_id, Stage.DRAFT, author, role, digest, ("Anterior", "Posterior"), voxels)
    return here.app.record.annotations.add(new).version


def correct(here: Here, count: int, *, has_drafts: bool = True) -> None:
    """An expert corrects the rough masks of some cases; every fifth case is for validation."""
    for number in range(count):
        image_id = f"case_{number:02d}"
        here.client.post("/activelearning/first", json={"client_id": "kim"})
        if has_drafts:
            add_draft(here, image_id, rough(number))
        put_label(here.client, image_id, mask_bytes(number), client_id="kim")


def found(here: Here) -> list[tuple[str, int | None, Origin]]:
    """Image, draft and origin of each pair to learn from."""
    return [(pair.truth.image, pair.draft, pair.origin) for pair in training_pairs(here.app.record, here.app.library)]


def train(here: Here) -> dict[str, Any]:
    """Trains the refiner; returns the new version."""
    reply = here.client.post(f"/train/{REFINER}", json={"seconds": 1, "max_epochs": 1})
    assert reply.status_code == 200, reply.text
    here.work()
    job = here.client.get(f"/jobs/{reply.json()['id']}").json()
    assert job["status"] == "DONE", job
    newest: dict[str, Any] = {**here.client.get(f"/model/versions/{REFINER}").json()[-1], "log": job["details"]}
    return newest


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_what_came_before_an_experts_mask_makes_pairs_with_it(open_app: Callable[..., Here]) -> None:
    here = open_app()
    add_draft(here, "case_00", rough(0), Role.RULE, "rule:threshold")
    correct(here, 1)

    first, second, made = training_pairs(here.app.record, here.app.library)

    assert [(pair.draft, pair.truth.version, pair.origin) for pair in (first, second)] == [
        (1, 3, Origin.RECORDED),
        (2, 3, Origin.RECORDED),
    ]
    assert (made.draft, made.origin) == (None, Origin.PERTURBED)
    np.testing.assert_array_equal(first.case.load_draft(), rough(0))
    np.testing.assert_array_equal(first.case.load_mask(), drawn(0)[1])


def test_a_draft_that_was_withdrawn_or_came_later_makes_no_pair(open_app: Callable[..., Here]) -> None:
    here = open_app()
    correct(here, 1)
    add_draft(here, "case_00", rough(1))
    here.client.delete("/datastore/label?id=case_00&tag=version_1")

    assert Origin.RECORDED not in {origin for _, _, origin in found(here)}


def test_of_one_image_the_newest_three_drafts_count(open_app: Callable[..., Here]) -> None:
    here = open_app()
    for _ in range(4):
        add_draft(here, "case_00", rough(0))
    correct(here, 1)

    assert [draft for _, draft, origin in found(here) if origin is Origin.RECORDED] == [3, 4, 5]


def test_few_pairs_are_joined_by_made_up_ones(open_app: Callable[..., Here], weights: bytes) -> None:
    here = open_app()
    here.put_weights(weights)
    correct(here, 1, has_drafts=False)

    perturbed, drafted = training_pairs(here.app.record, here.app.library)

    assert (perturbed.origin, drafted.origin) == (Origin.PERTURBED, Origin.DRAFTED)
    assert 0 < np.count_nonzero(perturbed.case.load_draft() != drawn(0)[1])
    assert drafted.case.load_draft().shape == (24, 20, 16)
    np.testing.assert_array_equal(perturbed.case.load_draft(), perturbed.case.load_draft())


@pytest.mark.parametrize(("corrected", "strength"), [(2, 1.0), (3, 0.0)])
def test_made_up_pairs_are_as_rough_as_three_or_more_recorded_ones(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, corrected: int, strength: float
) -> None:
    here = open_app(images=4)
    correct(here, corrected)
    asked: list[tuple[int, float]] = []
    monkeypatch.setattr(pairs, "strength_for", lambda masks, wanted: asked.append((len(masks), wanted)) or 0.0)

    found_strength = usual_strength(here.app.record, here.app.library)

    recorded = [dice_over_structures(drawn(number)[1], rough(number)) for number in range(corrected)]
    assert found_strength == strength
    assert asked == ([] if corrected < 3 else [(3, pytest.approx(np.mean(recorded)))])
    (*_, made) = training_pairs(here.app.record, here.app.library, found_strength)
    # At strength 0 nothing of a block moves.
    assert made.origin is Origin.PERTURBED
    assert np.array_equal(made.case.load_draft(), made.case.load_mask()) is (strength == 0)


def test_drafts_that_were_accepted_as_they_were_do_not_tell_how_rough_drafts_are(open_app: Callable[..., Here]) -> None:
    here = open_app(images=4)
    for number in range(3):
        version = add_draft(here, f"case_0{number}", rough(number))
        accepted = here.client.post(
            "/annotations/accept", params={"image": f"case_0{number}", "version": version, "client_id": "kim"}
        )
        assert accepted.status_code == 200, accepted.text

    assert usual_strength(here.app.record, here.app.library) == 1.0


def test_made_up_pairs_are_of_both_kinds_and_of_images_drawn_by_chance(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, weights: bytes
) -> None:
    here = open_app(images=12)
    here.put_weights(weights)
    correct(here, 10, has_drafts=False)
    monkeypatch.setattr(pairs, "ENOUGH_PAIRS", 4)

    made = training_pairs(here.app.record, here.app.library)
    again = training_pairs(here.app.record, here.app.library)

    assert [pair.origin for pair in made] == [Origin.PERTURBED, Origin.DRAFTED] * 2
    images = [pair.truth.image for pair in made]
    assert len(set(images)) == 4 and images != sorted(images)
    assert [pair.truth.image for pair in again] == images


def test_with_enough_pairs_none_is_made_up(open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch) -> None:
    here = open_app(images=4)
    correct(here, 3)
    monkeypatch.setattr(pairs, "ENOUGH_PAIRS", 3)

    assert [origin for _, _, origin in found(here)] == [Origin.RECORDED] * 3


def test_a_validation_case_is_measured_by_its_unrefined_draft(
    open_app: Callable[..., Here], refiner_weights: bytes
) -> None:
    here = open_app(images=5)
    correct(here, 4)
    here.put_refiner(refiner_weights)
    add_draft(here, "case_04", rough(4))
    here.client.post("/activelearning/first", json={"client_id": "kim"})
    here.client.post(f"/infer/{REFINER}?image=case_04")
    put_label(here.client, "case_04", mask_bytes(4), client_id="kim")

    (pair,) = validation_pairs(here.app.record, here.app.library)

    assert (pair.truth.image, pair.truth.version, pair.draft) == ("case_04", 3, 1)


def test_only_what_both_looked_at_is_compared(open_app: Callable[..., Here]) -> None:
    here = open_app()
    add_draft(here, "case_00", rough(0))
    anterior = np.where(drawn(0)[1] == 1, 1, 0).astype(np.uint8)
    put_label(here.client, "case_00", nifti_bytes(Volume(anterior, np.eye(4))), structures=["Anterior"])

    assert training_pairs(here.app.record, here.app.library)[0].case.looked_at == {1}


# --- starting --------------------------------------------------------------------------------------------------------


def test_the_refiner_trains_after_the_segmenter_when_enough_pairs_came(open_app: Callable[..., Here]) -> None:
    here = open_app(images=4, train_after="2")
    add_draft(here, "case_00", rough(0))
    add_draft(here, "case_02", rough(2))

    told = [put_label(here.client, f"case_{number:02d}", mask_bytes(number)) for number in range(3)]

    assert ["training" in reply for reply in told] == [False, True, False]
    assert ["training_refiner" in reply for reply in told] == [False, False, True]
    assert here.client.get(f"/jobs/{told[2]['training_refiner']}").json()["request"]["model"] == REFINER


def test_a_training_that_waits_is_joined(open_app: Callable[..., Here]) -> None:
    here = open_app(images=4, train_after="1")
    asked = set()
    for number in range(3):
        add_draft(here, f"case_{number:02d}", rough(number))
        asked.add(put_label(here.client, f"case_{number:02d}", mask_bytes(number))["training_refiner"])

    assert len(asked) == 1


def test_without_an_expert_annotation_there_is_nothing_to_learn(here: Here) -> None:
    reply = here.client.post(f"/train/{REFINER}", json={})

    assert reply.status_code == 409
    assert "no expert annotation to learn from" in reply.json()["detail"]


# --- the gate --------------------------------------------------------------------------------------------------------


def refining_like(monkeypatch: pytest.MonkeyPatch, content: bytes, made: list[Callable[[int], Array]]) -> None:
    """Lets each refiner that is built give chosen masks of case 4; learning does nothing."""
    given = Checkpoint.from_bytes(content)
    monkeypatch.setattr(learning_to_refine, "learn_to_refine", lambda *arguments: given)

    class Chosen(Refiner):
        def __init__(self, *arguments: Any) -> None:
            self.mask_of = made.pop(0)

        def refine(self, volume: Volume, draft: Array, *arguments: Any, **more: Any) -> Refinement:
            return Refinement(draft, (self.mask_of(4),))

    monkeypatch.setattr(learning_to_refine, "Refiner", Chosen)


def true(seed: int) -> Array:
    return drawn(seed)[1]


def nothing(seed: int) -> Array:
    return np.zeros((24, 20, 16), np.uint8)


def test_a_refiner_serves_if_it_is_no_worse_than_the_drafts(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, refiner_weights: bytes
) -> None:
    here = open_app(images=5)
    correct(here, 5)
    refining_like(monkeypatch, refiner_weights, [true])

    version = train(here)

    metrics = version["metrics"]
    assert version["state"] == "serving"
    assert version["reason"].startswith("mean Dice 1.000, the draft as it is had 0.")
    assert (metrics["mean_dice"], metrics["share_worse"]) == (1.0, 0.0)
    assert metrics["pairs"] == {"recorded": 4, "perturbed": 4, "drafted": 0}
    assert 0 < metrics["perturbed_strength"] < 2
    assert metrics["recorded_pairs"][0] == {"image": "case_00", "draft": 1, "expert": 2}
    assert metrics["validation_pairs"] == {"recorded": 1, "perturbed": 0, "drafted": 0}
    assert (
        "Training on 8 pairs (4 recorded, 4 perturbed), measuring on 1 pairs (1 recorded), from scratch."
        in (version["log"])
    )


def test_a_refiner_that_makes_drafts_worse_is_kept(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, refiner_weights: bytes
) -> None:
    here = open_app(images=5)
    correct(here, 5)
    refining_like(monkeypatch, refiner_weights, [nothing])

    version = train(here)

    assert version["state"] == "kept"
    assert "of the draft as it is on 1 validation case" in version["reason"]
    assert version["metrics"]["share_worse"] == 1.0
    assert here.client.post(f"/infer/{REFINER}?image=case_00").status_code == 409


def test_a_refiner_that_is_worse_than_the_serving_one_is_kept(
    open_app: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, refiner_weights: bytes
) -> None:
    here = open_app(images=5)
    correct(here, 5)
    here.put_refiner(refiner_weights)
    worse = np.where(true(4) == 1, 1, 0).astype(np.uint8)
    refining_like(monkeypatch, refiner_weights, [lambda seed: worse, true])

    version = train(here)

    assert (version["state"], version["parent"]) == ("kept", 1)
    assert version["reason"] == "mean Dice 0.500 is below the 1.000 of version 1 on 1 validation case"


def test_without_a_validation_case_a_refiner_does_not_serve(open_app: Callable[..., Here]) -> None:
    here = open_app()
    correct(here, 1)

    version = train(here)

    assert version["state"] == "kept"
    assert version["reason"] == ("not validated: no validation case that shows a difference; the draft as it is stays")
    assert version["training_cases"] == 1


def test_both_trainers_are_listed_and_each_tells_of_its_own_training(open_app: Callable[..., Here]) -> None:
    here = open_app()
    correct(here, 1)
    here.client.post(f"/train/{REFINER}", json={"seconds": 1, "max_epochs": 1})

    info = here.client.get("/info/").json()

    assert list(info["trainers"]) == ["segmentation", REFINER]
    assert info["train_stats"]["segmentation"] == {}
    assert info["train_stats"][REFINER]["status"] == "SUBMITTED"
