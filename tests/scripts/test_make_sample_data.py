"""The sample data: what the command writes, and that the committed files are what their README says."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lib.phantoms.head import HeadParameters, draw_head
from lib.phantoms.sample_data import COLLECTIONS, PARAMETERS, digest
from lib.volume import read_volume
from scripts.make_sample_data import main

SAMPLE_DATA = Path(__file__).parents[2] / "sample-data"
SEED = "7"
CASES = {"segmentation": "6", "hemorrhage": "3", "mass": "3"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    for app, cases in CASES.items():
        main(["--out", str(folder), "--app", app, "--cases", cases, "--seed", SEED])
    return folder


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_image_has_its_truth_under_the_same_name(written):
    def names(folder):
        return sorted(path.name for path in (written / folder).iterdir())

    assert names("segmentation") == [
        "abdomen_01.nii.gz", "abdomen_02.nii.gz", "abdomen_03.nrrd", "abdomen_04.nii.gz", "abdomen_05", "abdomen_06",
        "label-refinery.toml",
    ]  # fmt: skip
    assert names("segmentation-truth") == [f"abdomen_{number:02d}.nii.gz" for number in range(1, 7)] + [PARAMETERS]
    assert names("hemorrhage") == ["head_01.nii.gz", "head_02", "head_03"]
    assert names("hemorrhage-truth") == [f"head_{number:02d}.nii.gz" for number in range(1, 4)] + [PARAMETERS]
    assert names("mass") == ["breast_01.nii.gz", "breast_02", "breast_03"]
    assert names("mass-truth") == [f"breast_{number:02d}.nii.gz" for number in range(1, 4)] + [PARAMETERS]


@pytest.mark.parametrize("name", ["segmentation/abdomen_01.nii.gz", "segmentation/abdomen_03.nrrd",
                                  "hemorrhage/head_01.nii.gz", "mass/breast_01.nii.gz"])  # fmt: skip
def test_image_and_truth_lie_on_one_grid(written, name):
    app, file = name.split("/")
    image = read_volume(written / name)
    truth = read_volume(written / f"{app}-truth" / f"{file.split('.')[0]}.nii.gz")

    assert image.grid.is_same_as(truth.grid)
    assert image.voxels.dtype == (np.uint16 if app == "mass" else np.int16) and truth.voxels.dtype == np.uint8
    assert image.voxels[truth.voxels > 0].mean() > 20


@pytest.mark.parametrize("name", ["segmentation/abdomen_05", "hemorrhage/head_02"])
def test_a_dicom_series_lies_on_the_grid_of_its_truth(written, name):
    app, case = name.split("/")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(written / name)))
    image = reader.Execute()
    truth = SimpleITK.ReadImage(str(written / f"{app}-truth" / f"{case}.nii.gz"))

    assert image.GetSize() == truth.GetSize()
    for getter in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(image, getter)(), getattr(truth, getter)(), atol=1e-4)
    voxels, mask = SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(truth)
    assert voxels[mask > 0].mean() > 20


def test_a_mammogram_is_one_dicom_file_named_for_side_and_view(written):
    files = [path.name for path in (written / "mass" / "breast_02").iterdir()]

    assert len(files) == 1 and re.fullmatch(r"[LR]_MLO\.dcm", files[0])


def test_the_parameters_beside_the_truth_draw_the_same_head_again(written):
    noted = json.loads((written / "hemorrhage-truth" / PARAMETERS).read_text(encoding="utf-8"))
    first = {name: tuple(value) if isinstance(value, list) else value for name, value in noted["head_01"].items()}

    phantom = draw_head(HeadParameters(**first))

    assert list(noted) == ["head_01", "head_02", "head_03"] and noted["head_01"]["bleeds"] == ["IPH"]
    np.testing.assert_array_equal(phantom.image, read_volume(written / "hemorrhage" / "head_01.nii.gz").voxels)


def test_the_readme_lists_every_app_that_lies_there(written, tmp_path):
    assert re.findall(r"^## `(\w+)`", (written / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE) == [
        "segmentation", "hemorrhage", "mass",
    ]  # fmt: skip
    main(["--out", str(tmp_path), "--app", "hemorrhage", "--cases", "1"])
    assert re.findall(r"^## `(\w+)`", (tmp_path / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE) == [
        "hemorrhage"
    ]


def test_the_same_seed_writes_the_same_bytes(written, tmp_path):
    for app, cases in CASES.items():
        main(["--out", str(tmp_path), "--app", app, "--cases", cases, "--seed", SEED])

    first, again = files_of(written), files_of(tmp_path)
    assert [name for name in first if first[name].read_bytes() != again[name].read_bytes()] == []
    assert first.keys() == again.keys()


def test_it_says_what_it_wrote(tmp_path, capsys):
    main(["--out", str(tmp_path), "--app", "segmentation", "--cases", "1"])

    assert re.fullmatch(
        rf"Wrote 1 images and 1 masks, 0\.\d MB, to {tmp_path}/segmentation/ and segmentation-truth/\n",
        capsys.readouterr().out,
    )


def test_the_committed_files_are_those_of_the_readme():
    text = (SAMPLE_DATA / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", text, flags=re.MULTILINE))

    assert {name: digest(SAMPLE_DATA / name)[0] for name in listed} == listed
    for app, collection in COLLECTIONS.items():
        entries = [*(SAMPLE_DATA / app).iterdir(), *(SAMPLE_DATA / f"{app}-truth").iterdir()]
        of_app = [name for name in listed if name.split("/")[0] in (app, f"{app}-truth")]
        settings = app == "segmentation"
        assert len(of_app) == 2 * collection.cases and len(entries) == len(of_app) + 1 + settings
    assert sum(path.stat().st_size for path in files_of(SAMPLE_DATA).values()) < 25_000_000


def test_the_segmentation_samples_are_still_drawn_as_they_were_first(tmp_path):
    main(["--out", str(tmp_path), "--app", "segmentation", "--cases", "3", "--seed", "2040"])

    for name in ("segmentation/abdomen_01.nii.gz", "segmentation-truth/abdomen_01.nii.gz"):
        drawn, committed = read_volume(tmp_path / name), read_volume(SAMPLE_DATA / name)
        np.testing.assert_array_equal(drawn.voxels, committed.voxels)
        np.testing.assert_array_equal(drawn.affine, committed.affine)
    assert digest(SAMPLE_DATA / "segmentation/abdomen_01.nii.gz")[0].startswith("13f6426764288f7c")
    assert digest(SAMPLE_DATA / "segmentation/abdomen_14")[0].startswith("7d4a881ba2a35aba")


def test_a_third_of_the_committed_heads_has_no_bleed_and_all_types_occur():
    masks = [read_volume(path).voxels for path in (SAMPLE_DATA / "hemorrhage-truth").glob("*.nii.gz")]

    assert len(masks) == 12 and sum(not mask.any() for mask in masks) == 4
    assert set(np.unique(np.concatenate([np.unique(mask) for mask in masks]))) == {0, 1, 2, 3, 4, 5}


def test_the_committed_settings_name_the_values_in_the_masks():
    settings = tomllib.loads((SAMPLE_DATA / "segmentation" / "label-refinery.toml").read_text(encoding="utf-8"))
    found = set()
    for path in (SAMPLE_DATA / "segmentation-truth").glob("*.nii.gz"):
        found |= set(np.unique(read_volume(path).voxels).tolist())

    assert {one["name"]: one["value"] for one in settings["structures"]} == {"liver": 1, "spleen": 2, "kidney": 3}
    assert found == {0, 1, 2, 3}
