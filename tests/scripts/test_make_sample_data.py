"""The sample data: what the command writes, and that the committed files are what their README says."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lib.phantoms.sample_data import digest
from lib.volume import read_volume
from scripts.make_sample_data import main

SAMPLE_DATA = Path(__file__).parents[2] / "sample-data"
SEED = "7"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    main(["--out", str(folder), "--cases", "6", "--seed", SEED])
    return folder


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_image_has_its_truth_under_the_same_name(written):
    names = sorted(path.name for path in (written / "segmentation").iterdir())
    truths = sorted(path.name for path in (written / "segmentation-truth").iterdir())

    assert names == [
        "abdomen_01.nii.gz", "abdomen_02.nii.gz", "abdomen_03.nrrd", "abdomen_04.nii.gz", "abdomen_05", "abdomen_06",
        "label-refinery.toml",
    ]  # fmt: skip
    assert truths == [f"abdomen_{number:02d}.nii.gz" for number in range(1, 7)]


@pytest.mark.parametrize("name", ["abdomen_01.nii.gz", "abdomen_03.nrrd"])
def test_image_and_truth_lie_on_one_grid(written, name):
    image = read_volume(written / "segmentation" / name)
    truth = read_volume(written / "segmentation-truth" / f"{name[:10]}.nii.gz")

    assert image.grid.is_same_as(truth.grid)
    assert image.voxels.dtype == np.int16 and truth.voxels.dtype == np.uint8
    assert image.voxels[truth.voxels == 1].mean() > 20


def test_a_dicom_series_lies_on_the_grid_of_its_truth(written):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(written / "segmentation" / "abdomen_05")))
    image = reader.Execute()
    truth = SimpleITK.ReadImage(str(written / "segmentation-truth" / "abdomen_05.nii.gz"))

    assert image.GetSize() == truth.GetSize()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(image, name)(), getattr(truth, name)(), atol=1e-4)
    voxels, mask = SimpleITK.GetArrayFromImage(image), SimpleITK.GetArrayFromImage(truth)
    assert voxels[mask == 1].mean() > 20


def test_the_same_seed_writes_the_same_bytes(written, tmp_path):
    main(["--out", str(tmp_path), "--cases", "6", "--seed", SEED])

    first, again = files_of(written), files_of(tmp_path)
    assert [name for name in first if first[name].read_bytes() != again[name].read_bytes()] == []
    assert first.keys() == again.keys()


def test_it_says_what_it_wrote(tmp_path, capsys):
    main(["--out", str(tmp_path), "--cases", "1"])

    assert re.fullmatch(rf"Wrote 1 images and 1 masks, 0\.\d MB, to {tmp_path}/\n", capsys.readouterr().out)


def test_the_committed_files_are_those_of_the_readme():
    text = (SAMPLE_DATA / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(segmentation\S+)` .* `([0-9a-f]{64})` \|$", text, flags=re.MULTILINE))

    assert len(listed) == 28
    assert {name: digest(SAMPLE_DATA / name)[0] for name in listed} == listed
    entries = [*(SAMPLE_DATA / "segmentation").iterdir(), *(SAMPLE_DATA / "segmentation-truth").iterdir()]
    assert len(entries) == len(listed) + 1
    assert sum(path.stat().st_size for path in files_of(SAMPLE_DATA).values()) < 5_000_000


def test_the_committed_settings_name_the_values_in_the_masks():
    settings = tomllib.loads((SAMPLE_DATA / "segmentation" / "label-refinery.toml").read_text(encoding="utf-8"))
    found = set()
    for path in (SAMPLE_DATA / "segmentation-truth").iterdir():
        found |= set(np.unique(read_volume(path).voxels).tolist())

    assert {one["name"]: one["value"] for one in settings["structures"]} == {"liver": 1, "spleen": 2, "kidney": 3}
    assert found == {0, 1, 2, 3}
