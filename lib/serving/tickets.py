"""Tokens for the viewer: whoever has a token gets one for a day's work, which may stand in an address."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import ExpiredTokenError
from joserfc.jwk import OctKey

from lib.errors import NotSignedIn
from lib.serving.signed import reading_token
from lib.store.files import write_durably
from lib.store.lock import alone_with

TICKET_SECONDS = 12 * 3600
"""A ticket's time: what is drawn in a day can be stored; an address that somebody finds later opens nothing."""

ISSUER = "label-refinery"

ALGORITHM = "HS256"

KEY_BYTES = 32


class Tickets:
    """Signs and reads tickets with a key of this data folder, so that they outlive a restart.

    The file is looked at each time: a new key, or none, ends all tickets at once.
    """

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    def give(self, about: Mapping[str, str]) -> str:
        """A ticket that says something about its owner."""
        claims = {**about, "iss": ISSUER, "exp": int(time.time()) + TICKET_SECONDS}
        return jwt.encode({"alg": ALGORITHM}, claims, self._key() or self._new_key(), algorithms=[ALGORITHM])

    def rotate(self) -> None:
        """Makes a new key."""
        with self._changing():
            write_durably(self._key_file, secrets.token_bytes(KEY_BYTES))

    def read(self, token: str) -> Mapping[str, Any] | None:
        """What a ticket says; ``None`` if the token is none that was given here.

        Raises:
            NotSignedIn: if its time is over.
        """
        registry = jwt.JWTClaimsRegistry(
            now=int(time.time()), iss={"essential": True, "value": ISSUER}, exp={"essential": True}
        )
        key = self._key()
        if key is None:
            return None
        try:
            with reading_token():
                claims = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
                registry.validate(claims)
        except NotSignedIn as error:
            if not isinstance(error.__cause__, ExpiredTokenError):
                return None
            hours = TICKET_SECONDS // 3600
            raise NotSignedIn(f"The viewer was opened more than {hours} hours ago. Open it again at /open.") from error
        return claims

    def _key(self) -> OctKey | None:
        """The key; ``None`` if there is none, or one that is not whole and might be guessed."""
        try:
            content = self._key_file.read_bytes()
        except FileNotFoundError:
            return None
        return OctKey.import_key(content) if len(content) == KEY_BYTES else None

    def _new_key(self) -> OctKey:
        with self._changing():
            # Another process or thread may have made one meanwhile.
            if (key := self._key()) is not None:
                return key
            content = secrets.token_bytes(KEY_BYTES)
            write_durably(self._key_file, content)
            return OctKey.import_key(content)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_with(self._key_file.with_name(f".{self._key_file.name}.lock")):
            yield
