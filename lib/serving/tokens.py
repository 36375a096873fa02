"""Tokens of people: a small file that holds their hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.errors import InvalidSetting
from lib.serving.one_form import nfc
from lib.stages import PEOPLE, Role
from lib.store.files import write_durably
from lib.store.lock import alone_with
from lib.store.schema import LONGEST_NAME

TOKEN_BYTES = 32
"""Random bytes of a token: too many to guess, so a plain hash of it is enough."""


@dataclass(frozen=True)
class TokenHolder:
    """A person with a token; the token itself is not kept.

    Attributes:
        name: author of what this person stores, in the one Unicode form in which names are kept.
        role: what this person may do.
        digest: SHA-256 of the token, as hexadecimal digits.
        created: day and time in UTC (ISO 8601).
    """

    name: str
    role: Role
    digest: str
    created: str


class TokenFile:
    """The file ``tokens.json`` of a data folder; changes by another process are seen at the next look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[bytes, dict[str, TokenHolder]] = b"[]", {}

    def add(self, name: str, role: Role) -> str:
        """Gives a person a token and returns it; it cannot be shown again.

        Raises:
            InvalidSetting: if the name is empty or has a token, or the role is no person's.
        """
        name = nfc(name)
        if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidSetting(
                f"A name has 1 to {LONGEST_NAME} printable characters, none of them a blank at an end: {name!r}."
            )
        if role not in PEOPLE:
            raise InvalidSetting(f"A role is one of {', '.join(PEOPLE)}, found {role!r}.")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        with self._changing() as holders:
            if any(holder.name == name for holder in holders):
                raise InvalidSetting(f"{name} has a token already. Remove it first, then add a new one.")
            self._write([*holders, TokenHolder(name, role, _digest(token), created)])
        return token

    def remove(self, *names: str) -> None:
        """Takes tokens of people back, of all or of none of them; they end to work at once.

        Raises:
            InvalidSetting: if one of them has none.
        """
        with self._changing() as holders:
            there, names = [holder.name for holder in holders], tuple(map(nfc, names))
            for name in names:
                if name not in there:
                    raise InvalidSetting(f"{name} has no token; these have: {', '.join(there) or 'nobody'}.")
            self._write([holder for holder in holders if holder.name not in names])

    def holders(self) -> list[TokenHolder]:
        """All people with a token, by name.

        Raises:
            InvalidSetting: if the file cannot be read, or somebody changed it by hand and broke it.
        """
        return sorted(self._by_digest().values(), key=lambda holder: holder.name)

    def holder_of(self, token: str) -> TokenHolder | None:
        """The person with this token, if anybody."""
        return self.holder_with(_digest(token))

    def holder_with(self, digest: str) -> TokenHolder | None:
        """The person whose token has this digest, if anybody."""
        return self._by_digest().get(digest)

    def _by_digest(self) -> dict[str, TokenHolder]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InvalidSetting(f"{self.path} cannot be read ({error.strerror}).") from error
        # Not by the time of change: two changes within one tick of the system's clock have the same.
        known, holders = self._read
        if content != known:
            try:
                holders = {holder.digest: holder for holder in map(_holder, json.loads(content))}
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InvalidSetting(f"{self.path} is damaged ({error}): mend it, or delete it.") from error
            self._read = content, holders
        return holders

    @contextmanager
    def _changing(self) -> Iterator[list[TokenHolder]]:
        """The people with a token, in a block in which nobody else changes them."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_with(self.path.with_name(f".{self.path.name}.lock")):
            yield self.holders()

    def _write(self, holders: list[TokenHolder]) -> None:
        content = [{"name": h.name, "role": h.role, "sha256": h.digest, "created": h.created} for h in holders]
        write_durably(self.path, json.dumps(content, indent=2).encode())


def _holder(entry: Mapping[str, Any]) -> TokenHolder:
    holder = TokenHolder(entry["name"], Role(entry["role"]), entry["sha256"], entry["created"])
    if not all(isinstance(text, str) for text in (holder.name, holder.digest, holder.created)):
        raise TypeError(f"a person has a name, a sha256 and a day, found {entry}")
    return replace(holder, name=nfc(holder.name))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
