"""MONAI bundles: a folder or ZIP file with a network's description and its weights.

Read as data only: what a bundle would compute (``$`` expressions) or build by itself is refused where it is needed and
passed over elsewhere, so that nothing of a bundle is executed.

Reference:
    MONAI Bundle Specification, https://docs.monai.io/en/stable/mb_specification.html
"""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from lib.errors import UnacceptableFile
from lib.networks.checkpoint import NetworkPlan, Triple, VoxelTriple, is_plain
from lib.networks.matching import read_state_dict
from lib.networks.monai_network import PREFIX, known_arguments
from lib.task import Structure, Task, listed, name_key

CONFIGS = ("configs/inference.json", "configs/train.json")
"""Where the network and its preprocessing are described; the first that is there."""

METADATA = "configs/metadata.json"
WEIGHTS = "models/model.pt"

DEEPEST_REFERENCE = 20
"""References that lead further go in circles."""

HARMLESS = (
    "LoadImage", "EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "CropForeground", "SpatialPad",
    "AddChannel", "DivisiblePad", "Identity", "ScaleIntensityRange", "NormalizeIntensity", "Orientation", "Spacing",
)  # fmt: skip
"""Transforms (without the ``d`` of their dictionary form) that our own preprocessing does or need not do."""


@dataclass(frozen=True)
class Bundle:
    """What of a bundle is used here.

    Attributes:
        name: of the folder or file.
        plan: of its network, for the structures of the task.
        weights: as they are in the file.
        unknown: its classes that the task does not have; they count as background.
        lacking: structures of the task that it does not know.
        notes: sentences about what is done otherwise here.
    """

    name: str
    plan: NetworkPlan
    weights: dict[str, Tensor]
    unknown: tuple[str, ...]
    lacking: tuple[str, ...]
    notes: tuple[str, ...]


def is_bundle(path: Path) -> bool:
    """Whether a path is a folder, or a ZIP file with a bundle's description; PyTorch's own files are ZIP files too."""
    return path.is_dir() or (zipfile.is_zipfile(path) and any(_Files(path).has(name) for name in CONFIGS))


def read_bundle(path: Path, task: Task, names: Mapping[str, Structure]) -> Bundle:
    """Reads a bundle.

    Args:
        path: a folder or ZIP file.
        task: its structures are looked for among the bundle's classes, by name.
        names: the structure behind a class's number or name (by ``name_key``), where the names differ.

    Raises:
        UnacceptableFile: if something is missing, or cannot be used here; the message says what is needed.
    """
    files = _Files(path)
    config = _Config(files.json(next((name for name in CONFIGS if files.has(name)), CONFIGS[0])))
    classes = _classes(files.json(METADATA))
    known = {channel: _structure(channel, name, task, names) for channel, name in enumerate(classes) if channel > 0}
    structures = {structure.name: structure.value for structure in known.values() if structure is not None}
    if not structures:
        raise UnacceptableFile(
            f"The bundle's classes are {', '.join(classes)}; none is one of {listed(task.structures)}. "
            "Say which is which by --label-map, such as 1=liver."
        )
    if len(structures) < sum(structure is not None for structure in known.values()):
        raise UnacceptableFile(f"Several of the bundle's classes {', '.join(classes)} are the same structure here.")
    _refuse_sigmoid(config)
    network, arguments = _network(config)
    transforms = list(_transforms(config))
    window_hu, window_out = _intensities(transforms)
    plan = NetworkPlan(
        network=network,
        structures=structures,
        spacing_mm=_spacing_mm(transforms),
        window_hu=window_hu,
        window_out=window_out,
        patch=_patch(config),
        channels=(),
        strides=(),
        arguments=arguments,
        ignored=tuple(channel for channel, structure in known.items() if structure is None),
    )
    return Bundle(
        name=path.name,
        plan=plan,
        weights=read_state_dict(files.read(WEIGHTS), f"{WEIGHTS} of {path.name}"),
        unknown=tuple(classes[channel] for channel in plan.ignored),
        lacking=tuple(name for name in task.values if name not in structures),
        notes=tuple(_notes(transforms, window_hu)),
    )


class _Files:
    """The files of a bundle, in a folder or a ZIP file, where it may lie one folder deeper."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_dir():
            names = [found.relative_to(path).as_posix() for found in path.glob("**/*.*") if found.is_file()]
        else:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        self._names = {"/".join(name.split("/")[-2:]): name for name in sorted(names, key=len, reverse=True)}

    def has(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        if name not in self._names:
            wanted = f"{' or '.join(CONFIGS)}, {METADATA} and {WEIGHTS}"
            raise UnacceptableFile(f"{self._path.name} has no {name}; a MONAI bundle holds {wanted}.")
        if self._path.is_dir():
            return (self._path / self._names[name]).read_bytes()
        with zipfile.ZipFile(self._path) as archive:
            return archive.read(self._names[name])

    def json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise UnacceptableFile(f"{name} of {self._path.name} is no valid JSON: {error}.") from error
        if not isinstance(found, dict):
            raise UnacceptableFile(f"{name} of {self._path.name} must be a JSON object, found {type(found).__name__}.")
        return found


class _Config:
    """A bundle's configuration, in which ``@`` refers to other parts and ``$`` begins an expression."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def part(self, *names: str) -> Any:
        """The first of these parts that is there, as it is written; ``None`` if none is."""
        return next((found for name in names if (found := self._at(name)) is not None), None)

    def plain(self, value: Any, what: str, depth: int = 0) -> Any:
        """A value with its references followed and its constants read.

        Raises:
            UnacceptableFile: if something would have to be executed.
        """
        if depth > DEEPEST_REFERENCE:
            raise UnacceptableFile(f"The bundle's {what} refers to itself.")
        if isinstance(value, str) and value.startswith("@"):
            return self.plain(self._at(value[1:]), what, depth + 1)
        if isinstance(value, str) and value.startswith(("$", "%")):
            return _constant(value, what)
        if isinstance(value, list):
            return [self.plain(part, what, depth + 1) for part in value]
        if isinstance(value, dict):
            if "_target_" in value:
                raise UnacceptableFile(f"The bundle's {what} is an object to be built ({value['_target_']}).")
            return {key: self.plain(part, what, depth + 1) for key, part in value.items()}
        if not is_plain(value):
            raise UnacceptableFile(f"The bundle's {what} is {value!r}; wanted is a plain value.")
        return value

    def _at(self, name: str) -> Any:
        found: Any = self._content
        for key in name.replace("#", "::").split("::"):
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                found = found.get(key) if isinstance(found, dict) else None
        return found


def _constant(text: str, what: str) -> Any:
    """The value of an expression that is a literal."""
    try:
        return ast.literal_eval(text[1:].strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnacceptableFile(
            f"The bundle's {what} is {text!r}, which would have to be executed. Write the plain value into its config."
        ) from error


def _classes(metadata: Mapping[str, Any]) -> list[str]:
    """Names of the network's channels, background first."""
    found: Any = metadata
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(str(channel) in found for channel in range(len(found))) or not found:
        raise UnacceptableFile(
            f"{METADATA} must name the classes 0, 1, 2 … in network_data_format.outputs.pred.channel_def, "
            f"found {found!r}."
        )
    names = [str(found[str(channel)]) for channel in range(len(found))]
    if name_key(names[0]) != "background" or len(names) < 2 or len({name_key(name) for name in names}) < len(names):
        raise UnacceptableFile(f"The classes of a bundle are the background and others, found {', '.join(names)}.")
    return names


def _structure(channel: int, name: str, task: Task, names: Mapping[str, Structure]) -> Structure | None:
    return names.get(str(channel)) or names.get(name_key(name)) or task.structure(name)


def _network(config: _Config) -> tuple[str, dict[str, Any]]:
    """Name in a plan, and arguments, of the network."""
    found = config.part("network_def", "net_def", "net", "network")
    if not isinstance(found, dict) or not isinstance(found.get("_target_"), str):
        raise UnacceptableFile(
            f"The bundle must describe its network as network_def with a _target_ in monai.networks.nets, "
            f"found {found!r}."
        )
    *package, name = found["_target_"].split(".")
    if package and package[:3] != ["monai", "networks", "nets"]:
        raise UnacceptableFile(
            f"The bundle's network is {found['_target_']}; wanted is a class of monai.networks.nets."
        )
    arguments = {key: config.plain(value, f"network argument {key}") for key, value in found.items() if key[:1] != "_"}
    return f"{PREFIX}{name}", known_arguments(name, arguments)


def _transforms(config: _Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name (without the ``d`` of the dictionary form) and plain arguments of each transform before the network."""
    found = config.part(
        "preprocessing::transforms", "validate::preprocessing::transforms", "train::deterministic_transforms"
    )
    if isinstance(found, str) and found.startswith("@"):
        found = config.part(found[1:])
    if not isinstance(found, list):
        raise UnacceptableFile("The bundle must list its preprocessing::transforms; found none.")
    for number, transform in enumerate(found):
        if isinstance(transform, str) and transform.startswith("@"):
            transform = config.part(transform[1:])
        if not isinstance(transform, dict) or not isinstance(transform.get("_target_"), str):
            raise UnacceptableFile(f"Transform {number} of the bundle's preprocessing has no _target_: {transform!r}.")
        if transform.get("_disabled_") in (True, "true", "True"):
            continue
        name = transform["_target_"].rpartition(".")[2].removesuffix("Dict").removesuffix("d")
        if name not in HARMLESS:
            raise UnacceptableFile(
                f"The bundle prepares images by {transform['_target_']}, which is not done here; known are "
                f"{', '.join(f'{known}d' for known in HARMLESS)}."
            )
        yield name, {key: _lazily(config, value, f"{name}d: {key}") for key, value in transform.items()}


def _refuse_sigmoid(config: _Config) -> None:
    """Raises for a network that decides each class by itself: here the classes share each voxel."""
    after = config.part("postprocessing::transforms", "validate::postprocessing::transforms")
    for transform in after if isinstance(after, list) else []:
        if isinstance(transform, dict) and transform.get("sigmoid") in (True, "$True"):
            raise UnacceptableFile(
                "The bundle's network gives each class by itself (sigmoid); wanted is one with softmax."
            )


def _lazily(config: _Config, value: Any, what: str) -> Any:
    """The plain value, or else the refusal itself, which only matters if the value is needed."""
    try:
        return config.plain(value, what)
    except UnacceptableFile as error:
        return error


def _needed(arguments: Mapping[str, Any], name: str, default: Any = None) -> Any:
    value = arguments.get(name, default)
    if isinstance(value, UnacceptableFile):
        raise value
    return value


def _spacing_mm(transforms: list[tuple[str, dict[str, Any]]]) -> Triple:
    for name, arguments in transforms:
        if name == "Orientation" and (codes := _needed(arguments, "axcodes")) != "RAS":
            raise UnacceptableFile(f"The bundle turns images to {codes!r}; here they are always turned to RAS.")
    spacings = [_needed(arguments, "pixdim") for name, arguments in transforms if name == "Spacing"]
    if len(spacings) != 1 or not _is_triple(spacings[0]):
        raise UnacceptableFile(
            f"The bundle must resample images once by Spacingd with three edges in mm, found {spacings}."
        )
    i, j, k = (float(edge) for edge in spacings[0])
    return i, j, k


def _is_triple(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(part, int | float) and not isinstance(part, bool) and part > 0 for part in value)
    )


def _intensities(
    transforms: list[tuple[str, dict[str, Any]]],
) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """Window of the intensities (``None``: each image by itself) and what its bounds become."""
    found = [
        (name, arguments) for name, arguments in transforms if name in ("ScaleIntensityRange", "NormalizeIntensity")
    ]
    if len(found) != 1:
        raise UnacceptableFile(
            "The bundle must scale intensities once, by ScaleIntensityRanged or NormalizeIntensityd, "
            f"found {[name for name, _ in found] or 'neither'}."
        )
    name, arguments = found[0]
    if name == "NormalizeIntensity":
        if _needed(arguments, "subtrahend") is not None or _needed(arguments, "divisor") is not None:
            raise UnacceptableFile("The bundle normalises by fixed numbers; here each image is by its own mean.")
        return None, (-1.0, 1.0)
    bounds = [_needed(arguments, bound) for bound in ("a_min", "a_max", "b_min", "b_max")]
    if not all(isinstance(bound, int | float) for bound in bounds) or not (
        bounds[0] < bounds[1] and bounds[2] < bounds[3]
    ):
        raise UnacceptableFile(
            f"ScaleIntensityRanged of the bundle has the bounds {bounds}; wanted are a range and its image."
        )
    a_min, a_max, b_min, b_max = (float(bound) for bound in bounds)
    return (a_min, a_max), (b_min, b_max)


def _patch(config: _Config) -> VoxelTriple:
    """The window that the network sees at once."""
    for path in ("inferer::roi_size", "validate::inferer::roi_size"):
        if (written := config.part(path)) is not None:
            found = config.plain(written, "roi_size")
            if not _is_triple(found):
                raise UnacceptableFile(
                    f"The bundle's inferer sees windows of {found!r}; wanted are three numbers of voxels."
                )
            return cast(VoxelTriple, tuple(int(size) for size in found))
    raise UnacceptableFile(
        "The bundle must name the window that its network sees: roi_size of its SlidingWindowInferer."
    )


def _notes(transforms: list[tuple[str, dict[str, Any]]], window_hu: tuple[float, float] | None) -> Iterator[str]:
    done = {name for name, _ in transforms}
    if "Orientation" not in done:
        yield "The bundle does not turn images; here they are turned to RAS."
    if window_hu is None:
        yield "Each image is standardised over its tissue and clipped, as for all networks here, not as in the bundle."
    if any(name == "ScaleIntensityRange" and arguments.get("clip") is not True for name, arguments in transforms):
        yield "Intensities beyond the window are clipped here; the bundle keeps them."
