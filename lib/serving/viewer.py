"""The two builds of the viewer OHIF: where they lie, and how files made for one address are fitted to another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FETCHED = Path(__file__).resolve().parents[2] / ".venv" / "ohif"
"""Where ``scripts/fetch_viewer.py`` puts OHIF 3.12, fitted to ``OHIF``."""

OHIF = "/ohif/"
"""Address of the viewer that people use."""

OHIF_OF_MONAILABEL = "/ohif-monai/"
"""Address of the build inside monailabel, which brings that project's panel; it was made for ``OHIF``."""

BEFORE_ADDRESS = {
    ".html": r"""\b(?:href|src|content)="|\bPUBLIC_URL = '""",
    ".js": r'__webpack_require__\.p = "',
    ".css": r"\burl\(",
    ".json": r'"src": "',
}
"""What stands before the address of a build in its files, by their suffix."""


@dataclass(frozen=True)
class Build:
    """One build of OHIF.

    Attributes:
        folder: its files.
        made_for: the address that stands in them.
        can_store: whether it stores segmentations.
    """

    folder: Path
    made_for: str
    can_store: bool


def fetched() -> Build | None:
    """OHIF 3.12, if it was fetched."""
    return Build(FETCHED, OHIF, can_store=True) if (FETCHED / "index.html").is_file() else None


def of_monailabel() -> Build:
    """The build inside the monailabel package; its saving fails before it asks the server."""
    spec = find_spec("monailabel")
    assert spec is not None and spec.origin is not None
    return Build(Path(spec.origin).parent / "endpoints" / "static" / "ohif", OHIF, can_store=False)


def at_address(name: str, text: str, made_for: str, address: str) -> str:
    """A file of a build for another address.

    Args:
        name: of the file.
        text: what is in it.
        made_for: address in the text, ``/`` or ``/…/``.
        address: where it will be served.
    """
    before = BEFORE_ADDRESS.get(Path(name).suffix)
    return re.sub(f"({before}){re.escape(made_for)}", rf"\g<1>{address}", text) if before else text
