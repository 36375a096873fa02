"""The evaluation of folders of masks: drawn cases whose figures are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import InvalidSetting, UnreadableImage
from lib.metrics.detection import LesionRule
from lib.task import Task, numbered
from lib.volume import Volume, write_volume
from scripts.evaluate import main
from scripts.evaluation.cases import Case, compare, read_case
from scripts.evaluation.folders import Pair, matched
from scripts.evaluation.overlays import grey_window, worst_slice
from scripts.evaluation.structures import Wanted, declared, declared_by_app, found_in, looked_at_in

ROOT = Path(__file__).resolve().parents[2]
AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])
"""A voxel is 1 ml."""
TASK = Task("evaluation", "", numbered(["liver", "spleen"]))
WANTED = Wanted(TASK)


def block(*boxes: tuple[int, int, int], shape=(12, 8, 4)) -> np.ndarray:
    """A mask with boxes of (value, first, last + 1) along I, four voxels wide and two high."""
    voxels = np.zeros(shape, np.uint8)
    for value, first, end in boxes:
        voxels[first:end, 2:6, 1:3] = value
    return voxels


def put(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(voxels, affine))
    return path


def flipped(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same mask with I leading the other way."""
    affine = AFFINE.copy()
    affine[:3, 3] += affine[:3, 0] * (voxels.shape[0] - 1)
    affine[:3, 0] *= -1
    return np.ascontiguousarray(voxels[::-1]), affine


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Truths and predictions: one perfect but turned, one off by half, one missed, one on another grid, one damaged."""
    truth, predictions = tmp_path / "truth", tmp_path / "predictions"
    for name in ("turned", "half", "missed", "shifted", "damaged", "alone"):
        put(truth / f"{name}.nii.gz", block((1, 2, 6)))
    put(truth / "ward" / "empty.nrrd", block())
    put(predictions / "turned.nrrd", *flipped(block((1, 2, 6))))
    put(predictions / "half.nii", block((1, 4, 8)))
    put(predictions / "missed.nii.gz", block())
    put(predictions / "shifted.nii.gz", block((1, 2, 6)), AFFINE + np.array([[0, 0, 0, 3.0], *[[0] * 4] * 3]))
    (predictions / "damaged.nii.gz").write_bytes(b"no mask")
    put(predictions / "ward" / "empty.nii.gz", block((1, 0, 1)))
    put(predictions / "stray.nii.gz", block())
    return truth, predictions


def evaluated(folders: tuple[Path, Path], out: Path, *options: str) -> tuple[list[dict[str, str]], dict]:
    """The rows of cases.csv and the summary."""
    truth, predictions = folders
    main(["--truth", str(truth), "--predictions", str(predictions), "--out", str(out), *options])
    with (out / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file)), json.loads((out / "summary.json").read_text())


# The whole command


def test_every_case_gets_a_line_and_a_bad_one_stops_nothing(folders, tmp_path):
    rows, summary = evaluated(folders, tmp_path / "out", "--labels", "liver=1")

    assert {row["case"]: row["dice"] for row in rows} == {
        "half": "0.5", "missed": "0", "turned": "1", "ward/empty": "0", "shifted": "", "damaged": "",
    }  # fmt: skip
    errors = {row["case"]: row["error"] for row in rows if row["error"]}
    assert errors == summary["errors"] and errors.keys() == {"shifted", "damaged"}
    assert "3 mm apart" in errors["shifted"] and "damaged.nii.gz is no readable image" in errors["damaged"]
    assert summary["compared"] == 4


def test_what_has_no_partner_is_listed(folders, tmp_path, capsys):
    _, summary = evaluated(folders, tmp_path / "out", "--labels", "liver=1")

    assert summary["without_prediction"] == ["alone"] and summary["without_truth"] == ["stray"]
    told = capsys.readouterr().out
    assert "1 have no prediction and count nowhere: alone" in told
    assert "1 are predicted but have no truth: stray" in told


def test_undefined_figures_are_blank_in_the_table_and_null_in_the_summary(folders, tmp_path):
    rows, summary = evaluated(folders, tmp_path / "out", "--labels", "liver=1,spleen=2")

    missed = next(row for row in rows if (row["case"], row["structure"]) == ("missed", "liver"))
    assert (missed["precision"], missed["hd95_mm"], missed["volume_error_percent"]) == ("", "", "-100")
    spleen = summary["structures"]["spleen"]
    assert spleen["figures"]["dice"] == {"mean": None, "sd": None, "interval": [None, None], "n": 0}
    assert spleen["detection"]["sensitivity"] is None and spleen["detection"]["specificity"] == 1


def test_the_summary_has_means_lesions_and_cases(folders, tmp_path, capsys):
    _, summary = evaluated(folders, tmp_path / "out", "--labels", "liver=1")

    liver = summary["structures"]["liver"]
    assert liver["cases"] == 4
    assert liver["figures"]["dice"]["mean"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert liver["lesions"] == {"true": 3, "found": 2, "false": 1, "sensitivity": pytest.approx(2 / 3, abs=1e-5),
                                "false_per_case": 0.25}  # fmt: skip
    assert (liver["detection"]["found"], liver["detection"]["positives"]) == (2, 3)
    assert (liver["detection"]["refuted"], liver["detection"]["negatives"]) == (0, 1)
    assert liver["false_positive_ml"]["mean"] == pytest.approx(8.0)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("liver dice 0.375 0.479") and line.endswith(" 4") for line in lines)
    assert "liver 3 2 0.667 1 0.250" in lines
    assert any(line.startswith("liver 2 of 3 ") and line.endswith(" 8.000") for line in lines)


def test_small_lesions_can_be_left_out(folders, tmp_path):
    """The false lesion has 8 ml, the true ones 32 ml."""
    _, summary = evaluated(folders, tmp_path / "out", "--labels", "liver=1", "--least-lesion", "10000")

    liver = summary["structures"]["liver"]
    assert (liver["lesions"]["true"], liver["lesions"]["false"]) == (3, 0)
    assert liver["detection"]["refuted"] == 1


def test_equal_seeds_give_equal_files(folders, tmp_path):
    for name in ("first", "again"):
        evaluated(folders, tmp_path / name, "--overlays", "0")

    for name in ("cases.csv", "summary.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_worst_cases_are_drawn_and_older_drawings_go(folders, tmp_path):
    (tmp_path / "out" / "overlays").mkdir(parents=True)
    (tmp_path / "out" / "overlays" / "01_older.png").touch()

    evaluated(folders, tmp_path / "out", "--labels", "liver=1", "--overlays", "3")

    drawn = sorted((tmp_path / "out" / "overlays").iterdir())
    assert [path.name for path in drawn] == ["01_missed.png", "02_ward__empty.png", "03_half.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_an_image_that_is_cut_off_is_the_error_of_its_case(folders, tmp_path):
    grey = np.arange(12 * 8 * 4, dtype=np.int16).reshape(12, 8, 4)
    put(tmp_path / "images" / "half.nii.gz", grey)
    missed = put(tmp_path / "images" / "missed.nii", grey)
    missed.write_bytes(missed.read_bytes()[:400])

    rows, _ = evaluated(folders, tmp_path / "out", "--labels", "liver=1", "--images", str(tmp_path / "images"))

    assert next(row for row in rows if row["case"] == "missed")["error"].startswith("missed.nii is cut off")
    assert next(row for row in rows if row["case"] == "half")["dice"] == "0.5"
    assert (tmp_path / "out" / "overlays" / "02_half.png").is_file()


def test_pixels_that_cannot_be_read_cost_a_drawing_only(folders, tmp_path, monkeypatch, capsys):
    def unreadable(path):
        raise UnreadableImage(f"{path.name} is damaged.")

    put(tmp_path / "images" / "half.nii.gz", block())
    monkeypatch.setattr("scripts.evaluation.run.read_image", unreadable)

    rows, _ = evaluated(folders, tmp_path / "out", "--labels", "liver=1", "--images", str(tmp_path / "images"))

    assert next(row for row in rows if row["case"] == "half")["dice"] == "0.5"
    told = capsys.readouterr().out
    assert "half could not be drawn: half.nii.gz is damaged." in told and "and 3 overlays" in told


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--labels", "liver=one"], r"--conf labels is liver,spleen or liver=1,spleen=5"),
        (["--labels", "elsewhere/label-refinery.toml"], r"elsewhere/label-refinery\.toml is no file"),
        (["--app", "apps/none"], r"--app apps/none holds no main\.py"),
        (["--overlap", "0"], r"--overlap is a share above 0 and up to 1, found 0"),
        (["--images", "nowhere"], r"nowhere is no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(folders, tmp_path, options, sentence):
    with pytest.raises(SystemExit, match=sentence):
        evaluated(folders, tmp_path / "out", *options)


def test_folders_without_a_common_name_are_refused(tmp_path):
    put(tmp_path / "truth" / "a.nii.gz", block())
    put(tmp_path / "predictions" / "b.nii.gz", block())

    with pytest.raises(SystemExit, match=r"No file in .*predictions has the name of one in .*truth"):
        evaluated((tmp_path / "truth", tmp_path / "predictions"), tmp_path / "out")


# Which files


def test_files_match_by_their_path_without_suffix(folders):
    files = matched(*folders)

    assert sorted(files.pairs) == ["damaged", "half", "missed", "shifted", "turned", "ward/empty"]
    assert files.pairs["ward/empty"].prediction.name == "empty.nii.gz"


def test_a_name_of_two_files_is_left_out_and_hidden_files_are_not_seen(folders):
    truth, predictions = folders
    put(predictions / "half.nrrd", block())
    put(predictions / ".turned.nii.gz", block())

    files = matched(truth, predictions)

    assert files.ambiguous == ["half"] and "half" not in files.pairs and "turned" in files.pairs


def test_an_image_may_be_a_file_or_a_folder_of_dicom_files(tmp_path):
    sample = ROOT / "sample-data"
    truth = sample / "segmentation-truth"

    pairs = matched(truth, truth, sample / "segmentation").pairs

    assert pairs["abdomen_03"].image.name == "abdomen_03.nrrd" and pairs["abdomen_13"].image.is_dir()
    assert read_case(pairs["abdomen_13"], WANTED).truth.any()


# Which structures


def test_structures_come_from_text_file_app_or_the_truth(folders, tmp_path):
    settings = ROOT / "sample-data" / "segmentation" / "label-refinery.toml"
    app = tmp_path / "main.py"
    app.write_text(
        "from lib.task import Task, numbered\nclass App:\n    TASK = Task('bleed', '', numbered(['EDH', 'IPH']))\n"
    )
    found = found_in(matched(*folders).pairs.values())

    assert declared("liver=1,spleen=5").values == {"liver": 1, "spleen": 5}
    assert declared(str(settings)).values == {"liver": 1, "spleen": 2, "kidney": 3}
    assert declared_by_app(tmp_path).values == {"EDH": 1, "IPH": 2}
    assert found.values == {"label 1": 1}


def test_an_app_without_structures_of_its_own_needs_labels(tmp_path):
    (tmp_path / "main.py").write_text("from lib.task import Task\nclass App:\n    TASK = Task('any', '')\n")

    with pytest.raises(InvalidSetting, match=r"no structures of its own: name them by --labels"):
        declared_by_app(tmp_path)


def test_empty_truths_name_no_structures(tmp_path):
    path = put(tmp_path / "a.nii", block())

    with pytest.raises(InvalidSetting, match=r"no label values from 1 to 255\. Name the structures by --labels"):
        found_in([Pair("a", path, path)])


def test_structures_that_were_not_looked_at_do_not_count(tmp_path):
    path = put(tmp_path / "a.nii", block((1, 2, 6), (2, 8, 10)))
    table = tmp_path / "looked-at.csv"
    table.write_text("image,structures\na,Spleen\nb,liver; spleen\n")

    looked_at = looked_at_in(table, TASK)
    outcome = compare([Pair("a", path, path)], Wanted(TASK, looked_at=looked_at), LesionRule())

    assert looked_at["b"] == {"liver", "spleen"}
    assert [row.structure for row in outcome.scores] == ["spleen"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("case,structures\na,liver\n", r"has the columns \['case', 'structures'\], wanted are image and structures"),
        ("image,structures\na,lung\n", r"names 'lung'; the structures are liver=1, spleen=2"),
    ],
)
def test_a_table_of_what_was_looked_at_is_checked(tmp_path, text, sentence):
    (tmp_path / "looked-at.csv").write_text(text)

    with pytest.raises(InvalidSetting, match=sentence):
        looked_at_in(tmp_path / "looked-at.csv", TASK)


# One case


def test_numbers_without_a_structure_are_background_and_told(tmp_path):
    path = put(tmp_path / "a.nii", block((1, 2, 6), (7, 8, 10)))

    outcome = compare([Pair("a", path, path)], WANTED, LesionRule())

    assert [row.dice for row in outcome.scores if row.structure == "liver"] == [1.0]
    assert outcome.ignored == {7: 1}


def slicer_file(path: Path, voxels: np.ndarray, names: dict[str, int], affine: np.ndarray = AFFINE) -> Path:
    """A segmentation as 3D Slicer writes it, with named segments."""
    put(path, voxels, affine)
    image = sitk.ReadImage(str(path))
    for number, (name, value) in enumerate(names.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
    sitk.WriteImage(image, str(path))
    return path


def test_names_in_a_slicer_file_count_more_than_its_numbers(tmp_path):
    truth = put(tmp_path / "a.nii", block((1, 2, 6), (2, 8, 10)))
    prediction = slicer_file(
        tmp_path / "a.seg.nrrd", block((2, 2, 6), (1, 8, 10), (3, 0, 1)), {"spleen": 1, "liver": 2, "lung": 3}
    )

    case = read_case(Pair("a", truth, prediction), WANTED)

    assert np.array_equal(case.prediction, case.truth) and case.ignored == {3}


def test_a_segmentation_cropped_to_its_content_lies_inside_the_other_mask(tmp_path):
    whole, cropped = block((1, 2, 6)), block((1, 2, 6))[2:6, 2:6, 1:3]
    affine = AFFINE.copy()
    affine[:3, 3] = 20, 20, 10
    paths = put(tmp_path / "whole.nii", whole), slicer_file(tmp_path / "m.seg.nrrd", cropped, {"liver": 1}, affine)

    for pair in (Pair("a", *paths), Pair("a", *reversed(paths))):
        case = read_case(pair, WANTED)
        assert case.grid.shape == whole.shape and np.array_equal(case.truth, whole)


def test_a_label_map_of_another_size_is_not_compared(tmp_path):
    truth, prediction = (
        put(tmp_path / "a.nii", block((1, 2, 6))),
        put(tmp_path / "b.nii", block((1, 2, 6), shape=(9, 7, 3))),
    )

    outcome = compare([Pair("a", truth, prediction)], WANTED, LesionRule())

    assert "The mask of a is 9x7x3 voxels" in outcome.errors["a"] and outcome.scores == []


def test_probabilities_are_no_mask(tmp_path):
    truth = put(tmp_path / "a.nii", block((1, 2, 6)))
    prediction = put(tmp_path / "b.nii", block((1, 2, 6)).astype(np.float32) * 0.5)

    outcome = compare([Pair("a", truth, prediction)], WANTED, LesionRule())

    assert outcome.errors == {"a": "A mask holds [0.5], wanted are whole numbers. Export it as a label map."}


# Overlays


def case_of(truth: np.ndarray, prediction: np.ndarray, affine: np.ndarray = AFFINE) -> Case:
    volume = Volume(truth, affine)
    return Case(volume.grid, truth, prediction, frozenset())


def test_the_slice_with_most_disagreement_is_shown():
    """Slice 1 holds more of the truth, slice 2 of the disagreement."""
    truth = block((1, 2, 6))
    truth[8:, :, 1] = 1
    prediction = truth.copy()
    prediction[:, :, 2] = 0

    shown = worst_slice(case_of(truth, prediction), None)

    assert (shown.axis, shown.number) == (2, 2)
    assert np.array_equal(shown.truth, truth[:, :, 2]) and not shown.prediction.any()


def test_without_disagreement_the_slice_with_most_of_the_truth_is_shown():
    truth = block((1, 2, 6))
    truth[0, 0, 3] = 1

    assert worst_slice(case_of(truth, truth), None).number in (1, 2)


def test_slices_lie_across_the_longest_voxel_edges():
    affine = np.diag([1.0, 6.0, 1.0, 1.0])
    truth = block((1, 2, 6))

    shown = worst_slice(case_of(truth, block(), affine), Volume(truth.astype(np.int16), affine))

    assert shown.axis == 1 and shown.spacing_mm == pytest.approx((1.0, 1.0))
    assert np.array_equal(shown.image, truth[:, shown.number, :])


def test_a_turned_image_is_shown_as_if_it_were_not():
    truth, prediction = block((1, 2, 6)), block((1, 4, 8))
    turned_truth, affine = flipped(truth)
    turned = worst_slice(case_of(turned_truth, flipped(prediction)[0], affine), None)
    straight = worst_slice(case_of(truth, prediction), None)

    assert np.array_equal(turned.truth, straight.truth) and np.array_equal(turned.prediction, straight.prediction)


def test_an_image_of_one_slice_is_shown_whole():
    truth = block((1, 2, 6), shape=(12, 8, 3))[:, :, 1:2]

    shown = worst_slice(case_of(truth, truth), None)

    assert shown.axis == 2 and shown.truth.shape == (12, 8)


@pytest.mark.parametrize(("highest", "brightest"), [(0.01, 0.0099), (1000.0, 990.0), (0.0, 1.0)])
def test_a_slice_of_whatever_scale_is_shown_from_its_darkest_to_its_brightest_voxels(highest, brightest):
    assert grey_window(np.linspace(0, highest, 101)) == pytest.approx((highest / 100, brightest))
