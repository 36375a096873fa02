"""Learning from pairs, and refining with what was learned."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from lib import preprocessing
from lib.errors import GridMismatch, UnacceptableFile
from lib.metrics.overlap import dice
from lib.networks.checkpoint import MOST_DRAFT_VOTES, Checkpoint
from lib.networks.precision import Precision
from lib.networks.segmenter import seeded_network
from lib.preprocessing import mask_on_image, plan_for, prepared, prepared_mask
from lib.refinement import refine
from lib.refinement.learn import Feedback, RefineOptions, StageWeights, Steps, learn_to_refine
from lib.refinement.perturb import perturbed, random_perturbations
from lib.refinement.plan import SLAB, Depth, refiner_plan
from lib.refinement.refine import Refinement, Refiner
from lib.task import numbered
from lib.training.finetune import Progress, Stopped
from lib.volume import Grid, Volume
from tests.refinement.pairs import EDGES_MM, pair, rough
from tests.training.shapes import TASK, case, drawn

QUICK = RefineOptions(
    seconds=math.inf,
    max_epochs=1,
    batch_size=1,
    learning_rate=1e-2,
    seed=1,
    precision=Precision.FLOAT32,
    stages=2,
    blind=0.0,
)
PLAIN = replace(QUICK, warm_up=0.0, emphasis=2.0, max_epochs=2)
MINE = replace(TASK, structures=numbered(["bright", "dark"]))


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch) -> None:
    """Few features: these tests are about the rules, not about quality."""
    monkeypatch.setattr(preprocessing, "CHANNELS", (8, 16, 32))


def learned(pairs, options=QUICK, start=None, reports=None) -> Checkpoint:
    return learn_to_refine(pairs, start, MINE, options, (reports if reports is not None else []).append, lambda: False)


def fresh(depth: Depth = Depth.VOLUME) -> Checkpoint:
    """A refiner that learned nothing."""
    plan = refiner_plan(MINE, [drawn(0)[0].grid], depth)
    return Checkpoint(plan, seeded_network(plan, 0).state_dict())


@pytest.mark.parametrize(("depth", "least", "epochs"), [(Depth.VOLUME, 0.9, 60), (Depth.NEIGHBOURS, 0.85, 150)])
def test_a_refiner_learns_a_pair_by_heart_in_seconds(depth, least, epochs):
    volume, truth = drawn(0)

    refined = Refiner(learned([pair(0)], replace(QUICK, max_epochs=epochs, depth=depth))).refine(volume, rough(0), 2)

    before, after = ([dice(truth == value, mask == value) for value in (1, 2)] for mask in (rough(0), refined.mask))
    assert min(after) > least > max(before)


def test_the_same_seed_gives_the_same_weights():
    first, second = (learned([pair(0), pair(1)]) for _ in range(2))

    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


@cache
def plainly_learned() -> Checkpoint:
    """What each option below is compared with."""
    return learned([pair(0)], PLAIN)


@pytest.mark.parametrize(
    "how",
    [{"feedback": Feedback.SOFT}, {"steps": Steps.SUMMED}, {"feedback": Feedback.SOFT, "steps": Steps.SUMMED},
     {"is_mean": False}, {"stage_weights": StageWeights.EQUAL}, {"emphasis": 10.0}, {"warm_up": 1.0}, {"blind": 0.5},
     {"stages": 1}],
    ids=str,
)  # fmt: skip
def test_every_option_changes_what_is_learned(how):
    plain, other = plainly_learned(), learned([pair(0)], replace(PLAIN, **how))

    assert any(not torch.equal(plain.weights[name], other.weights[name]) for name in plain.weights)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(StageWeights.DOUBLING, [0.25, 0.5, 1.0]), (StageWeights.EQUAL, [1, 1, 1]), (StageWeights.FLOORED, [2, 4, 8])],
)
def test_stages_count_as_their_weights_say(weights, expected):
    options = RefineOptions(stages=3, stage_weights=weights)

    assert [options.weight_of(stage) for stage in (1, 2, 3)] == expected


def test_a_refiner_that_goes_on_from_another_always_sees_the_drafts():
    blind, seeing = (learned([pair(0)], replace(QUICK, blind=blind), fresh()) for blind in (1.0, 0.0))

    assert all(torch.equal(blind.weights[name], tensor) for name, tensor in seeing.weights.items())


@pytest.mark.parametrize(("strength", "votes"), [(0.0, MOST_DRAFT_VOTES), (2.0, 0.0)])
def test_drafts_have_the_more_votes_the_better_they_were(strength, votes):
    truth = drawn(0)[1]
    draft = perturbed(truth, EDGES_MM, random_perturbations(truth, EDGES_MM, 5, strength))

    found = learned([replace(case(0), load_draft=lambda: draft)])

    assert found.plan.draft_votes == pytest.approx(votes)


def test_a_refiner_knows_how_sure_it_was_at_the_end_of_its_training():
    found = learned([pair(0)], replace(QUICK, max_epochs=10))

    assert 0 < found.plan.least_quality < 1


def test_progress_tells_batches_loss_and_dice():
    reports: list[Progress] = []

    learned([pair(0), pair(1)], replace(QUICK, max_epochs=2), reports=reports)

    last = reports[-1]
    assert (last.epoch, last.steps) == (2, 4) and last.loss > 0 and last.dice is not None


def test_no_time_gives_the_start_back():
    start = fresh()

    found = learned([pair(0)], replace(QUICK, seconds=0), start)

    assert all(torch.equal(found.weights[name], tensor) for name, tensor in start.weights.items())


def test_a_training_stops_when_asked():
    with pytest.raises(Stopped, match="refiner of blocks was stopped"):
        learn_to_refine([pair(0)], None, MINE, QUICK, lambda _: None, lambda: True)


def test_a_case_without_a_draft_is_no_pair():
    with pytest.raises(ValueError, match="no draft with the mask of case_1"):
        learned([pair(0), case(1)])


def test_a_training_without_stages_is_refused():
    with pytest.raises(ValueError, match="at least 1 stage, found 0"):
        learned([pair(0)], replace(QUICK, stages=0))


def test_zero_stages_give_the_draft():
    volume, _ = drawn(0)

    found = Refiner(fresh()).refine(volume, rough(0), stages=0)

    assert found.mask is found.draft and found.stages == () and np.array_equal(found.mask, rough(0))


@pytest.mark.parametrize("depth", Depth)
def test_every_stage_gives_a_mask_on_the_grid_of_the_image(depth, monkeypatch):
    monkeypatch.setattr(refine, "SETTLED", -1.0)
    volume, _ = drawn(0)

    found = Refiner(fresh(depth)).refine(volume, rough(0), stages=3)

    assert [mask.shape for mask in found.stages] == [volume.voxels.shape] * 3
    assert {mask.dtype for mask in found.stages} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("depth", [Depth.SLICE, Depth.NEIGHBOURS])
def test_slices_that_are_answered_for_in_slabs_see_the_same_as_all_together(depth):
    volume, _ = drawn(0, (24, 20, 2 * SLAB + 3))
    checkpoint = fresh(depth)
    network = seeded_network(checkpoint.plan, 0).eval()
    whole = replace(checkpoint.plan, patch=(24, 20, 2 * SLAB + 3))

    found, expected = (
        Refiner(Checkpoint(plan, network.state_dict()), precision=Precision.FLOAT32).refine(
            volume, drawn(0, volume.voxels.shape)[1], votes=0.0
        )
        for plan in (checkpoint.plan, whole)
    )

    assert np.array_equal(found.stages[0], expected.stages[0]) and len(np.unique(found.stages[0])) > 1


def test_a_saved_refiner_knows_what_it_sees():
    checkpoint = Checkpoint.from_bytes(fresh(Depth.NEIGHBOURS).to_bytes())

    assert (checkpoint.plan.kernel, checkpoint.plan.neighbours) == ((3, 3, 1), 1)
    assert learned([pair(0)], replace(QUICK, seconds=0), checkpoint).plan.neighbours == 1


@pytest.mark.parametrize("depth", Depth)
def test_of_images_of_one_slice_that_slice_is_seen(depth):
    plan = refiner_plan(MINE, [Grid((24, 20, 1), np.eye(4))], depth)

    assert (plan.patch[2], plan.kernel, plan.neighbours) == (1, (3, 3, 1), 0)


class SeventyPercent:
    """Stands in for a network that finds the bright block everywhere, and notes which masks it is shown."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def answer(self, seen: torch.Tensor) -> torch.Tensor:
        self.shown.append(seen[0, 1].numpy())
        shares = torch.tensor([0.3, 0.7, 0.0]).reshape(1, 3, 1, 1, 1)
        return shares.expand(1, 3, *seen.shape[2:]).clone()


def refined_by(network: SeventyPercent, stages: int = 1, votes: float | None = None, learned_votes: float = 0.6):
    """What becomes of a draft whose first half is bright."""
    checkpoint = fresh()
    refiner = Refiner(Checkpoint(replace(checkpoint.plan, draft_votes=learned_votes), checkpoint.weights))
    refiner._predictor = network
    return refiner.refine(drawn(0)[0], half_bright(), stages, votes)


def half_bright() -> np.ndarray:
    draft = np.zeros((24, 20, 16), np.uint8)
    draft[:12] = 1
    return draft


@pytest.mark.parametrize(("votes", "learned_votes", "is_changed"),
                         [(None, 0.6, False), (None, 0.3, True), (0.0, 0.6, True), (0.6, 0.0, False)])  # fmt: skip
def test_the_draft_has_its_votes_beside_the_refiner_as_learned_or_as_asked(votes, learned_votes, is_changed):
    """With 0.7 against 0.3 + votes the background of the draft stays from 0.4 votes on."""
    (stage,) = refined_by(SeventyPercent(), votes=votes, learned_votes=learned_votes).stages

    assert np.array_equal(stage, np.ones_like(stage) if is_changed else half_bright())


def test_each_stage_goes_on_from_what_the_refiner_found_by_itself_not_from_what_the_draft_made_of_it(monkeypatch):
    monkeypatch.setattr(refine, "SETTLED", -1.0)
    network = SeventyPercent()

    found = refined_by(network, stages=3, votes=0.6)

    assert [np.unique(mask).tolist() for mask in network.shown] == [[0, 1], [1], [1]]
    assert all(np.array_equal(stage, half_bright()) for stage in found.stages)


def test_a_stage_that_changes_nothing_is_the_last(monkeypatch):
    monkeypatch.setattr(refine, "SETTLED", math.inf)

    assert len(Refiner(fresh()).refine(drawn(0)[0], rough(0), stages=5).stages) == 1


def test_an_implausible_change_keeps_the_draft_and_says_why(monkeypatch):
    monkeypatch.setattr(refine, "reasons_to_keep", lambda *_: {"dark": "too large", "bright": "too small"})

    found = Refiner(fresh()).refine(drawn(0)[0], rough(0), stages=1)

    assert found.kept == "dark: too large; bright: too small"
    assert np.array_equal(found.mask, rough(0)) and len(found.stages) == 1


def test_where_one_structure_stays_as_it_was_the_other_one_is_refined():
    draft, refined = np.array([[[1, 1, 2, 2, 0, 0]]]), np.array([[[1, 2, 2, 0, 1, 2]]])

    found = Refinement(draft, (refined,), reasons={2: "dark: too small"})

    assert found.mask.tolist() == [[[1, 1, 2, 2, 1, 0]]]
    assert found.kept == "dark: too small"


def test_nothing_is_told_of_structures_that_the_author_did_not_look_at(monkeypatch):
    monkeypatch.setattr(refine, "reasons_to_keep", lambda *_: {"dark": "too large", "bright": "too small"})

    assert Refiner(fresh()).refine(drawn(0)[0], rough(0), looked_at=[1]).kept == "bright: too small"


def test_where_the_refiner_agrees_a_draft_that_is_finer_than_its_grid_stays_voxel_by_voxel():
    coarse = replace(fresh().plan, spacing_mm=(2.0, 2.0, 2.0))
    refiner = Refiner(Checkpoint(coarse, fresh().weights))
    draft = rough(0)
    frame = prepared(drawn(0)[0], coarse).frame
    seen = torch.from_numpy(prepared_mask(draft, frame, coarse))
    agreeing = torch.nn.functional.one_hot(seen.long(), coarse.classes).permute(3, 0, 1, 2) * 0.8 + 0.1
    changing = agreeing.clone()
    changing[:, 0, 0, 0] = torch.tensor([0.0, 1.0, 0.0])

    same, changed = (refiner._on_image(each, seen, frame, draft) for each in (agreeing, changing))

    assert not np.array_equal(mask_on_image(agreeing, frame, coarse), draft)
    assert np.array_equal(same, draft)
    assert np.array_equal(changed[4:], draft[4:]) and (changed[:2, :2, :2] == 1).any()


def test_structures_that_an_expert_cleared_away_are_noted_and_never_forgotten():
    cleared = replace(pair(0), load_mask=lambda: np.where(drawn(0)[1] == 2, 0, drawn(0)[1]).astype(np.uint8))

    once = learned([cleared, pair(1)], QUICK)

    assert once.plan.cleared == ("dark",)
    assert Checkpoint.from_bytes(once.to_bytes()).plan.cleared == ("dark",)
    assert learned([pair(1)], QUICK, once).plan.cleared == ("dark",)
    assert learned([replace(cleared, looked_at=frozenset({1}))], QUICK).plan.cleared == ()


def test_only_what_both_looked_at_tells_how_good_drafts_are():
    one_structure = [
        replace(
            case(seed), looked_at=frozenset({1}), load_draft=lambda seed=seed: drawn(seed)[1] * (drawn(seed)[1] == 1)
        )
        for seed in range(2)
    ]

    assert learned(one_structure, QUICK).plan.draft_votes == MOST_DRAFT_VOTES


def test_structures_that_the_refiner_does_not_know_stay():
    draft = rough(0)
    draft[0, 0, :3] = 9

    found = Refiner(fresh()).refine(drawn(0)[0], draft, stages=1)

    assert all(value == 9 or value in (1, 2) for value in found.stages[0][0, 0, :3]) and 9 in found.stages[0]


def test_a_structure_that_is_lost_on_the_coarser_grid_of_the_refiner_stays():
    checkpoint = fresh()
    coarse = Checkpoint(replace(checkpoint.plan, spacing_mm=(3.0, 3.0, 3.0)), checkpoint.weights)
    draft = np.zeros_like(rough(0))
    draft[4:16, 4:16, 4:12] = 1
    draft[20, 1, 1] = 2

    found = Refiner(coarse).refine(drawn(0)[0], draft)

    assert found.stages[0][20, 1, 1] in (1, 2) and 2 in found.stages[0]


def test_a_model_that_sees_no_mask_is_no_refiner():
    plan = plan_for(MINE, [drawn(0)[0].grid])

    with pytest.raises(UnacceptableFile, match="is a residual_unet, which sees no mask"):
        Refiner(Checkpoint(plan, seeded_network(plan, 0).state_dict()))


def test_a_draft_on_another_grid_is_refused():
    with pytest.raises(GridMismatch, match="mask is 3x3x3 voxels, the image is 24x20x16"):
        Refiner(fresh()).refine(Volume(drawn(0)[0].voxels, np.eye(4)), np.zeros((3, 3, 3), np.uint8))
