"""The options of ./scripts/run, and the sentences with which it refuses to start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.options import parser
from lib.serving.__main__ import reachable_name
from lib.store import layout
from lib.store.lock import FolderLock

ROOT = Path(__file__).resolve().parents[2]


def run(*options: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What the script starts once everything is installed."""
    return subprocess.run(
        [sys.executable, "-m", "lib.serving", *options], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def refusal(*options: str) -> str:
    """The one sentence that a start that fails prints; never a traceback."""
    result = run(*options)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("The server cannot start: ")
    return result.stderr


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data of a test")


def test_help_needs_nothing_but_python():
    """By a Python without any package, as there is before anything is installed."""
    result = subprocess.run(
        [sys.executable, "-S", "-m", "lib.options"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    for option in ("--app", "--studies", "--data", "--host", "--port", "--conf", "--no-viewer"):
        assert option in result.stdout


def test_without_options_it_serves_the_segmentation_app_to_this_machine():
    options = parser().parse_args([])

    assert (options.app, options.host, options.port, options.conf) == ("apps/segmentation", "127.0.0.1", 8000, [])


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., list[str]]:
    """What ``scripts/run`` starts with options, where everything is installed; fetching the viewer fails."""
    scripts, programs = tmp_path / "a project" / "scripts", tmp_path / "a project" / ".venv" / "bin"
    scripts.mkdir(parents=True)
    programs.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "run", scripts)
    for program, does in ((scripts / "install", "exit 0"), (programs / "python", 'echo "$@"; [ "$2" = lib.serving ]')):
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)

    def run_it(*options: str) -> list[str]:
        result = subprocess.run([scripts / "run", *options], capture_output=True, text=True, timeout=60, check=True)
        return result.stdout.splitlines()

    return run_it


def test_the_viewer_is_fetched_first_and_its_lack_stops_nothing(started):
    assert started("--port", "8001") == ["-m scripts.fetch_viewer", "-m lib.serving --port 8001"]


def test_the_viewer_is_not_fetched_for_who_does_not_want_it(started):
    assert started("--port", "8001", "--no-viewer") == ["-m lib.serving --port 8001 --no-viewer"]


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_installs_nothing(started, tmp_path, option):
    scripts = tmp_path / "a project" / "scripts"
    (scripts / "install").write_text("#!/bin/sh\necho installing\n")
    shutil.rmtree(tmp_path / "a project" / ".venv")
    (tmp_path / "a project" / "lib").symlink_to(ROOT / "lib")

    lines = started("--port", "8001", option)

    assert lines[0].startswith("usage: ./scripts/run")
    assert not any("installing" in line for line in lines)


def test_settings_are_pairs():
    options = parser().parse_args(["--conf", "labels", "liver", "--conf", "train_after", "0"])

    assert dict(options.conf) == {"labels": "liver", "train_after": "0"}


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("10.1.2.3", "10.1.2.3"), ("::1", "[::1]"),
     ("0.0.0.0", socket.gethostname()), ("::", socket.gethostname())],
)  # fmt: skip
def test_the_address_that_is_told_is_one_that_others_can_ask(host, name):
    assert reachable_name(host) == name


def test_another_address_needs_people_to_sign_in(data):
    sentence = refusal("--host", "0.0.0.0", "--data", data)

    assert "--conf auth tokens" in sentence
    assert not Path(data).exists()


def test_an_unknown_app_is_refused_with_those_that_are_there(data):
    assert "holds no main.py. There are apps/ with" in refusal("--app", "apps/brain", "--data", data)


def test_a_folder_of_studies_that_is_not_there_is_refused(data, tmp_path):
    assert "is no folder" in refusal("--studies", str(tmp_path / "none"), "--data", data)


@pytest.mark.parametrize(("place", "found"), [("file/x", "Not a directory"), ("locked/x", "Permission denied")])
def test_a_data_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path, place, found):
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / place, os.W_OK) or (os.getuid() == 0 and place.startswith("locked")):
        pytest.skip("the superuser may write anywhere")

    sentence = refusal("--data", str(tmp_path / place))

    assert f"is no folder that can be written to ({found}). Name another one." in sentence


@pytest.mark.parametrize("place", [".", "below/data", "link/data"])
def test_a_data_folder_among_the_studies_is_refused_before_anything_is_written(tmp_path, place):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "link").symlink_to(tmp_path / "studies")
    data = tmp_path / "studies" / place

    sentence = refusal("--studies", str(tmp_path / "studies"), "--data", str(data))

    assert "lies in the folder of studies" in sentence and "Name a folder elsewhere." in sentence
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["link"]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("labels", "a=0", "a value from 1 to 255"), ("window", "wide", "--conf window needs 2 numbers"),
     ("spacing", "0,1,1", "--conf spacing needs three lengths")],
)  # fmt: skip
def test_a_setting_that_suits_no_task_is_refused_before_the_app_is_loaded(data, key, value, reason):
    result = run("--data", data, "--conf", key, value)

    assert reason in result.stderr and "Traceback" not in result.stderr
    assert "Loading the app" not in result.stdout
    assert not Path(data).exists()


def test_an_unknown_setting_is_refused_with_the_accepted_ones(data):
    assert "--conf models is unknown. Accepted are" in refusal("--conf", "models", "x", "--data", data)


@pytest.mark.parametrize("host", ["localhost.evil.example", "192.168.0.1", "::"])
def test_what_only_looks_like_this_machine_is_refused(data, host):
    assert f"--host {host} would open the server" in refusal("--host", host, "--data", data)


@pytest.mark.parametrize("host", ["999.1.1.1", "1.2", "a:b"])
def test_an_address_that_is_none_is_refused(data, host):
    assert host in refusal("--host", host, "--data", data)


def test_a_port_that_is_taken_is_refused(data):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen at 127.0.0.1, port {port}" in refusal("--port", port, "--data", data)


def test_a_port_that_cannot_be_is_refused(data):
    assert "--port is a number from 0 to 65535, found 70000" in refusal("--port", "70000", "--data", data)


def test_a_second_server_stays_away_also_where_the_lock_file_was_deleted(data):
    Path(data).mkdir()
    with FolderLock.taken(Path(data)) as first:
        first.note_holder()
        assert f"Another server (process {os.getpid()}) uses {data}" in refusal("--data", data)
        (Path(data) / layout.LOCK).unlink()

        assert f"Another server (process unknown) uses {data}" in refusal("--data", data)


def test_a_second_server_leaves_the_secrets_of_the_first_where_they_are(data):
    Path(data).mkdir()
    (Path(data) / "tokens.json").write_text("[]")
    with FolderLock.taken(Path(data)):
        refusal("--data", data)

    assert (Path(data) / "tokens.json").exists()
