"""The robot annotator: its arithmetic, its memory, and its rounds against a server that only pretends."""

import json
import math

import numpy as np
import pytest

from lib.volume import Volume, read_volume, write_volume
from scripts.simulation.evaluation import CaseScore, case_score, defined_mean, summary
from scripts.simulation.journal import Journal, plot, reply
from scripts.simulation.robot import Plan, Robot
from scripts.simulation.server import draft_model, has_ended, status_of
from scripts.simulation.truths import truth_of

VALUES = {"liver": 1, "spleen": 2}
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def drawn(*bars):
    """Mask (10, 1, 1) with bars of (value, first, last + 1) along I, 2 mm a voxel."""
    voxels = np.zeros((10, 1, 1), np.uint8)
    for value, first, end in bars:
        voxels[first:end] = value
    return Volume(voxels, AFFINE)


# Evaluation


def test_a_case_is_measured_by_structure_in_millimetres():
    score = case_score(drawn((1, 0, 4), (2, 6, 8)), drawn((1, 2, 6)).voxels, VALUES)

    assert score.dice == {"liver": 0.5, "spleen": 0.0}
    # The ends of both bars lie 4 and 2 mm from the nearest end of the other: the 95th percentile is 3.9 mm.
    assert score.hd95_mm["liver"] == pytest.approx(3.9)
    assert score.hd95_mm["spleen"] == math.inf


def test_what_is_absent_from_both_masks_is_undefined():
    score = case_score(drawn((1, 0, 4)), drawn((1, 0, 4)).voxels, VALUES)

    assert score.dice["liver"] == 1 and math.isnan(score.dice["spleen"])
    assert score.hd95_mm["liver"] == 0 and math.isnan(score.hd95_mm["spleen"])


def test_means_leave_out_what_is_undefined_and_weigh_structures_alike():
    scores = [
        CaseScore({"liver": 1.0, "spleen": math.nan}, {"liver": 2.0, "spleen": math.nan}),
        CaseScore({"liver": 0.5, "spleen": 0.25}, {"liver": 4.0, "spleen": math.inf}),
    ]

    assert summary(scores, VALUES) == {
        "cases": 2,
        "dice": 0.5,
        "dice_per_structure": {"liver": 0.75, "spleen": 0.25},
        "hd95_mm": 3.0,
        "one_empty": 1,
    }


def test_without_cases_every_mean_is_none():
    assert summary([], VALUES) == {
        "cases": 0, "dice": None, "dice_per_structure": {"liver": None, "spleen": None}, "hd95_mm": None,
        "one_empty": 0,
    }  # fmt: skip
    assert defined_mean([math.nan, math.inf]) is None


# Journal


def a_round(number, dice):
    return {
        "round": number, "corrections": 4 * number, "labels": 3 * number, "validation_cases": number, "dice": dice,
        "dice_per_structure": {"liver": dice, "spleen": None}, "hd95_mm": None, "seconds": 1.5, "voxels_changed": 10,
        "validation": {"cases": number},
    }  # fmt: skip


def test_a_journal_remembers_and_drops_a_torn_line(tmp_path):
    path = tmp_path / "rounds.jsonl"
    Journal(path).add(a_round(1, 0.5))
    path.write_text(path.read_text() + '{"round": 2, "dic')

    journal = Journal(path)
    journal.add(a_round(2, 0.75))

    assert [line["round"] for line in Journal(path).lines] == [1, 2] == [line["round"] for line in journal.lines]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_journal_never_holds_what_json_cannot_say(tmp_path, value):
    journal = Journal(tmp_path / "rounds.jsonl")

    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.add({"dice": value})

    assert journal.lines == [] and Journal(tmp_path / "rounds.jsonl").lines == []


def test_the_reply_is_one_line_of_json_with_null_for_the_undefined():
    text = reply([a_round(1, None), a_round(2, 0.75)])

    assert "\n" not in text and "NaN" not in text
    found = json.loads(text)
    assert found["validation_cases"] == 2 and [one["dice"] for one in found["rounds"]] == [None, 0.75]
    assert set(found["rounds"][0]) == {"labels", "dice", "dice_per_structure", "hd95_mm", "seconds", "voxels_changed"}
    assert json.loads(reply([])) == {"rounds": [], "validation_cases": 0}


@pytest.mark.parametrize("rounds", [[], [a_round(1, None), a_round(2, 0.75)]])
def test_the_plot_is_drawn_even_without_figures(tmp_path, rounds):
    plot(rounds, tmp_path / "dice.png")

    assert (tmp_path / "dice.png").read_bytes().startswith(b"\x89PNG")


# Truth by name


def test_a_truth_is_found_by_id_in_a_folder_or_by_the_source_of_a_series(tmp_path):
    for name in ("a.nii.gz", "ward/b.v2.nrrd", "series/c.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert truth_of(tmp_path, "a") == tmp_path / "a.nii.gz"
    assert truth_of(tmp_path, "ward/b.v2") == tmp_path / "ward/b.v2.nrrd"
    assert truth_of(tmp_path, "1.2.840.1", "series/c") == tmp_path / "series/c.nii"
    assert truth_of(tmp_path, "1.2.840.1", "series/c/slice_001.dcm") == tmp_path / "series/c.nii"
    assert truth_of(tmp_path, "1.2.840.1", "a.nii.gz") == tmp_path / "a.nii.gz"
    assert truth_of(tmp_path, "1.2.840.1") is None


def test_a_truth_is_never_looked_for_outside_the_folder(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "secret.nii").touch()

    assert truth_of(tmp_path / "truth", "../secret") is None


# Replies of the server


def test_the_draft_model_is_the_first_segmentation_with_named_labels():
    models = {
        "segmentation_refine": {"type": "deepedit", "labels": {"liver": 1}},
        "segmentation": {"type": "segmentation", "labels": {"background": 0, "liver": 1, "spleen": 2}},
        "other": {"type": "segmentation", "labels": {"liver": 7}},
    }

    assert draft_model({"models": models}) == ("segmentation", VALUES)
    with pytest.raises(ValueError, match=r"\['segmentation_refine'\], none of type segmentation"):
        draft_model({"models": {"segmentation_refine": models["segmentation_refine"]}})


class Refusal(Exception):
    def __init__(self, msg, status_code=None):
        self.msg, self.status_code = msg, status_code


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refusal("Status: 409; Response: {}"), 409),
        (Refusal("no such page", 404), 404),
        (Refusal("Status: 500; Response: Status: 409;"), 500),
        (Refusal("it said Status: 409; once"), None),
    ],
)
def test_the_status_of_a_refusal_is_read_from_its_code_or_its_message(refusal, status):
    assert status_of(refusal) == status


@pytest.mark.parametrize(
    ("status", "is_training", "ended"),
    [
        ({"id": "b", "status": "RUNNING"}, True, False),
        ({"id": "b", "status": "SUBMITTED"}, False, False),
        ({"id": "b", "status": "DONE"}, True, True),
        ({"id": "b", "status": "ERROR"}, False, True),
        ({"id": "a", "status": "DONE"}, True, False),
        ({"id": "c", "status": "DONE"}, False, True),
    ],
)
def test_a_training_ends_when_it_says_so_not_when_the_one_before_it_does(status, is_training, ended):
    assert has_ended(status, {"id": "b"}, is_training) is ended


# Rounds


class PretendServer:
    """Offers its images in order, drafts nothing before a training and the truth after; every third is validation."""

    values = VALUES

    def __init__(self, folder, images, trains_by_itself=()):
        self.folder, self.all, self.saved, self.trainings = folder, images, [], []
        self.trains_by_itself, self.breaks_after = trains_by_itself, None

    def next_image(self):
        return next((image_id for image_id in self.all if image_id not in self.saved), None)

    def draft(self, image_id, truth):
        return Volume(truth.voxels * bool(self.trainings), truth.affine)

    def submit(self, image_id, mask):
        if len(self.saved) == self.breaks_after:
            raise ConnectionError("gone")
        assert read_volume(mask).voxels.any()
        self.saved.append(image_id)
        return "validation" if len(self.saved) % 3 == 0 else "training"

    def is_training(self):
        return len(self.saved) in self.trains_by_itself

    def train(self, limit_s):
        self.trainings.append(len(self.saved))
        return "DONE"

    def images(self):
        return {image_id: image_id in self.saved for image_id in self.all}

    def source(self, image_id):
        return "series/slice_1.dcm" if image_id == "1.2.3" else None


@pytest.fixture
def server(tmp_path):
    images = [f"case_{number}" for number in range(7)] + ["1.2.3"]
    (tmp_path / "truth").mkdir()
    for name in [*images[:7], "series"]:
        write_volume(tmp_path / "truth" / f"{name}.nii.gz", drawn((1, 0, 3), (2, 5, 7)))
    return PretendServer(tmp_path / "truth", images)


def robot(server, tmp_path, **plan):
    return Robot(server, tmp_path / "truth", tmp_path / "out", Plan(**{"rounds": 2, "per_round": 3} | plan))


def test_a_round_corrects_trains_and_measures_what_was_never_trained_on(server, tmp_path):
    first, second = robot(server, tmp_path).run()

    assert server.saved == [f"case_{number}" for number in range(6)] and server.trainings == [3, 6]
    assert (first["corrections"], first["labels"], first["validation_cases"]) == (3, 2, 1)
    assert (first["validation"]["cases"], first["unlabelled"]["cases"], first["cases"]) == (1, 5, 6)
    assert (second["labels"], second["validation"]["cases"], second["unlabelled"]["cases"]) == (4, 2, 2)
    assert first["dice"] == 1.0 and first["hd95_mm"] == 0.0 and first["training"] == "DONE"
    assert first["voxels_changed"] == 3 * 5 and second["voxels_changed"] == 0


def test_a_series_is_matched_through_its_source_and_what_has_no_truth_is_left_alone(server, tmp_path):
    server.all = ["nobody_drew_this", "1.2.3"]

    assert robot(server, tmp_path).run() == []

    server.all.reverse()
    (only,) = robot(server, tmp_path).run()
    assert server.saved == ["1.2.3"] and only["unlabelled"]["cases"] == 0 and only["dice"] is None


def test_rounds_in_the_journal_are_not_done_again(server, tmp_path):
    before = robot(server, tmp_path, rounds=1).run()
    trainings = list(server.trainings)

    assert robot(server, tmp_path, rounds=1).run() == before and server.trainings == trainings
    assert [line["labels"] for line in robot(server, tmp_path, rounds=2).run()] == [2, 4]


def test_a_round_that_was_broken_off_goes_on_with_the_corrections_that_are_missing(server, tmp_path):
    server.breaks_after = 2
    with pytest.raises(ConnectionError):
        robot(server, tmp_path, rounds=1).run()
    server.breaks_after = None

    (only,) = robot(server, tmp_path, rounds=1).run()

    assert server.saved == ["case_0", "case_1", "case_2"]
    assert (only["corrections"], only["voxels_changed"], only["unlabelled"]["cases"]) == (3, 15, 5)


def test_it_ends_early_when_nothing_is_left_to_label(server, tmp_path, capsys):
    rounds = robot(server, tmp_path, rounds=9).run()

    assert [line["corrections"] for line in rounds] == [3, 6, 8]
    assert "Round 4: nothing left to label." in capsys.readouterr().out


def test_cases_that_others_labelled_are_not_measured(server, tmp_path):
    server.saved = ["case_5", "case_6"]

    (only,) = robot(server, tmp_path, rounds=1).run()

    assert only["corrections"] == 3
    assert only["validation"]["cases"] + only["unlabelled"]["cases"] == 4  # case_0; case_3, case_4, 1.2.3


def test_a_training_that_missed_the_last_correction_is_followed_by_another(server, tmp_path):
    server.trains_by_itself = (2,)

    robot(server, tmp_path, rounds=1).run()

    assert server.trainings == [3, 3]


def test_a_limited_measuring_takes_the_same_cases_for_the_same_seed(server, tmp_path):
    limited = robot(server, tmp_path, most_cases=2, seed=5)
    ids = [f"case_{number}" for number in range(7)]

    assert limited._chosen(ids) == limited._chosen(reversed(ids)) and len(limited._chosen(ids)) == 2
    assert any(robot(server, tmp_path, most_cases=2, seed=seed)._chosen(ids) != limited._chosen(ids) for seed in (6, 7))
    assert limited.run()[0]["cases"] == 3
