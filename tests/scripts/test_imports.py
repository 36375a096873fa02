"""The commands that bring masks and weights along: on a folder without a server, twice, and beside a running one."""

from __future__ import annotations

import fcntl
import json

import numpy as np
import pytest

from lib.errors import SetupError
from lib.serving.opening import open_app, task_class
from lib.store import layout
from lib.store.record import open_existing
from lib.volume import Volume, nifti_bytes
from scripts import import_labels, import_weights
from scripts._record import ROOT
from tests.networks.bundles import config, put_bundle
from tests.serving.places import drawn, mask_bytes, put_images

NAMES = ("background", "Posterior", "Anterior")


@pytest.fixture
def options(tmp_path):
    """Options of the commands for two images whose record does not exist yet."""
    put_images(tmp_path / "studies", 2)
    return ["--studies", str(tmp_path / "studies"), "--data", str(tmp_path / "data"),
            "--conf", "labels", "Anterior,Posterior"]  # fmt: skip


@pytest.fixture
def masks(tmp_path):
    """The options for a folder with one mask for each image, and one for none."""
    (tmp_path / "masks").mkdir()
    for number in range(3):
        (tmp_path / "masks" / f"case_0{number}.nii.gz").write_bytes(mask_bytes(number))
    return ["--labels", str(tmp_path / "masks"), "--author", "dr.kim"]


def told(capsys):
    """Lines that were printed, without blanks around."""
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_masks_are_imported_before_the_first_start_and_only_once(tmp_path, options, masks, capsys):
    import_labels.main([*options, *masks, "--dry-run"])
    assert "2 would be imported" in told(capsys)

    import_labels.main([*options, *masks])
    first = told(capsys)
    import_labels.main([*options, *masks])

    assert first[:5] == [
        "2 imported", "case_00, case_01", "0 skipped", "1 refused", "case_02.nii.gz: no image is called 'case_02'",
    ]  # fmt: skip
    assert "An import starts no training; only corrections do. Next: ./scripts/run, then POST /train/" in first[-1]
    assert told(capsys)[:2] == ["0 imported", "2 skipped"]
    record = open_existing(tmp_path / "data")
    assert [len(record.annotations.history(image)) for image in ("case_00", "case_01")] == [1, 1]


def test_nothing_but_refusals_is_a_failure(tmp_path, options, masks):
    for number in range(2):
        (tmp_path / "masks" / f"case_0{number}.nii.gz").unlink()

    with pytest.raises(SystemExit, match="1"):
        import_labels.main([*options, *masks])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--label-map", "1=Tail"], "'1=Tail': this task has Anterior=1, Posterior=2"),
        (["--author", "dr.\nkim"], "printable"),
        (["--labels", "nowhere"], "is no folder"),
        (["--studies", "nowhere"], "is no folder"),
        (["--conf", "labels", "Anterior=2"], "made with Anterior=1"),
        (["--app", "apps/none"], "holds no main.py"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options, masks, more, message):
    import_labels.main([*options, *masks, "--dry-run"])

    with pytest.raises(SystemExit, match=message):
        import_labels.main([*options, *masks, *more])


def test_beside_a_running_server_known_images_get_their_masks(tmp_path, options, masks, capsys):
    import_labels.main([*options, *masks, "--dry-run"])
    put_images(tmp_path / "studies", 3)
    capsys.readouterr()

    with (tmp_path / "data" / layout.LOCK).open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        import_labels.main([*options, *masks])

    # The third image came while the server ran, which looks at the studies itself.
    assert told(capsys)[0] == "2 imported"


def test_a_bundle_is_imported_and_serves(tmp_path, options, capsys):
    bundle = put_bundle(tmp_path / "bundle", config(pixdim=[3.0, 3.0, 3.0]), NAMES)

    import_weights.main([*options, str(bundle), "--dry-run"])
    import_weights.main([*options, str(bundle)])
    import_weights.main([*options, str(bundle), "--serve"])

    record = open_existing(tmp_path / "data")
    assert [(model.version, model.state) for model in record.models.every()] == [(1, "kept"), (2, "serving")]
    lines = told(capsys)
    assert lines[0] == "Network monai:UNet, structures Posterior, Anterior."
    assert any(line.startswith("Version 1 of segmentation is kept: imported from bundle: ") for line in lines)


def test_weights_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, options):
    (tmp_path / "model.pt").write_text(json.dumps({}))

    with pytest.raises(SystemExit, match=r"model.pt is no PyTorch file"):
        import_weights.main([*options, str(tmp_path / "model.pt")])


@pytest.mark.parametrize("app", sorted(path.parent.name for path in (ROOT / "apps").glob("*/main.py")))
def test_every_app_can_be_opened(app):
    assert task_class(ROOT / "apps" / app).TASK.name == app


@pytest.mark.parametrize(("source", "message"), [(None, "holds no main.py"), ("x = 1", "one class of LabelingLoop")])
def test_a_folder_without_an_app_is_refused(tmp_path, source, message):
    if source:
        (tmp_path / "main.py").write_text(source)

    with pytest.raises(SetupError, match=message):
        open_app(tmp_path, str(tmp_path), {"data": str(tmp_path / "data"), "labels": "a"})


TREES = {
    "TotalSegmentator": (
        "s0000/ct",
        {"s0000/segmentations/Anterior": 1, "s0000/segmentations/Posterior": 2},
        "segmentations",
    ),
    "KiTS": ("case_00000/imaging", {"case_00000/segmentation": None}, "segmentation.nii.gz"),
    "BraTS": ("B1/B1_flair", {"B1/B1_seg": None}, "*_seg.nii.gz"),
    "nnU-Net": ("imagesTr/la_001_0000", {"labelsTr/la_001": None}, "labelsTr"),
    "LiTS": ("volume-1", {"segmentation-1": None}, "segmentation-*"),
}
"""Image, its masks with the value that each shows, and a pattern that keeps them from being listed, by data set."""


@pytest.mark.parametrize("is_ignored", [True, False], ids=["ignored", "listed"])
@pytest.mark.parametrize("tree", TREES)
def test_masks_that_lie_among_the_images_are_imported_and_no_image_is(tmp_path, capsys, tree, is_ignored):
    image, masks, pattern = TREES[tree]
    volume, mask = drawn(0)
    for name, voxels in {
        image: volume.voxels,
        **{name: mask if value is None else mask == value for name, value in masks.items()},
    }.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / f"{name}.nii.gz").write_bytes(nifti_bytes(Volume(voxels.astype(np.int16), volume.affine)))
    options = ["--studies", str(tmp_path / "set"), "--labels", str(tmp_path / "set"), "--data", str(tmp_path / "data"),
               "--author", "dr.kim", "--conf", "labels", "Anterior,Posterior"]  # fmt: skip

    import_labels.main([*options, *(["--conf", "ignore", pattern] if is_ignored else [])])

    said = told(capsys)
    assert said[:1] + said[-3:-1] == ["1 imported", "0 skipped", "0 refused"]
    assert ("is listed as an image too" in " ".join(said)) is not is_ignored
    record = open_existing(tmp_path / "data")
    (annotation,) = record.annotations.history(image)
    assert annotation.voxels == {"Anterior": int((mask == 1).sum()), "Posterior": int((mask == 2).sum())}
