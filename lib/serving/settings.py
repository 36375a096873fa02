"""All settings: what ``--conf`` and the small file beside the studies may say, read once and checked."""

from __future__ import annotations

import math
import os
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lib.errors import InvalidSetting, SetupError
from lib.stages import Role
from lib.task import PALETTE, Structure, Task, numbered

TASK_FILE = "label-refinery.toml"
"""Beside the studies: the structures and how the images look."""


@dataclass(frozen=True)
class Settings:
    """What the person who starts the server may choose.

    Attributes:
        data: folder for everything that the server writes.
        labels: structure names separated by commas, numbered from 1; or ``name=value`` each.
        modality: DICOM modality that the task works on, and that of files that name none.
        window: lower and upper HU for CT, as ``-160,240``; ``none`` for per-image normalisation.
        spacing: voxel edges in mm that the network works at, as ``1,1,3``; ``none``: median of the images.
        encoder: encoder of the network for images of one slice: ``small``, learned with the rest, or ``sam_vit_b`` or
            ``sam_vit_l``, frozen; empty: as the app says.
        encoder_weights: weight file of a frozen encoder.
        loss: what training minimises, see ``lib.losses.LOSSES``; empty: as the app says.
        ahead: images that are drafted before somebody opens them; 0: none.
        train_after: images with new expert annotations after which training starts by itself; 0: never.
        train_seconds: time for one training, without its measuring.
        role: of people without a token: ``expert`` or ``annotator``.
        patient: regular expression that finds the patient in an image id.
        store: address of the record; empty: SQLite below ``data``.
        ignore: shell patterns of paths, and of names of files and folders, in the studies that are no images,
            separated by commas.
        rescan: seconds between two walks through the whole folder of studies, which find what no event told, or between
            two looks at the server of the studies; 0: they are looked at only at the start.
        studies_login: file with the login at the server of the studies: ``NAME:PASSWORD``, or a bearer token.
        studies_author: who has drawn what appears at that server without a name.
        cache_gib: room for images that were fetched from that server.
        max_upload_mib: largest file that is accepted.
        assign_minutes: how long a case that was offered to somebody is kept from others.
        auth: who may use the server: ``none``: people at this machine; ``tokens``: people with a token of
            ``scripts/tokens.py``; ``oidc``: also people with a token of the issuer.
        oidc_issuer: address of an OpenID Connect issuer.
        oidc_audience: audience that its tokens for this server carry.
        oidc_name: claim with the person's name.
        oidc_roles: claim with the list of roles; dots lead into objects.
        origins: addresses of pages elsewhere that may use the server, separated by commas.
        proxies: addresses and networks of the proxies in front of the server, separated by commas, which are believed
            for whom they ask and whether by TLS; of nobody else ``X-Forwarded-For`` and ``-Proto`` are read.
        log: form of the log's lines: ``text``, or ``json``: one object a line.
    """

    data: Path
    labels: str = ""
    modality: str = ""
    window: str = ""
    spacing: str = ""
    encoder: str = ""
    encoder_weights: Path | None = None
    loss: str = ""
    ahead: int = 3
    train_after: int = 4
    train_seconds: float = 120.0
    role: Role = Role.EXPERT
    patient: str = ""
    store: str = ""
    ignore: str = ""
    rescan: float = 60.0
    studies_login: Path | None = None
    studies_author: str = "unknown"
    cache_gib: float = 20.0
    max_upload_mib: int = 2048
    assign_minutes: float = 60.0
    auth: str = "none"
    oidc_issuer: str = ""
    oidc_audience: str = "label-refinery"
    oidc_name: str = "preferred_username"
    oidc_roles: str = "roles"
    origins: str = ""
    proxies: str = ""
    log: str = "text"

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """``origins`` one by one."""
        return tuple(origin.strip().rstrip("/") for origin in self.origins.split(",") if origin.strip())

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """``proxies`` one by one."""
        return tuple(proxy.strip() for proxy in self.proxies.split(",") if proxy.strip())

    @property
    def ignored(self) -> tuple[str, ...]:
        """``ignore`` one by one, in Unicode NFC as image ids are."""
        patterns = unicodedata.normalize("NFC", self.ignore).split(",")
        return tuple(pattern.strip() for pattern in patterns if pattern.strip())


AUTH = ("none", "tokens", "oidc")
"""Ways to sign in."""

ENCODERS = {"small": "adapter_unet", "sam_vit_b": "sam_vit_b", "sam_vit_l": "sam_vit_l"}
"""The network with each encoder, see ``lib.networks.segmenter.NETWORKS``."""

LOSS_NAMES = (
    "dice_ce", "asymmetric_focal", "asymmetric_margin", "asymmetric", "typed", "typed_asymmetric", "position_aware",
)  # fmt: skip
"""The keys of ``lib.losses.LOSSES``, which loads PyTorch: settings are read before that."""

LOG_FORMS = ("text", "json")
"""Forms of the log's lines."""


def default_data(app: str) -> Path:
    """Where the server writes if nobody says otherwise (XDG base directory specification)."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "label-refinery" / app


def read_settings(conf: Mapping[str, str], app: str) -> Settings:
    """Reads the ``--conf`` pairs.

    Raises:
        InvalidSetting: if a key is unknown or a value is not accepted.
    """
    unknown = [key for key in conf if key not in READERS]
    if unknown:
        raise InvalidSetting(f"--conf {unknown[0]} is unknown. Accepted are {', '.join(sorted(READERS))}.")
    values: dict[str, Any] = {key: READERS[key](key, value) for key, value in conf.items()}
    values.setdefault("data", default_data(app))
    settings = Settings(**values)
    # For any task, to refuse at once what none can have: an app loads for seconds before its task is known.
    _as_asked(Task("any", ""), settings)
    if (settings.auth == "oidc") != bool(settings.oidc_issuer):
        raise InvalidSetting("--conf auth oidc and --conf oidc_issuer ADDRESS go together; one of them is missing.")
    return settings


@dataclass(frozen=True)
class StudiesServer:
    """A DICOMweb server that holds the studies.

    Attributes:
        address: its root, to which ``/studies`` is added.
        login: file with ``NAME:PASSWORD`` or a bearer token; ``None``: it asks for none.
        cache_bytes: room for images that were fetched from it.
    """

    address: str
    login: Path | None
    cache_bytes: int


def studies_place(studies: str, settings: Settings) -> Path | StudiesServer:
    """Where the studies are: a folder, or a DICOMweb server.

    Raises:
        SetupError: if it is no folder, or an address that cannot be used.
    """
    if "://" in studies:
        return _studies_server(studies, settings)
    folder = Path(studies).expanduser().absolute()
    if not folder.is_dir():
        raise SetupError(f"--studies {folder} is no folder. Give the folder that holds your images.")
    return folder


def _studies_server(address: str, settings: Settings) -> StudiesServer:
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise SetupError(
            "--studies: an address with a name or password would be seen by everybody at this machine. Put "
            "NAME:PASSWORD into a file that only you can read, and name it by --conf studies_login FILE."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SetupError(f"--studies {address} is no address of a DICOMweb server, such as https://host/dicom-web.")
    login = settings.studies_login
    if login is not None and not login.is_file():
        raise InvalidSetting(f"--conf studies_login {login} is no file. It holds NAME:PASSWORD, or a bearer token.")
    return StudiesServer(address.rstrip("/"), login, int(settings.cache_gib * 2**30))


def _text(_key: str, value: str) -> str:
    return str(value).strip()


def _path(_key: str, value: str) -> Path:
    return Path(value).expanduser().absolute()


def _number(kind: Callable[[str], Any], least: float) -> Callable[[str, str], Any]:
    def read(key: str, value: str) -> Any:
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not number >= least:
            raise InvalidSetting(f"--conf {key} needs a number of {least:g} or more, found {value!r}.")
        return number

    return read


def _role(key: str, value: str) -> Role:
    if value not in (Role.EXPERT, Role.ANNOTATOR):
        raise InvalidSetting(f"--conf {key} is expert or annotator, found {value!r}.")
    return Role(value)


def _one_of(accepted: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        if value not in accepted:
            raise InvalidSetting(f"--conf {key} is one of {', '.join(accepted)}, found {value!r}.")
        return value

    return read


def _addresses(key: str, value: str) -> str:
    for address in filter(None, map(str.strip, value.split(","))):
        try:
            ip_network(address)
        except ValueError as error:
            raise InvalidSetting(
                f"--conf {key} is addresses or networks such as 127.0.0.1,10.1.0.0/16; found {address!r} ({error})."
            ) from error
    return value


READERS: dict[str, Callable[[str, str], Any]] = {
    "data": _path,
    "labels": _text,
    "modality": _text,
    "window": _text,
    "spacing": _text,
    "encoder": _one_of(tuple(ENCODERS)),
    "encoder_weights": _path,
    "loss": _one_of(LOSS_NAMES),
    "ahead": _number(int, 0),
    "train_after": _number(int, 0),
    "train_seconds": _number(float, 1),
    "role": _role,
    "patient": _text,
    "store": _text,
    "ignore": _text,
    "rescan": _number(float, 0),
    "studies_login": _path,
    "studies_author": _text,
    "cache_gib": _number(float, 0),
    "max_upload_mib": _number(int, 1),
    "assign_minutes": _number(float, 0),
    "auth": _one_of(AUTH),
    "oidc_issuer": _text,
    "oidc_audience": _text,
    "oidc_name": _text,
    "oidc_roles": _text,
    "origins": _text,
    "proxies": _addresses,
    "log": _one_of(LOG_FORMS),
}
"""How the text behind each key is read."""


def configured(task: Task, settings: Settings, studies: Path | None) -> Task:
    """The app's task with what the file beside the studies and ``--conf`` add; ``--conf`` wins.

    Raises:
        InvalidSetting: if the task has no structures after all, or a value is not accepted.
    """
    declared, made_for = studies / TASK_FILE if studies else None, task.modalities
    if declared is not None and declared.is_file():
        task = _from_file(task, declared)
    if settings.modality:
        # What the file says is replaced, not what the app was made for.
        task = _with_modality(replace(task, modalities=made_for), settings.modality)
    task = _with_encoder(_as_asked(task, settings), settings)
    if not task.structures:
        raise InvalidSetting(
            f"No structures to label: name them by --conf labels liver,spleen or in a {TASK_FILE} beside the studies."
        )
    if not task.draft_rule and any(structure.range for structure in task.structures):
        task = replace(task, draft_rule="threshold")
    return task


def _as_asked(task: Task, settings: Settings) -> Task:
    """The task with what ``--conf`` says of any task alike."""
    if settings.labels:
        task = replace(task, structures=_structures(settings.labels))
    if settings.window:
        task = replace(task, window_hu=_bounds("--conf window", settings.window))
    if settings.spacing:
        task = replace(task, spacing_mm=_spacing("--conf spacing", settings.spacing))
    return replace(task, loss=settings.loss) if settings.loss else task


def _with_encoder(task: Task, settings: Settings) -> Task:
    """The task with the encoder that is asked for; a frozen one and its weight file go together."""
    if settings.encoder and not task.is_flat:
        raise InvalidSetting(
            f"--conf encoder {settings.encoder} is for images of one slice; the task {task.name} works on volumes."
        )
    if settings.encoder:
        task = replace(task, network=ENCODERS[settings.encoder])
    weights = settings.encoder_weights
    if task.network.startswith("sam_") != (weights is not None):
        raise InvalidSetting(
            "--conf encoder sam_vit_b or sam_vit_l and --conf encoder_weights FILE go together; one of them is missing."
        )
    if weights is None:
        return task
    if not weights.is_file():
        raise InvalidSetting(f"--conf encoder_weights {weights} is no file. Name a weight file of Segment Anything.")
    return replace(task, encoder_weights=str(weights))


CT_WINDOW_HU = (-160.0, 240.0)
"""Soft tissue; used for CT unless a window is named."""


def _with_modality(task: Task, modality: str) -> Task:
    """The task for images of one modality; one that was made for certain modalities keeps these and its window."""
    modality = modality.upper()
    if not task.modalities:
        window = CT_WINDOW_HU if modality == "CT" else None
        return replace(task, modality=modality, modalities=(modality,), window_hu=window)
    if modality not in task.modalities:
        raise InvalidSetting(f"The task {task.name} works on {' or '.join(task.modalities)}, found {modality!r}.")
    return replace(task, modality=modality)


def _structures(labels: str) -> tuple[Structure, ...]:
    names = [name.strip() for name in labels.split(",")]
    if not any("=" in name for name in names):
        return numbered(names)
    structures = []
    for name, equals, value in (entry.partition("=") for entry in names):
        if not equals or not value.strip().isdecimal():
            raise InvalidSetting(f"--conf labels is liver,spleen or liver=1,spleen=5, found {labels!r}.")
        number = int(value)
        structures.append(Structure(name.strip(), number, PALETTE[(number - 1) % len(PALETTE)]))
    return tuple(sorted(structures, key=lambda structure: structure.value))


def _numbers(what: str, value: object, count: int) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InvalidSetting(f"{what} needs {count} numbers separated by commas, or none; found {value!r}.")
    return numbers


def _bounds(what: str, value: object) -> tuple[float, float] | None:
    if value == "none":
        return None
    lower, upper = _numbers(what, value, 2)
    if not lower < upper:
        raise InvalidSetting(f"{what} needs a lower and an upper bound, found {value!r}.")
    return lower, upper


def _spacing(what: str, value: object) -> tuple[float, float, float] | None:
    if value == "none":
        return None
    i, j, k = _numbers(what, value, 3)
    if min(i, j, k) <= 0:
        raise InvalidSetting(f"{what} needs three lengths above 0 mm, found {value!r}.")
    return i, j, k


TASK_FILE_KEYS = ("modality", "window_hu", "spacing_mm", "structures")


def _from_file(task: Task, path: Path) -> Task:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path.name} is no valid TOML: {error}.") from error
    unknown = [key for key in content if key not in TASK_FILE_KEYS]
    if unknown:
        raise InvalidSetting(
            f"{path.name} has the unknown key {unknown[0]!r}. Accepted are {', '.join(TASK_FILE_KEYS)}."
        )
    if "modality" in content:
        task = _with_modality(task, str(content["modality"]))
    if "window_hu" in content:
        task = replace(task, window_hu=_bounds(f"window_hu in {path.name}", content["window_hu"]))
    if "spacing_mm" in content:
        task = replace(task, spacing_mm=_spacing(f"spacing_mm in {path.name}", content["spacing_mm"]))
    if "structures" in content:
        entries = content["structures"]
        if not isinstance(entries, list):
            raise InvalidSetting(f"structures in {path.name} must be [[structures]] tables, found {entries!r}.")
        structures = [_structure(entry, path.name) for entry in entries]
        task = replace(task, structures=tuple(sorted(structures, key=lambda structure: structure.value)))
    return task


def _structure(entry: Mapping[str, Any], file: str) -> Structure:
    try:
        value = int(entry["value"])
        red, green, blue = entry.get("colour", PALETTE[(value - 1) % len(PALETTE)])
        colour = int(red), int(green), int(blue)
        bounds = entry.get("range_hu")
        range_hu = None if bounds is None else _bounds(f"range_hu in {file}", bounds)
        return Structure(str(entry["name"]), value, colour, str(entry.get("code", "")), range_hu)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSetting(
            f"A structure in {file} needs name and value, and may have colour = [red, green, blue]; found {entry!r}"
        ) from error
