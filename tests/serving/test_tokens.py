"""The token file: hashes only, seen at once, broken by nobody."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unicodedata import normalize

import pytest

from lib.errors import InvalidSetting
from lib.serving.tokens import TokenFile
from lib.stages import PROGRAMS, Role
from lib.store import layout
from scripts import tokens

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "data" / layout.TOKENS)


def test_a_token_stands_for_a_person_and_a_role(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)

    holder = file.holder_of(token)
    assert holder is not None and (holder.name, holder.role) == ("kim", Role.EXPERT)


@pytest.mark.parametrize("wrong", ["", " ", "x", "kim", "\udcff", "🫁" * 1000])
def test_any_other_text_stands_for_nobody(file: TokenFile, wrong: str) -> None:
    token = file.add("kim", Role.EXPERT)

    assert file.holder_of(wrong) is None
    assert file.holder_of(token[:-1]) is None
    assert file.holder_of(token + " ") is None


def test_the_hash_of_a_token_is_no_token(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)

    assert file.holder_of(hashlib.sha256(token.encode()).hexdigest()) is None


def test_the_file_holds_no_token_and_only_its_owner_reads_it(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)

    (entry,) = json.loads(file.path.read_text())
    assert token not in file.path.read_text()
    assert entry["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_tokens_are_long_and_never_the_same(file: TokenFile) -> None:
    made = [file.add(f"person {number}", Role.VIEWER) for number in range(20)]

    assert len(set(made)) == 20 and min(map(len, made)) >= 43


def test_a_removed_token_ends_at_once_also_for_a_server_that_runs(file: TokenFile) -> None:
    server = TokenFile(file.path)
    token = file.add("kim", Role.EXPERT)
    assert server.holder_of(token) is not None

    file.remove("kim")

    assert server.holder_of(token) is None


def test_a_token_given_while_the_server_runs_works_at_once(file: TokenFile) -> None:
    server = TokenFile(file.path)
    assert server.holder_of("x") is None

    token = file.add("kim", Role.EXPERT)

    assert server.holder_of(token) is not None


def test_a_deleted_file_means_nobody(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)
    file.path.unlink()

    assert file.holder_of(token) is None


@pytest.mark.parametrize("name", ["", "  ", " kim", "kim ", "a\nb", "a\tb", "a\x00b", "k" * 257])
def test_a_name_that_could_not_be_shown_is_refused(file: TokenFile, name: str) -> None:
    with pytest.raises(InvalidSetting, match=r"1 to 256 printable characters"):
        file.add(name, Role.EXPERT)

    assert not file.path.exists()


@pytest.mark.parametrize("role", PROGRAMS)
def test_a_program_gets_no_token(file: TokenFile, role: Role) -> None:
    with pytest.raises(InvalidSetting, match=rf"viewer, annotator, expert, admin, found .*{role}"):
        file.add("kim", role)


def test_a_second_token_for_one_person_is_refused(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)

    with pytest.raises(InvalidSetting, match=r"kim has a token already\. Remove it first"):
        file.add("kim", Role.ADMIN)

    assert file.holder_of(token) is not None


def test_removing_somebody_unknown_says_who_has_one(file: TokenFile) -> None:
    file.add("kim", Role.EXPERT)

    with pytest.raises(InvalidSetting, match=r"lee has no token; these have: kim"):
        file.remove("lee")


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"name": "kim"}]', '[{"name":1,"role":"king","sha256":"a"}]'])
def test_a_damaged_file_lets_nobody_in_and_says_why(file: TokenFile, content: str) -> None:
    token = file.add("kim", Role.EXPERT)
    server = TokenFile(file.path)
    assert server.holder_of(token) is not None
    file.path.write_text(content)

    with pytest.raises(InvalidSetting, match=r"tokens\.json is damaged .*: mend it, or delete it"):
        server.holder_of(token)
    with pytest.raises(InvalidSetting, match=r"is damaged"):
        file.add("lee", Role.EXPERT)
    assert file.path.read_text() == content


def beside_each_other(*works: Callable[[], object]) -> list[BaseException | None]:
    """Does all of this at once; what came of each."""
    ready = threading.Barrier(len(works))

    def work(one: Callable[[], object]) -> BaseException | None:
        ready.wait(30)
        try:
            one()
        except InvalidSetting as error:
            return error
        return None

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(work, works))


def test_of_tokens_given_at_once_all_work(file: TokenFile) -> None:
    given: dict[str, str] = {}

    def give(name: str) -> Callable[[], object]:
        # A file object of its own, as each process has.
        return lambda: given.update({name: TokenFile(file.path).add(name, Role.EXPERT)})

    assert set(beside_each_other(*(give(f"person {number}") for number in range(12)))) == {None}

    assert len(given) == len(file.holders()) == 12
    assert all(file.holder_of(token) is not None for token in given.values())


def test_tokens_given_and_taken_back_at_once_are_all_heeded(file: TokenFile) -> None:
    for number in range(6):
        file.add(f"old {number}", Role.VIEWER)

    beside_each_other(
        *(partial(TokenFile(file.path).add, f"new {number}", Role.VIEWER) for number in range(6)),
        *(partial(TokenFile(file.path).remove, f"old {number}") for number in range(6)),
    )

    assert [holder.name for holder in file.holders()] == [f"new {number}" for number in range(6)]


def test_of_one_name_given_twice_at_once_one_is_refused(file: TokenFile) -> None:
    came = beside_each_other(*(partial(TokenFile(file.path).add, "kim", Role.ADMIN) for _ in range(4)))

    assert sum(error is None for error in came) == 1 and len(file.holders()) == 1


def test_of_one_token_taken_back_twice_at_once_one_is_told_so(file: TokenFile) -> None:
    file.add("kim", Role.ADMIN)

    came = beside_each_other(*(partial(TokenFile(file.path).remove, "kim") for _ in range(4)))

    assert sum(error is None for error in came) == 1 and file.holders() == []


def test_commands_at_once_give_tokens_that_all_work(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.tokens", "--data", str(tmp_path / "data"), "add"]
    started = [subprocess.Popen([*command, f"p{number}"], cwd=ROOT, stdout=subprocess.PIPE) for number in range(6)]
    shown = [process.communicate(timeout=120)[0].decode().split()[-1] for process in started]

    file = TokenFile(tmp_path / "data" / layout.TOKENS)
    found = [file.holder_of(token) for token in shown]
    assert [holder and holder.name for holder in found] == [f"p{number}" for number in range(6)]


@pytest.mark.parametrize("is_before", [True, False])
def test_the_data_folder_may_be_named_before_the_command_and_after_it(tmp_path: Path, is_before: bool) -> None:
    place, command = ["--data", str(tmp_path / "data")], ["add", "kim", "--role", "expert"]

    tokens.main([*place, *command] if is_before else [*command, *place])

    assert [holder.role for holder in TokenFile(tmp_path / "data" / layout.TOKENS).holders()] == [Role.EXPERT]


def test_several_tokens_end_together_or_none_of_them(file: TokenFile) -> None:
    for name in ("kim", "lee", "ida"):
        file.add(name, Role.VIEWER)

    with pytest.raises(InvalidSetting, match=r"bob has no token"):
        file.remove("kim", "bob")
    assert len(file.holders()) == 3
    file.remove("kim", "ida")
    assert [holder.name for holder in file.holders()] == ["lee"]


def test_a_change_within_one_tick_of_the_clock_is_seen(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)
    status = file.path.stat()
    assert file.holder_of(token) is not None

    file.path.write_text(file.path.read_text().replace("expert", "viewer"))
    os.utime(file.path, ns=(status.st_atime_ns, status.st_mtime_ns))

    holder = file.holder_of(token)
    assert holder is not None and holder.role is Role.VIEWER


def test_the_command_gives_lists_and_takes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(tmp_path)]
    tokens.main([*where, "add", "kim", "--role", "admin"])
    token = capsys.readouterr().out.splitlines()[-1]
    tokens.main([*where, "list"])
    listed = capsys.readouterr().out

    holder = TokenFile(tmp_path / layout.TOKENS).holder_of(token)
    assert holder is not None and holder.role is Role.ADMIN
    assert listed.startswith("kim\tadmin\tsince 20") and token not in listed

    tokens.main([*where, "remove", "kim"])
    assert TokenFile(tmp_path / layout.TOKENS).holders() == []
    with pytest.raises(SystemExit, match=r"kim has no token; these have: nobody"):
        tokens.main([*where, "remove", "kim"])


@pytest.mark.parametrize("name", ["Zoë", "Müller", "각", "Ｎｉｎａ ﬁ", "Ḍ̇"], ids=range(5))
def test_a_name_is_one_person_in_both_forms(file: TokenFile, name: str) -> None:
    composed, apart = normalize("NFC", name), normalize("NFD", name)
    token = file.add(apart, Role.EXPERT)

    holder = file.holder_of(token)
    assert holder is not None and holder.name == composed
    for form in (composed, apart):
        with pytest.raises(InvalidSetting, match=r"has a token already"):
            file.add(form, Role.VIEWER)
    file.remove(apart)
    assert file.holders() == []


def test_a_name_that_an_earlier_version_noted_in_another_form_is_that_person(file: TokenFile) -> None:
    token = file.add("kim", Role.EXPERT)
    file.path.write_text(file.path.read_text().replace("kim", normalize("NFD", "Zoë")))

    holder = file.holder_of(token)
    assert holder is not None and holder.name == normalize("NFC", "Zoë")
    file.remove("Zoë")
    assert file.holders() == []
