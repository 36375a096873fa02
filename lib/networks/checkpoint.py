"""A trained network as one file: its weights and all that is needed to use them."""

from __future__ import annotations

import io
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from lib.errors import UnacceptableFile
from lib.networks.weight_file import plain_content
from lib.task import REGIONS

Triple = tuple[float, float, float]
VoxelTriple = tuple[int, int, int]
T = TypeVar("T")


MOST_DRAFT_VOTES = 0.6
"""With these a refiner changes what it is 80 % sure of. Measured on outlines of crowd workers (docs/methods.md): the
gain stays, and fewer masks become worse."""


@dataclass(frozen=True)
class NetworkPlan:
    """All that is needed to rebuild a network and to prepare images for it.

    All triples run along the axes of the network grid: right, anterior, superior.

    Attributes:
        network: name in ``segmenter.NETWORKS``, or ``monai:`` and a class of ``monai_network.CLASSES``.
        structures: label value by structure name, in the order of the network's channels (background comes first).
        spacing_mm: voxel edges that the network works at.
        window_hu: lower and upper bound of the intensities; ``None``: each image is standardised by itself.
        patch: voxels that training looks at together; multiples of the network's strides.
        channels: features of each level, finest first.
        strides: voxels per step from one level to the next, one triple for each level but the first.
        kernel: edge lengths of the convolutions.
        features: of every voxel at full resolution, which the classifier decides from.
        region: what is seen of an image, ``tissue`` or ``largest``, see ``Task.region``.
        encoder: path of the weight file of a frozen encoder, whose tensors are no part of the checkpoint; empty: the
            network has none.
        encoder_sha256: of that file, in hexadecimal digits.
        window_out: what the bounds of ``window_hu`` become.
        arguments: plain values that a class of MONAI is built with. It has no channels and strides of ours, and sees
            windows of exactly ``patch`` voxels.
        ignored: channels of such a network that stand for structures the task does not have; they count as background.
        draft_votes: votes that a draft has in each voxel beside the one of the refiner.
        least_quality: estimated Dice (``refinement.keep``) below which a refiner is less sure than it usually was.
        cleared: structures of which experts have left nothing in some draft that a refiner learned from.
        neighbours: slices on each side that a refiner of slices sees of image and mask beside the one it answers for.
    """

    network: str
    structures: dict[str, int]
    spacing_mm: Triple
    window_hu: tuple[float, float] | None
    patch: VoxelTriple
    channels: tuple[int, ...]
    strides: tuple[VoxelTriple, ...]
    kernel: VoxelTriple = (3, 3, 3)
    features: int = 8
    region: str = "tissue"
    encoder: str = ""
    encoder_sha256: str = ""
    window_out: tuple[float, float] = (-1.0, 1.0)
    arguments: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    draft_votes: float = MOST_DRAFT_VOTES
    least_quality: float = 0.0
    cleared: tuple[str, ...] = ()
    neighbours: int = 0

    @property
    def classes(self) -> int:
        """Channels of the probabilities: the background and every structure."""
        return 1 + len(self.structures)

    @property
    def outputs(self) -> int:
        """Channels of the network: those of the probabilities and the ignored ones."""
        return self.classes + len(self.ignored)

    @property
    def heeded(self) -> list[int]:
        """The network's channels for the background and every structure."""
        return [channel for channel in range(self.outputs) if channel not in self.ignored]

    @property
    def multiple(self) -> VoxelTriple:
        """Voxels along each axis that all strides together take in one step."""
        i, j, k = 1, 1, 1
        for stride in self.strides:
            i, j, k = i * stride[0], j * stride[1], k * stride[2]
        return i, j, k

    def to_json(self) -> dict[str, Any]:
        """The plan in JSON's own types."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Any) -> NetworkPlan:
        """Reads what ``to_json`` gives.

        Raises:
            UnacceptableFile: if an entry is missing or is not of its kind; the message names it.
        """
        if not isinstance(content, Mapping):
            raise UnacceptableFile(f"A network plan is a JSON object, found {type(content).__name__}.")
        window = content.get("window_hu")
        return cls(
            network=_entry(content, "network", _text),
            structures=_entry(content, "structures", _structures),
            spacing_mm=_entry(content, "spacing_mm", _millimetres),
            window_hu=None if window is None else _entry(content, "window_hu", _window),
            patch=_entry(content, "patch", _voxels),
            channels=_entry(content, "channels", _counts),
            strides=_entry(content, "strides", _strides),
            kernel=_entry(content, "kernel", _voxels),
            features=_entry(content, "features", _count),
            region=_entry(content, "region", _region),
            window_out=_entry(content, "window_out", _window),
            arguments=_entry(content, "arguments", _arguments),
            ignored=_entry(content, "ignored", _ignored),
            # Plans from before there was a choice do not say these.
            draft_votes=_entry({"draft_votes": MOST_DRAFT_VOTES, **content}, "draft_votes", _votes),
            least_quality=_entry({"least_quality": 0.0, **content}, "least_quality", _share),
            cleared=_entry({"cleared": (), **content}, "cleared", _names),
            neighbours=_entry({"neighbours": 0, **content}, "neighbours", _neighbours),
            encoder=_entry(content, "encoder", _text),
            encoder_sha256=_entry(content, "encoder_sha256", _text),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A plan and the weights that fit it, on the CPU."""

    plan: NetworkPlan
    weights: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """A PyTorch file of plain containers and tensors: it can be read without running code from it."""
        file = io.BytesIO()
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self.weights.items()}
        torch.save({"plan": self.plan.to_json(), "weights": weights}, file)
        return file.getvalue()

    @classmethod
    def is_one(cls, content: bytes) -> bool:
        """Whether the bytes are a PyTorch file with a plan and weights, whatever those are."""
        try:
            return _is_checkpoint(plain_content(content))
        # As below: any error means that it is something else.
        except Exception:
            return False

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Reads what ``to_bytes`` gives; nothing in the file is executed.

        Raises:
            UnacceptableFile: if it is anything else than a plan and tensors.
        """
        try:
            found = plain_content(content)
        # torch.load raises whatever the damaged or foreign bytes make it stumble over.
        except Exception as error:
            raise UnacceptableFile(
                f"These {len(content)} bytes are no weights of this server ({type(error).__name__}); "
                "wanted is a PyTorch file that holds tensors and plain values only."
            ) from error
        if not _is_checkpoint(found):
            raise UnacceptableFile("The weight file must hold exactly 'plan' and 'weights'. Train or export it again.")
        weights = found["weights"]
        if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise UnacceptableFile("The 'weights' of the weight file must be tensors by name. Export it again.")
        return cls(NetworkPlan.from_json(found["plan"]), dict(weights))


WANTED = {
    "network": "a name",
    "structures": "an object of label values from 1 to 255 by structure name",
    "spacing_mm": "three positive numbers",
    "window_hu": "a lower and a higher number, or null",
    "patch": "three whole numbers above 0",
    "channels": "none, or at least two whole numbers above 0",
    "strides": "a list of triples of whole numbers above 0",
    "kernel": "three whole numbers above 0",
    "features": "a whole number above 0",
    "region": "'tissue' or 'largest'",
    "window_out": "a lower and a higher number",
    "arguments": "an object of plain values by name",
    "ignored": "a list of whole numbers above 0",
    "draft_votes": "a number from 0",
    "least_quality": "a number from 0 to 1",
    "cleared": "a list of texts",
    "neighbours": "a whole number from 0",
    "encoder": "the path of a weight file, or an empty text",
    "encoder_sha256": "hexadecimal digits, or an empty text",
}
"""What each entry of a plan must be, for messages."""


def _is_checkpoint(found: Any) -> bool:
    return isinstance(found, dict) and set(found) == {"plan", "weights"}


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _entry(content: Mapping[Any, Any], name: str, read: Callable[[Any], T]) -> T:
    if name not in content:
        raise UnacceptableFile(f"The network plan has no entry '{name}'; found are {', '.join(map(str, content))}.")
    try:
        return read(content[name])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnacceptableFile(
            f"The network plan's entry '{name}' is {reprlib.repr(content[name])}; wanted is {WANTED[name]}."
        ) from error


def _require(is_right: bool) -> None:
    if not is_right:
        raise ValueError


def _text(value: Any) -> str:
    _require(isinstance(value, str))
    return str(value)


def _region(value: Any) -> str:
    _require(value in REGIONS)
    return str(value)


def _structures(value: Any) -> dict[str, int]:
    _require(isinstance(value, Mapping) and all(isinstance(name, str) for name in value))
    _require(all(1 <= int(number) <= 255 for number in value.values()))
    return {name: int(number) for name, number in value.items()}


def _millimetres(value: Any) -> Triple:
    i, j, k = (float(edge) for edge in value)
    _require(min(i, j, k) > 0)
    return i, j, k


def _window(value: Any) -> tuple[float, float]:
    low, high = (float(bound) for bound in value)
    _require(low < high)
    return low, high


def _voxels(value: Any) -> VoxelTriple:
    i, j, k = (int(count) for count in value)
    _require(min(i, j, k) > 0)
    return i, j, k


def _count(value: Any) -> int:
    _require(int(value) > 0)
    return int(value)


def _counts(value: Any) -> tuple[int, ...]:
    counts = tuple(int(count) for count in value)
    _require(len(counts) != 1 and all(count > 0 for count in counts))
    return counts


def _strides(value: Any) -> tuple[VoxelTriple, ...]:
    return tuple(_voxels(stride) for stride in value)


def _arguments(value: Any) -> dict[str, Any]:
    _require(isinstance(value, Mapping) and is_plain(value))
    return dict(value)


def _ignored(value: Any) -> tuple[int, ...]:
    channels = tuple(int(channel) for channel in value)
    _require(all(channel > 0 for channel in channels))
    return channels


def _votes(value: Any) -> float:
    _require(float(value) >= 0)
    return float(value)


def _share(value: Any) -> float:
    _require(0 <= float(value) <= 1)
    return float(value)


def _names(value: Any) -> tuple[str, ...]:
    _require(not isinstance(value, str))
    return tuple(_text(name) for name in value)


def _neighbours(value: Any) -> int:
    _require(int(value) >= 0)
    return int(value)


def is_plain(value: Any) -> bool:
    """Whether a value is made of JSON's own types only."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)
