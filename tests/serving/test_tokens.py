"""The token file: hashes only, seen at once, broken by nobody."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest

from lib.errors import InvalidSetting
from lib.serving.tokens import TokenFile
from lib.stages import PROGRAMS, Role
from scripts import tokens


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "data" / "tokens.json")


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


def test_the_command_gives_lists_and_takes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(tmp_path)]
    tokens.main([*where, "add", "kim", "--role", "admin"])
    token = capsys.readouterr().out.splitlines()[-1]
    tokens.main([*where, "list"])
    listed = capsys.readouterr().out

    holder = TokenFile(tmp_path / "tokens.json").holder_of(token)
    assert holder is not None and holder.role is Role.ADMIN
    assert listed.startswith("kim\tadmin\tsince 20") and token not in listed

    tokens.main([*where, "remove", "kim"])
    assert TokenFile(tmp_path / "tokens.json").holders() == []
    with pytest.raises(SystemExit, match=r"kim has no token; these have: nobody"):
        tokens.main([*where, "remove", "kim"])
