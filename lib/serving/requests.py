"""MONAI Label's dicts, read once into typed requests; what is wrong in them is said here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

from lib.errors import InvalidRequest
from lib.label_table import NamedValue
from lib.labels import read_label_info
from lib.store.notes import levels
from lib.task import Task

RESULT_SUFFIXES = (".nii.gz", ".nii", ".nrrd")
"""Formats in which infer sends a mask."""

LONGEST_TAG = 200

REDIRECTING = tuple("image image_path path file files label session session_id model asker rough".split())
"""Keys by which ``params`` could point a request at something else than its address names."""


LONGEST_JSON, DEEPEST_JSON, MOST_KEYS, LONGEST_KEY = 2**20, 32, 1000, 256
"""Of one JSON text that a client sends: bytes, levels of lists and objects, keys of an object, letters of a key."""

LARGEST_NUMBER = 2**63 - 1
"""What databases and other programs take for a whole number."""

LONGEST_NUMBER = 400
"""Signs of a number: no finite one needs more, and long ones take long to read."""


def read_params(text: str | None, name: str = "params") -> dict[str, Any]:
    """A field of a form that holds a JSON object; without text an empty one.

    Raises:
        InvalidRequest: if it is no JSON object, or a larger one than is taken.
    """
    content = read_json(text, name) if text else {}
    if not isinstance(content, dict):
        raise InvalidRequest(f"{name} must be a JSON object such as {{}}, found {type(content).__name__}.")
    return content


def read_json(text: str | bytes, name: str) -> Any:
    """Whatever JSON a client sends is read here, so that all of it is within bounds that every reader can bear.

    Args:
        text: as it came.
        name: what it is, for messages.

    Raises:
        InvalidRequest: if it is no JSON, too long or nested too deep, or holds numbers or keys that are none.
    """
    if len(text) > LONGEST_JSON:
        raise InvalidRequest(f"{name} has {len(text)} bytes, at most {LONGEST_JSON}.")
    try:
        content = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
        _refuse_beyond_bounds(content, name)
        # Half a surrogate pair is no text: the record could not keep it.
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise InvalidRequest(f"{name} is nested deeper than {DEEPEST_JSON} levels.") from error
    except ValueError as error:
        raise InvalidRequest(f"{name} is no valid JSON ({error}); wanted is an object such as {{}}.") from error
    return content


def _refuse_beyond_bounds(content: Any, name: str) -> None:
    depth = 0
    for depth, level in enumerate(levels(content), start=1):  # noqa: B007 - the last one is the depth
        for entry in level:
            if isinstance(entry, dict) and len(entry) > MOST_KEYS:
                raise InvalidRequest(f"{name} has an object of {len(entry)} keys, at most {MOST_KEYS}.")
            if isinstance(entry, dict) and (longest := max(map(len, entry), default=0)) > LONGEST_KEY:
                raise InvalidRequest(f"{name} has a key of {longest} letters, at most {LONGEST_KEY}.")
    if depth > DEEPEST_JSON:
        raise InvalidRequest(f"{name} is nested {depth} levels deep, at most {DEEPEST_JSON} are taken.")


def _no_number(text: str) -> float:
    raise ValueError(f"{text[:40]} is no number")


def _finite(text: str) -> float:
    number = float(text) if len(text) <= LONGEST_NUMBER else math.inf
    return number if math.isfinite(number) else _no_number(text)


def _whole(text: str) -> int:
    # A text of more digits is not even made a number.
    if len(text) > len(str(LARGEST_NUMBER)) + 1 or abs(int(text)) > LARGEST_NUMBER:
        raise ValueError(f"a whole number of {len(text)} signs, at most {LARGEST_NUMBER}")
    return int(text)


def refuse_redirection(params: Mapping[str, Any]) -> None:
    """Refuses ``params`` that name an input of their own."""
    found = [key for key in REDIRECTING if key in params]
    if found:
        raise InvalidRequest(f"params must not hold {', '.join(found)}: name the image in the address.")


def refuse_mask_params(params: Mapping[str, Any]) -> None:
    """Refuses ``params`` that belong to a mask where none is sent."""
    found = [key for key in ("structures", "parent") if params.get(key) is not None]
    if found:
        raise InvalidRequest(
            f"params holds {' and '.join(found)}, but a mask is accepted as it is, with what was looked at and what it "
            "was made from. Store a correction by PUT /datastore/label to name others, or accept another version by "
            "?version=N."
        )


@dataclass(frozen=True)
class InferRequest:
    """A draft, or a refined mask, is wanted.

    Attributes:
        image_id: of an image in the record; what is made of it is stored.
        files: of an image that only came for this; nothing is stored.
        result_suffix: format of the mask.
        compressed: whether the voxels of an NRRD file are.
        asker: who wants it.
        rough: file of a mask to be refined, that only came for this; nothing is stored.
        label_info: what the client's numbers in it mean.
        looked_at: names of the structures that it covers.
        version: of the annotation to be refined; ``None``: the one at hand.
        wants_stages: the mask of every stage is wanted.
        is_beginning: the asker begins with a case that was just offered: what waits for an expert is what is wanted.
    """

    image_id: str
    files: tuple[Path, ...]
    result_suffix: str
    compressed: bool = True
    asker: str = ""
    rough: Path | None = None
    label_info: tuple[NamedValue, ...] = ()
    looked_at: tuple[str, ...] = ()
    version: int | None = None
    wants_stages: bool = False
    is_beginning: bool = False

    @classmethod
    def from_monailabel(cls, request: Mapping[str, Any], task: Task) -> InferRequest:
        """Reads ``image`` (an id) or ``files`` and ``rough`` (paths, from our own routes), and what params hold.

        Raises:
            InvalidRequest: if neither is named, or a value has another form.
        """
        files = tuple(request.get("files") or ())
        image_id = request.get("image") or ""
        if not isinstance(image_id, str) or not (image_id or files):
            raise InvalidRequest("Name an image id, or send a file or a session; none came.")
        suffix = request.get("result_extension") or RESULT_SUFFIXES[0]
        if suffix not in RESULT_SUFFIXES:
            raise InvalidRequest(f"result_extension is one of {', '.join(RESULT_SUFFIXES)}, found {suffix!r}.")
        version, wants_stages = request.get("version"), _flag("stages", request.get("stages"), unless_told=False)
        if wants_stages and suffix != RESULT_SUFFIXES[0]:
            raise InvalidRequest(f"stages=true gives a NIfTI file of four axes: leave out result_extension {suffix}.")
        return cls(
            image_id,
            files,
            suffix,
            compressed=_flag("result_compress", request.get("result_compress"), unless_told=True),
            asker=str(request.get("asker") or ""),
            rough=request.get("rough"),
            label_info=read_label_info(request["label_info"]) if request.get("label_info") else (),
            looked_at=_looked_at(request.get("structures"), task),
            version=int(_positive("version", version)) if version is not None else None,
            wants_stages=wants_stages,
            is_beginning=request.get("is_beginning") is True,
        )


@dataclass(frozen=True)
class TrainRequest:
    """A training is wanted.

    Attributes:
        seconds: time for it; ``None``: as the settings say.
        max_epochs: upper limit; ``None``: only the time decides.
    """

    seconds: float | None
    max_epochs: int | None

    @classmethod
    def from_monailabel(cls, request: Mapping[str, Any]) -> TrainRequest:
        """Reads ``seconds`` and ``max_epochs``.

        Raises:
            InvalidRequest: if one of them is no positive number.
        """
        seconds, epochs = request.get("seconds"), request.get("max_epochs")
        return cls(
            float(_positive("seconds", seconds)) if seconds is not None else None,
            int(_positive("max_epochs", epochs)) if epochs is not None else None,
        )


def _positive(key: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value < 1e9:
        raise InvalidRequest(f"{key} must be a number above 0, found {value!r}.")
    return float(value)


def _version(key: str, value: Any) -> int:
    """A number of a version; 0 for none."""
    if not _is_number(value) or not 0 <= value < 1e9 or value != int(value):
        raise InvalidRequest(f"{key} must be the number of a version, or 0 for none, found {value!r}.")
    return int(value)


def _time_spent(key: str, value: Any) -> float:
    """Of a timer that may count whole seconds, so that a quick look takes none."""
    if not _is_number(value) or not 0 <= value < 1e9:
        raise InvalidRequest(f"{key} must be a number from 0 on, found {value!r}.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flag(key: str, value: Any, *, unless_told: bool) -> bool:
    if value is None:
        return unless_told
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key} must be true or false, found {json.dumps(value)}.")
    return value


@dataclass(frozen=True)
class Submission:
    """A mask is to be stored.

    Attributes:
        image_id: its image.
        tag: what the client calls it.
        label_info: what the client's numbers mean.
        looked_at: names of the structures that it covers.
        parent: version that was corrected, if the client names it; 0: none was.
        anyway: whether it is stored also where somebody has saved after that version.
        seconds: time spent, if the client tells.
        client_id: name of the author, if the client tells.
        info: everything the client said.
    """

    KNOWN: ClassVar[tuple[str, ...]] = ("anyway", "client_id", "label_info", "parent", "seconds", "structures")
    """Keys of ``params`` that mean something; others are kept as notes."""

    image_id: str
    tag: str
    label_info: tuple[NamedValue, ...]
    looked_at: tuple[str, ...]
    parent: int | None
    seconds: float | None
    client_id: Any
    info: dict[str, Any]
    anyway: bool = False

    @classmethod
    def from_monailabel(cls, image_id: str, tag: str, params: Mapping[str, Any], task: Task) -> Submission:
        """Reads ``label_info``, ``structures``, ``parent``, ``anyway``, ``seconds`` and ``client_id``.

        Raises:
            InvalidRequest: if one of them has another form, is misspelt, or an unknown structure is named.
        """
        _refuse_misspelt(params, cls.KNOWN)
        if not image_id:
            raise InvalidRequest("Name the image that the mask belongs to: ?image=ID.")
        if len(tag) > LONGEST_TAG or not tag.isprintable():
            raise InvalidRequest(f"A tag is a word of at most {LONGEST_TAG} printable characters, found {tag[:50]!r}.")
        parent, seconds = params.get("parent"), params.get("seconds")
        return cls(
            image_id=image_id,
            tag=tag,
            label_info=read_label_info(params["label_info"]) if params.get("label_info") else (),
            looked_at=_looked_at(params.get("structures"), task),
            parent=_version("parent", parent) if parent is not None else None,
            seconds=_time_spent("seconds", seconds) if seconds is not None else None,
            client_id=params.get("client_id"),
            info=dict(params),
            anyway=_flag("anyway", params.get("anyway"), unless_told=False),
        )

    @property
    def notes(self) -> list[str]:
        """Keys of what the client said that nothing reads."""
        return [key for key in self.info if key not in self.KNOWN]


def _refuse_misspelt(params: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses keys that nearly are known ones: who writes ``clientid`` would become the system user unnoticed."""
    for key in params:
        meant = get_close_matches(key.lower(), known, 1, cutoff=0.8)
        if meant and key not in known:
            raise InvalidRequest(f"params holds {key[:50]!r}, which nothing reads; {meant[0]!r} may be meant.")


def _looked_at(names: Any, task: Task) -> tuple[str, ...]:
    if names is None:
        return tuple(task.values)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"structures must be a list of names, found {names!r}.")
    found = [task.structure(name) for name in names]
    unknown = [name for name, structure in zip(names, found, strict=True) if structure is None]
    if unknown:
        raise InvalidRequest(f"structures names {unknown}; this task has {list(task.values)}.")
    return tuple(dict.fromkeys(structure.name for structure in found if structure is not None))
