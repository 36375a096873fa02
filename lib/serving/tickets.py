"""Tokens for the viewer: whoever has a token gets one for a day's work, which may stand in an address."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey

from lib.errors import NotSignedIn
from lib.store.files import write_durably

TICKET_SECONDS = 12 * 3600
"""A ticket's time: what is drawn in a day can be stored; an address that somebody finds later opens nothing."""

ISSUER = "label-refinery"

ALGORITHM = "HS256"

KEY_BYTES = 32


class Tickets:
    """Signs and reads tickets with a key of this data folder, so that they outlive a restart."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._guard = threading.Lock()
        self._known_key: OctKey | None = None

    def give(self, about: Mapping[str, str]) -> str:
        """A ticket that says something about its owner."""
        claims = {**about, "iss": ISSUER, "exp": int(time.time()) + TICKET_SECONDS}
        return jwt.encode({"alg": ALGORITHM}, claims, self._key(), algorithms=[ALGORITHM])

    def read(self, token: str) -> Mapping[str, Any] | None:
        """What a ticket says; ``None`` if the token is none that was given here.

        Raises:
            NotSignedIn: if its time is over.
        """
        registry = jwt.JWTClaimsRegistry(
            now=int(time.time()), iss={"essential": True, "value": ISSUER}, exp={"essential": True}
        )
        try:
            claims = jwt.decode(token, self._key(), algorithms=[ALGORITHM]).claims
            registry.validate(claims)
        except ExpiredTokenError as error:
            hours = TICKET_SECONDS // 3600
            raise NotSignedIn(f"The viewer was opened more than {hours} hours ago. Open it again at /open.") from error
        except (JoseError, ValueError):
            return None
        return claims

    def _key(self) -> OctKey:
        with self._guard:
            if self._known_key is None:
                if not self._key_file.exists():
                    self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    write_durably(self._key_file, secrets.token_bytes(KEY_BYTES))
                self._known_key = OctKey.import_key(self._key_file.read_bytes())
            return self._known_key
