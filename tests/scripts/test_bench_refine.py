"""What the benchmark of refining takes as a data set, keeps of finished rows, and tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.volume import Volume, write_volume
from scripts.benchmarks import bench_refine, rough_pairs
from scripts.benchmarks.rough_pairs import BU_BIL, PairSet, pair_sets

FIGURES = ["draft_dice", "image_only_dice", "k1_dice", "k3_dice", "k5_dice", "share_worse"]


def put_outlines(folder: Path, images: int = 3) -> Path:
    """A set as BU-BIL's: a bright square in each image, which two people draw a pixel too large."""
    for number in range(images):
        raw, gold, rough = (np.full((40, 40), value, np.uint8) for value in (10, 255, 255))
        raw[12:24, 14:26], gold[12:24, 14:26], rough[11:25, 13:27] = 200, 0, 0
        files = {f"RawImages/B{number}.png": raw, f"GoldStandard/seg_B{number}.png": gold}
        files |= {f"CrowdsourcedAnnotations/{name}/seg_B{number}.png": rough for name in ("one", "two")}
        for name, pixels in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)
    return folder


def put_volumes(folder: Path, labels: list[int]) -> Path:
    """Volumes with a cube of a label each; of label 0 there is none."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, label in enumerate(labels):
        mask = np.zeros((12, 12, 12), np.uint8)
        mask[3:9, 3:9, 3:9] = label
        for name, voxels in (("images", mask.astype(np.float32)), ("labels", mask)):
            write_volume(folder / name / f"ct_{number}.nii.gz", Volume(voxels, np.eye(4)))
    return folder


# What is taken as a data set.


def test_one_set_is_taken_and_a_folder_of_sets(tmp_path: Path) -> None:
    one = put_outlines(tmp_path / "sets" / "cells")
    (tmp_path / "sets" / "README.md").touch()

    alone, below = pair_sets(one, 0, 0), pair_sets(tmp_path / "sets", 0, 0)

    assert list(alone) == list(below) == ["cells"]
    assert [len(sets["cells"].pairs) for sets in (alone, below)] == [6, 6]


@pytest.mark.parametrize(
    ("below", "found"),
    [
        ("cells/GoldStandard", "it holds seg_B0.png, seg_B1.png, seg_B2.png"),
        ("", "it holds data"),
        ("empty", "it is empty"),
        ("nowhere", "it is no folder"),
        ("other", "it holds CrowdsourcedAnnotations, GoldStandard, RawImages"),
        ("many", "it holds 0, 1, 2, 3, 4 and 2 more"),
    ],
)
def test_another_folder_is_refused_with_what_it_holds_and_what_is_wanted(
    tmp_path: Path, below: str, found: str
) -> None:
    data = tmp_path / "data" / "sets"
    put_outlines(data / "cells")
    (data / "empty").mkdir()
    for name in BU_BIL:
        (data / "other" / name).mkdir(parents=True)
    for number in range(7):
        (data / "many" / str(number)).mkdir(parents=True)
    folder = data / below if below else tmp_path

    wanted = "Wanted are RawImages, GoldStandard, CrowdsourcedAnnotations in it or in the folders directly below it, .*"
    with pytest.raises(SystemExit, match=rf"no pairs in {folder}: {found}\. {wanted}or NIfTI files .* images and"):
        bench_refine.main(["--dataset", str(folder)])


def test_images_with_an_empty_label_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put_volumes(tmp_path / "ct", [1, 0, 1])

    found = pair_sets(folder, 0, 0)["ct"]

    assert [pair.image_id for pair in found.pairs] == ["ct_0.nii.gz", "ct_2.nii.gz"]
    assert capsys.readouterr().err == "Left out 1 of 3 images, whose label is empty.\n"


def test_only_empty_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"All labels of the 2 images in .*ct are empty; there is nothing to refine"):
        bench_refine.main(["--dataset", str(put_volumes(tmp_path / "ct", [0, 0]))])


# Options of the training.


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("is_mean=true", ("is_mean", True)),
        ("is_mean=False", ("is_mean", False)),
        ("emphasis=10", ("emphasis", 10.0)),
        ("feedback=soft", ("feedback", "soft")),
        ("max_epochs=3", ("max_epochs", 3)),
    ],
)
def test_an_option_has_the_type_of_its_default(text: str, option: tuple[str, Any]) -> None:
    assert bench_refine._option(text) == option


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("is_mean=yes", "'is_mean=yes': for is_mean is accepted true, false"),
        ("feedback=warm", "'feedback=warm': for feedback is accepted hard, soft"),
        ("emphasis=much", "'emphasis=much': for emphasis is accepted a value of type float"),
        ("lambda=10", "'lambda=10': there is no option 'lambda'; there are seconds, max_epochs, batch_size"),
        ("emphasis", "'emphasis': for emphasis is accepted a value of type float"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_what_can(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench_refine.main(["--option", text])

    assert f"argument --option: {told}" in capsys.readouterr().err


# Rows, and what is told of them.


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[dict[str, Any], int]]:
    """Runs the benchmark without training; what it told of the only set, and how many nets were measured for it."""
    measured: list[Any] = []

    def measure(pairs: PairSet, run: tuple[str, float, str, int], *_: Any) -> dict[str, Any]:
        measured.append(run)
        dice = [0.8 + 0.1 * run[3], 1.0]
        return {"draft": [0.7, 0.7], "centre": [], "refined": dice, "unguarded": dice, "kept": 0, "batches": 1}

    monkeypatch.setattr(bench_refine, "_measured", measure)
    monkeypatch.setattr(rough_pairs, "drawn_bleeds", lambda seed, heads: [])
    monkeypatch.setattr(rough_pairs, "drawn_masses", lambda seed, breasts: [])

    def told(*options: str) -> tuple[dict[str, Any], int]:
        before = len(measured)
        bench_refine.main([*options, "--out", str(tmp_path / "out")])
        return json.loads(capsys.readouterr().out)["sets"][0], len(measured) - before

    return told


def test_a_finished_row_is_not_measured_again_but_for_other_drawn_images_drafts_options_or_seconds(
    run: Callable[..., tuple[dict[str, Any], int]],
) -> None:
    options = ["--seeds", "1", "--nets", "k1", "--option", "is_mean=true"]
    both = 2

    assert run(*options, "--drawn", "4")[1] == both
    assert run(*options, "--drawn", "4")[1] == 0
    assert run("--seeds", "1", "--nets", "k1", "--option", "is_mean=True", "--drawn", "4")[1] == 0
    assert run(*options, "--drawn", "9")[1] == both
    assert run(*options, "--drawn", "4", "--seed", "1")[1] == both
    assert run(*options, "--drawn", "4", "--option", "emphasis=10")[1] == both
    assert run(*options, "--drawn", "4", "--seconds", "5")[1] == both


def test_sets_of_one_name_in_different_folders_have_rows_of_their_own(
    run: Callable[..., tuple[dict[str, Any], int]], tmp_path: Path
) -> None:
    folders = [put_outlines(tmp_path / place / "cells") for place in ("here", "there")]

    assert [run("--nets", "k1", "--seeds", "1", "--dataset", str(folder))[1] for folder in folders] == [1, 1]


def test_a_quick_run_tells_null_for_what_it_leaves_out(run: Callable[..., tuple[dict[str, Any], int]]) -> None:
    told, _ = run("--quick")

    assert [told[figure] for figure in FIGURES] == [0.7, None, 0.9, None, 0.9, 0.0]
    assert not [name for name in told if name.endswith("_sd_seeds")]


def test_the_spread_of_the_seeds_stands_beside_that_of_the_pairs(
    run: Callable[..., tuple[dict[str, Any], int]],
) -> None:
    told, _ = run("--nets", "k1", "--seeds", "3")

    # Seeds have the pairs 0.8 and 1, 0.9 and 1, 1 and 1.
    assert (told["k1_dice"], told["k1_dice_sd"], told["k1_dice_sd_seeds"]) == (0.95, 0.076, 0.05)
    assert (told["draft_dice"], told["draft_dice_sd"], told["draft_dice_sd_seeds"]) == (0.7, 0.0, 0.0)


def test_nets_learn_and_refine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put_outlines(tmp_path / "cells")

    bench_refine.main(["--dataset", str(folder), "--seconds", "0.1", "--quick", "--option", "max_epochs=1"])

    (told,) = json.loads(capsys.readouterr().out)["sets"]
    assert [name for name in told if name in FIGURES] == FIGURES
    # 12 x 12 pixels, and one more on each side.
    assert told["draft_dice"] == pytest.approx(2 * 144 / (144 + 196), abs=0.03)
    assert 0 <= told["k1_dice"] <= 1 and 0 <= told["k5_dice"] <= 1
