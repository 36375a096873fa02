"""What hostile content may point at, and what it must look like to get far."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

Chance = random.Random

EXTREME = (0, -1, 1, 2, 3, 7, 255, 256, 32767, 32768, 65535, 65536, 10**5, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1,
           2**63, 2**64, 10**30)  # fmt: skip
"""Whole numbers at which something ends."""


@dataclass(frozen=True)
class Reach:
    """What a drawn file may use.

    Attributes:
        targets: files outside that a hostile file tries to have read.
        ran: would be made if a hostile file ran.
        shape: voxels along I, J, K of the images, whose masks are attacked.
        objects: sound DICOM files by their kind, which are spoiled.
        weights: sound weights, which are spoiled; empty: there are none.
    """

    targets: tuple[Path, ...]
    ran: Path
    shape: tuple[int, int, int]
    objects: Mapping[str, bytes] = field(default_factory=dict)
    weights: bytes = b""

    @property
    def voxels(self) -> int:
        """In an image."""
        i, j, k = self.shape
        return i * j * k

    def path(self, chance: Chance) -> str:
        """One of the targets, in some spelling."""
        target = chance.choice(self.targets)
        relative = [f"../{target.name}", f"../../{target.name}", f"./../{target.name}", "../tickets.key",
                    "../keys/tickets.key", "../keys/tokens.json", "../tokens.json", f"..\\{target.name}"]  # fmt: skip
        absolute = [str(target), f"/{target}", f"file://{target}", f"{target.parent}/./{target.name}", "/etc/passwd",
                    f"/proc/self/root{target}", f"{target.parent}/../{target.parent.name}/{target.name}"]  # fmt: skip
        return chance.choice(chance.choice([[str(target)], relative, absolute]))


def some(chance: Chance, changes: Sequence[Callable[..., T]]) -> list[Callable[..., T]]:
    """One to three of them: a file that is wrong everywhere is refused at the first look."""
    return chance.sample(changes, min(len(changes), chance.choice([1, 1, 1, 2, 2, 3])))


def odd_number(chance: Chance) -> str:
    """A number as no honest header writes it."""
    return chance.choice(
        [
            *map(str, EXTREME),
            "nan",
            "inf",
            "-inf",
            "1e308",
            "1e-320",
            "-0",
            "0x10",
            "1_0",
            "٣",
            "",
            "9" * 400,
            "9" * 5000,
        ]
    )


def odd_count(chance: Chance, usual: int) -> int:
    """A count near the usual one, or an extreme one."""
    return chance.choice([usual - 1, usual + 1, usual * 2, usual * 1000, *EXTREME])


def spoiled(content: bytes, chance: Chance) -> bytes:
    """The same with some bytes changed, cut off, doubled or added."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        if changed:
            changed[chance.randrange(min(len(changed), chance.choice([64, 512, len(changed)])))] = chance.randrange(256)
    return chance.choice([
        lambda: bytes(changed),
        lambda: content[: chance.randrange(len(content) + 1)],
        lambda: content + content,
        lambda: bytes(changed) + chance.randbytes(chance.choice([1, 7, 4096])),
    ])()  # fmt: skip
