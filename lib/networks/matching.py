"""Weights from elsewhere: which tensors of a file belong into a network, told by name and shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lib.errors import UnacceptableFile
from lib.networks.weight_file import plain_content

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "network_weights", "net", "weights")
"""Keys under which training programs keep the weights beside other things."""

SHOWN = 5
"""Names of tensors in a message."""


@dataclass(frozen=True)
class Match:
    """What of a file fits a network.

    Attributes:
        weights: every tensor of the network: the file's where it fits, else the fresh one.
        matched: names that fit.
        missing: names that the file lacks.
        superfluous: names in the file that the network lacks.
        other_shape: names with both shapes in words.
        parameters: numbers in matched tensors, and in all tensors of the network.
    """

    weights: dict[str, Tensor]
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    superfluous: tuple[str, ...]
    other_shape: tuple[str, ...]
    parameters: tuple[int, int]

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the network comes from the file."""
        return len(self.matched) == len(self.weights)

    def __str__(self) -> str:
        """``41 of 41 tensors matched``."""
        return f"{len(self.matched)} of {len(self.weights)} tensors matched"

    def report(self) -> list[str]:
        """Everything that a person should know, line by line."""
        found, wanted = self.parameters
        lines = [f"{self} ({found:,} of {wanted:,} numbers)."]
        for what, names in (
            ("Missing in the file", self.missing),
            ("Not part of the network", self.superfluous),
            ("Of another shape", self.other_shape),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"{what}: {', '.join(names[:SHOWN])}{more}.")
        return lines


def read_state_dict(content: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a PyTorch file by name, also where they lie below ``state_dict`` or the like.

    Nothing in the file is executed.

    Raises:
        UnacceptableFile: if it holds no tensors by name, or is a program.
    """
    try:
        found = plain_content(content)
    # torch.load raises whatever the damaged or foreign bytes make it stumble over.
    except Exception as error:
        what = "TorchScript, a program" if "torchscript" in str(error).lower() else "no PyTorch file of plain tensors"
        raise UnacceptableFile(
            f"{name} is {what}; it is not executed here. Wanted is what torch.save(network.state_dict(), FILE) writes."
        ) from error
    while isinstance(found, Mapping):
        tensors = {key: tensor for key, tensor in found.items() if isinstance(key, str) and isinstance(tensor, Tensor)}
        if tensors:
            return tensors
        found = next((found[key] for key in WRAPPERS if key in found), None)
    raise UnacceptableFile(f"{name} holds no tensors by name, also not below {', '.join(WRAPPERS)}.")


def matched(found: Mapping[str, Tensor], network: nn.Module) -> Match:
    """Puts tensors beside those of a network, after taking off the prefix with which most of them fit.

    Args:
        found: tensors of a file by name.
        network: fresh; stays as it is.
    """
    fresh = network.state_dict()
    best = max(_spellings(found), key=lambda spelled: len(_fitting(spelled, fresh)))
    fitting = _fitting(best, fresh)
    return Match(
        weights={name: best[name].to(tensor.dtype) if name in fitting else tensor for name, tensor in fresh.items()},
        matched=tuple(fitting),
        missing=tuple(name for name in fresh if name not in best),
        superfluous=tuple(name for name in best if name not in fresh),
        other_shape=tuple(
            f"{name} ({_shape(best[name])}, wanted {_shape(tensor)})"
            for name, tensor in fresh.items()
            if name in best and best[name].shape != tensor.shape
        ),
        parameters=(sum(fresh[name].numel() for name in fitting), sum(tensor.numel() for tensor in fresh.values())),
    )


def _spellings(found: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors under their names, then without each first part that all names share, such as ``module.``."""
    spelled = dict(found)
    yield spelled
    while spelled and all("." in name for name in spelled) and len({name.partition(".")[0] for name in spelled}) == 1:
        spelled = {name.partition(".")[2]: tensor for name, tensor in spelled.items()}
        yield spelled


def _fitting(found: Mapping[str, Tensor], fresh: Mapping[str, Any]) -> list[str]:
    return [name for name, tensor in fresh.items() if name in found and found[name].shape == tensor.shape]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
