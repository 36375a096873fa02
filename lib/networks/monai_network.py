"""Networks of MONAI that a plan names by their class, as a MONAI bundle brings them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import NetworkPlan

PREFIX = "monai:"
"""Begin of ``NetworkPlan.network`` for these networks."""

CLASSES = ("AttentionUnet", "BasicUNet", "DynUNet", "SegResNet", "SegResNetDS", "SwinUNETR", "UNETR", "UNet", "VNet")
"""Classes in ``monai.networks.nets`` that give one set of logits and load nothing when they are built."""

SINGLE_OUTPUT: dict[str, dict[str, Any]] = {"DynUNet": {"deep_supervision": False}, "SegResNetDS": {"dsdepth": 1}}
"""Arguments that keep the coarse outputs away, which are for training in another way than ours."""

OUTDATED = {"SwinUNETR": ("img_size",)}
"""Arguments of earlier MONAI versions that had no effect on the weights."""


def known_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with which this class is built here, for one grey image in three dimensions.

    Raises:
        UnacceptableFile: if it is none of the known classes, or it is for other images.
    """
    if name not in CLASSES:
        raise UnacceptableFile(f"The network is MONAI's {name!r}; known are {', '.join(CLASSES)}.")
    kept = {key: value for key, value in arguments.items() if key not in OUTDATED.get(name, ())}
    kept |= {"in_channels": kept.get("in_channels", 1), "spatial_dims": kept.get("spatial_dims", 3)}
    if (kept["in_channels"], kept["spatial_dims"]) != (1, 3):
        raise UnacceptableFile(
            f"The network sees {kept['in_channels']} channels in {kept['spatial_dims']} dimensions; "
            "wanted is one for a single grey volume: 1 channel, 3 dimensions."
        )
    kept.pop("out_channels", None)
    return {**kept, **SINGLE_OUTPUT.get(name, {})}


def monai_network(plan: NetworkPlan) -> nn.Module:
    """The network of a plan whose name begins with ``monai:``, with fresh weights.

    Raises:
        UnacceptableFile: if the class is not known, or does not take the plan's arguments.
    """
    name = plan.network.removeprefix(PREFIX)
    arguments = known_arguments(name, plan.arguments)
    try:
        network: nn.Module = getattr(nets, name)(**arguments, out_channels=plan.outputs)
    # MONAI raises many kinds of errors for arguments that do not go together.
    except Exception as error:
        raise UnacceptableFile(f"MONAI's {name} cannot be built with {arguments}: {error}") from error
    return network


def class_axes(plan: NetworkPlan) -> dict[str, tuple[int, ...]]:
    """The axes of each tensor that count classes; found by building the network for one class more."""
    larger = monai_network(replace(plan, ignored=(*plan.ignored, plan.outputs))).state_dict()
    return {
        name: tuple(axis for axis in range(tensor.dim()) if tensor.shape[axis] != larger[name].shape[axis])
        for name, tensor in monai_network(plan).state_dict().items()
        if tensor.shape != larger[name].shape
    }


def refuse_other_output(plan: NetworkPlan, network: nn.Module) -> None:
    """Tries the network on an empty patch.

    Raises:
        UnacceptableFile: if it fails, or does not give one channel for each class at full resolution.
    """
    wanted = (1, plan.outputs, *plan.patch)
    try:
        with torch.inference_mode():
            found = network.eval()(torch.zeros(1, 1, *plan.patch))
    # A size that does not suit the network shows in whatever it stumbles over.
    except Exception as error:
        raise UnacceptableFile(f"The network fails on a patch of {plan.patch} voxels: {error}") from error
    if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UnacceptableFile(f"The network gives {shape} for a patch of {plan.patch} voxels, wanted is {wanted}.")
