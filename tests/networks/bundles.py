"""Small MONAI bundles, written as the bundle specification lays them out."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from monai.networks import nets

UNET = {
    "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": "@classes",
    "channels": [4, 8], "strides": [2], "num_res_units": 2, "norm": "batch",
}  # fmt: skip
SEGRESNET = {
    "_target_": "monai.networks.nets.SegResNet", "in_channels": 1, "out_channels": "@classes",
    "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1],
}  # fmt: skip

CONFIG: dict[str, Any] = {
    "classes": 3,
    "pixdim": "$[2.0, 2.0, 2.0]",
    "device": "$torch.device('cuda')",
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "reader": "$monai.data.ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged", "keys": "image",
                "a_min": -100, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True,
            },
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4},
    "postprocessing": {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "softmax": True}]},
}  # fmt: skip

CLASSES = ("background", "Spleen", "Liver")


def config(**changes: Any) -> dict[str, Any]:
    """The description of a bundle; keys with ``__`` lead into it."""
    content = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place: Any = content
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        if isinstance(place, list):
            place[int(last)] = value
        elif value is None:
            del place[last]
        else:
            place[last] = value
    return content


def network(definition: dict[str, Any], classes: int, seed: int = 0) -> torch.nn.Module:
    """The network that a definition describes."""
    arguments = {key: value for key, value in definition.items() if key[0] != "_"} | {"out_channels": classes}
    torch.manual_seed(seed)
    return getattr(nets, definition["_target_"].rpartition(".")[2])(**arguments)


def metadata(names: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    """What a bundle tells about its classes."""
    channels = {str(channel): name for channel, name in enumerate(names)}
    return {"version": "0.1.0", "network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}


def saved(content: Any) -> bytes:
    """A PyTorch file."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def put_bundle(
    folder: Path, content: dict[str, Any] | None = None, names: tuple[str, ...] = CLASSES, weights: Any = None
) -> Path:
    """Writes a bundle into a folder and returns it."""
    content = config() if content is None else content
    if weights is None:
        weights = network(content["network_def"], len(names)).state_dict()
    for path, text in (
        ("configs/inference.json", json.dumps(content).encode()),
        ("configs/metadata.json", json.dumps(metadata(names)).encode()),
        ("models/model.pt", saved(weights)),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)
    return folder


def zipped(folder: Path, target: Path, inside: str = "") -> Path:
    """The same as a ZIP file, within a folder of that name if one is given."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, f"{inside}{path.relative_to(folder)}")
    return target
