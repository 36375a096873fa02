"""MONAI bundles: what is read from them, and what is refused because it would have to be executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from lib.errors import UnacceptableFile
from lib.networks.bundle import is_bundle, read_bundle
from lib.networks.checkpoint import Checkpoint, NetworkPlan
from lib.networks.matching import matched
from lib.networks.monai_network import CLASSES as KNOWN
from lib.networks.segmenter import network_of
from lib.predictor import Predictor
from lib.task import Task, numbered
from lib.volume import Volume
from tests.networks.bundles import CLASSES, SEGRESNET, UNET, config, metadata, network, put_bundle, saved, zipped

TASK = Task("organs", "", numbered(["liver", "spleen"]))


def read(folder, task=TASK, names=None, **changes):
    return read_bundle(put_bundle(folder, config(**changes)), task, names or {})


def test_a_bundle_becomes_a_plan(tmp_path):
    bundle = read(tmp_path)

    assert bundle.plan == NetworkPlan(
        network="monai:UNet",
        structures={"spleen": 2, "liver": 1},
        spacing_mm=(2.0, 2.0, 2.0),
        window_hu=(-100.0, 300.0),
        window_out=(0.0, 1.0),
        patch=(16, 16, 16),
        channels=(),
        strides=(),
        arguments={"spatial_dims": 3, "in_channels": 1, "channels": [4, 8], "strides": [2], "num_res_units": 2,
                   "norm": "batch"},
    )  # fmt: skip
    assert (bundle.unknown, bundle.lacking, bundle.notes) == ((), (), ())
    assert NetworkPlan.from_json(bundle.plan.to_json()) == bundle.plan


@pytest.mark.parametrize("definition", [UNET, SEGRESNET])
def test_all_weights_of_a_bundle_match_its_network(tmp_path, definition):
    bundle = read(tmp_path, network_def=definition)

    assert matched(bundle.weights, network_of(bundle.plan)).is_complete


def test_a_mask_is_what_the_bundle_itself_would_give(tmp_path):
    bundle = read(tmp_path)
    hu = np.random.default_rng(0).normal(100, 200, (20, 24, 18)).astype(np.float32)
    theirs = network(UNET, 3).eval()
    scaled = torch.from_numpy(((hu + 100) / 400).clip(0, 1))[None, None]
    with torch.inference_mode():
        logits = sliding_window_inference(
            scaled, (16, 16, 16), 1, lambda window: theirs(window).softmax(1), 0.25, "gaussian"
        )
    expected = np.array([0, 2, 1], np.uint8)[logits[0].argmax(0).numpy()]

    mask = Predictor(Checkpoint(bundle.plan, bundle.weights)).mask(Volume(hu, np.diag([2.0, 2, 2, 1])))

    assert len(np.unique(expected)) > 1
    assert (mask == expected).mean() > 0.999


@pytest.mark.parametrize("inside", ["", "spleen_ct/"])
def test_a_zip_file_is_a_bundle_too(tmp_path, inside):
    path = zipped(put_bundle(tmp_path / "folder"), tmp_path / "bundle.zip", inside)

    assert is_bundle(path)
    assert read_bundle(path, TASK, {}).plan == read(tmp_path / "other").plan


def test_a_weight_file_is_no_bundle_though_it_is_a_zip_file(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(saved({"a": torch.ones(1)}))

    assert not is_bundle(path)


def test_a_class_that_the_task_does_not_have_counts_as_background(tmp_path):
    names = ("background", "aorta", "liver")
    bundle = read_bundle(put_bundle(tmp_path, names=names), TASK, {})
    volume = Volume(np.random.default_rng(0).normal(100, 200, (16, 16, 16)), np.diag([2.0, 2, 2, 1]))

    predictor = Predictor(Checkpoint(bundle.plan, bundle.weights))
    probabilities, _ = predictor.probabilities(volume)
    with torch.inference_mode():
        scaled = torch.from_numpy(((volume.voxels + 100) / 400).clip(0, 1)).float()[None, None]
        theirs = network(UNET, 3).eval()(scaled).softmax(1)[0]

    assert (bundle.unknown, bundle.lacking) == (("aorta",), ("spleen",))
    assert bundle.plan.ignored == (1,)
    torch.testing.assert_close(probabilities[0], theirs[0] + theirs[1], atol=1e-2, rtol=0)
    torch.testing.assert_close(probabilities[1], theirs[2], atol=1e-2, rtol=0)


def test_a_class_of_another_name_may_be_mapped(tmp_path):
    names = {"1": TASK.structures[1], "leber": TASK.structures[0]}

    bundle = read_bundle(put_bundle(tmp_path, names=("background", "Milz", "Leber")), TASK, names)

    assert bundle.plan.structures == {"spleen": 2, "liver": 1}


def test_standardised_images_are_announced(tmp_path):
    bundle = read(tmp_path, preprocessing__transforms__4={"_target_": "NormalizeIntensityd", "nonzero": True})

    assert bundle.plan.window_hu is None
    assert "standardised" in bundle.notes[0]


def test_what_is_done_otherwise_here_is_announced(tmp_path):
    bundle = read(
        tmp_path, preprocessing__transforms__2={"_target_": "EnsureTyped"}, preprocessing__transforms__4__clip=False
    )

    assert [note.split(";")[0] for note in bundle.notes] == [
        "The bundle does not turn images",
        "Intensities beyond the window are clipped here",
    ]


def test_a_transform_that_is_switched_off_does_not_count(tmp_path):
    off = {"_target_": "HistogramNormalized", "_disabled_": True}

    assert read(tmp_path, preprocessing__transforms__0=off).plan.patch == (16, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_def__act": "$__import__('os').mkdir('sprung')"}, "network argument act is .* have to be executed"),
        ({"network_def__act": {"_target_": "torch.nn.ReLU"}}, r"network argument act is an object to be built"),
        ({"network_def__act": "@network_def::act"}, "network argument act refers to itself"),
        ({"network_def___target_": "os.mkdir"}, "network is os.mkdir; wanted is a class of monai.networks.nets"),
        ({"network_def___target_": "TorchVisionFCModel"}, "MONAI's 'TorchVisionFCModel'; known are AttentionUnet"),
        ({"network_def": "$torch.load('model')"}, "must describe its network as network_def"),
        ({"network_def__in_channels": 4}, "sees 4 channels in 3 dimensions"),
        ({"network_def__spatial_dims": 2}, "sees 1 channels in 2 dimensions"),
        ({"pixdim": "$@spacing * 2"}, "Spacingd: .*executed|pixdim is .* executed"),
        ({"pixdim": [1.5, 1.5, -1]}, "Spacingd with three edges"),
        ({"preprocessing__transforms__3": {"_target_": "EnsureTyped"}}, r"three edges in mm, found \[\]"),
        ({"preprocessing__transforms__2__axcodes": "LPS"}, "turns images to 'LPS'"),
        ({"preprocessing__transforms__0": {"_target_": "Lambdad", "func": "$print"}}, "by Lambdad, which is not done"),
        ({"preprocessing__transforms__4": {"_target_": "EnsureTyped"}}, "scale intensities once.*found neither"),
        ({"preprocessing__transforms__4__a_max": -200}, r"has the bounds \[-100, -200, 0.0, 1.0\]"),
        ({"preprocessing__transforms__4": {"_target_": "NormalizeIntensityd", "divisor": 3}}, "by fixed numbers"),
        ({"preprocessing": "@train"}, "must list its preprocessing::transforms"),
        ({"inferer": None}, "must name the window"),
        ({"inferer__roi_size": [16, 16]}, r"windows of \[16, 16\]"),
        ({"postprocessing__transforms__0": {"_target_": "Activationsd", "sigmoid": True}}, "sigmoid"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_what_is_needed(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    folder = put_bundle(tmp_path / "bundle", config(**changes), weights={"a": torch.ones(1)})

    with pytest.raises(UnacceptableFile, match=message):
        read_bundle(folder, TASK, {})
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("background", "aorta", "vein"), "none is one of liver=1, spleen=2.*--label-map"),
        (("liver", "spleen", "aorta"), "background and others"),
        (("background", "liver", "Liver"), "background and others"),
    ],
)
def test_classes_of_another_kind_are_refused(tmp_path, names, message):
    with pytest.raises(UnacceptableFile, match=message):
        read_bundle(put_bundle(tmp_path, names=names), TASK, {})


def test_two_classes_for_one_structure_are_refused(tmp_path):
    with pytest.raises(UnacceptableFile, match="Spleen, Liver are the same structure"):
        read(tmp_path, names={"spleen": TASK.structures[0]})


@pytest.mark.parametrize("missing", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_a_missing_file_is_named(tmp_path, missing):
    (put_bundle(tmp_path) / missing).unlink()

    with pytest.raises(UnacceptableFile, match=rf"has no {missing}; a MONAI bundle holds"):
        read_bundle(tmp_path, TASK, {})


@pytest.mark.parametrize(("text", "message"), [("{", "no valid JSON"), ("[]", "JSON object, found list")])
def test_a_damaged_description_is_named(tmp_path, text, message):
    (put_bundle(tmp_path) / "configs/metadata.json").write_text(text)

    with pytest.raises(UnacceptableFile, match=f"metadata.json of .*{message}"):
        read_bundle(tmp_path, TASK, {})


def test_missing_class_names_are_asked_for(tmp_path):
    (put_bundle(tmp_path) / "configs/metadata.json").write_text("{}")

    with pytest.raises(UnacceptableFile, match="must name the classes 0, 1, 2"):
        read_bundle(tmp_path, TASK, {})


def test_every_class_that_is_known_is_one_of_monais():
    from monai.networks import nets

    assert [name for name in KNOWN if not hasattr(nets, name)] == []
    assert len(CLASSES) == len(metadata()["network_data_format"]["outputs"]["pred"]["channel_def"])
