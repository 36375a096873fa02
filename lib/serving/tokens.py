"""Tokens of people: a small file that holds their hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.errors import InvalidSetting
from lib.stages import PEOPLE, Role
from lib.store.files import write_durably
from lib.store.schema import LONGEST_NAME

TOKEN_BYTES = 32
"""Random bytes of a token: too many to guess, so a plain hash of it is enough."""


@dataclass(frozen=True)
class TokenHolder:
    """A person with a token; the token itself is not kept.

    Attributes:
        name: author of what this person stores.
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
        self._guard = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._holders: dict[str, TokenHolder] = {}

    def add(self, name: str, role: Role) -> str:
        """Gives a person a token and returns it; it cannot be shown again.

        Raises:
            InvalidSetting: if the name is empty or has a token, or the role is no person's.
        """
        if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidSetting(
                f"A name has 1 to {LONGEST_NAME} printable characters, none of them a blank at an end: {name!r}."
            )
        if role not in PEOPLE:
            raise InvalidSetting(f"A role is one of {', '.join(PEOPLE)}, found {role!r}.")
        holders = self.holders()
        if any(holder.name == name for holder in holders):
            raise InvalidSetting(f"{name} has a token already. Remove it first, then add a new one.")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._write([*holders, TokenHolder(name, role, _digest(token), created)])
        return token

    def remove(self, name: str) -> None:
        """Takes a person's token back; it ends to work at once.

        Raises:
            InvalidSetting: if this person has none.
        """
        holders = self.holders()
        if all(holder.name != name for holder in holders):
            raise InvalidSetting(f"{name} has no token; these have: {', '.join(h.name for h in holders) or 'nobody'}.")
        self._write([holder for holder in holders if holder.name != name])

    def holders(self) -> list[TokenHolder]:
        """All people with a token, by name.

        Raises:
            InvalidSetting: if somebody changed the file by hand and broke it.
        """
        return sorted(self._by_digest().values(), key=lambda holder: holder.name)

    def holder_of(self, token: str) -> TokenHolder | None:
        """The person with this token, if anybody."""
        return self.holder_with(_digest(token))

    def holder_with(self, digest: str) -> TokenHolder | None:
        """The person whose token has this digest, if anybody."""
        return self._by_digest().get(digest)

    def _by_digest(self) -> dict[str, TokenHolder]:
        with self._guard:
            try:
                status = self.path.stat()
            except FileNotFoundError:
                return {}
            read_at = (status.st_mtime_ns, status.st_ino)
            if read_at != self._read_at:
                try:
                    entries = json.loads(self.path.read_text(encoding="utf-8"))
                    self._holders = {holder.digest: holder for holder in map(_holder, entries)}
                except (ValueError, KeyError, TypeError) as error:
                    raise InvalidSetting(f"{self.path} is damaged ({error}): mend it, or delete it.") from error
                self._read_at = read_at
            return dict(self._holders)

    def _write(self, holders: list[TokenHolder]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = [{"name": h.name, "role": h.role, "sha256": h.digest, "created": h.created} for h in holders]
        write_durably(self.path, json.dumps(content, indent=2).encode())


def _holder(entry: Mapping[str, Any]) -> TokenHolder:
    return TokenHolder(entry["name"], Role(entry["role"]), entry["sha256"], entry["created"])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
