"""Bearer tokens of an OpenID Connect issuer: signed by its keys, made for this server, not expired."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from lib.errors import ComputationInterrupted, NotAllowed, NotSignedIn
from lib.serving.signed import LONGEST_REASON, reading_token
from lib.stages import PEOPLE, Role
from lib.store.schema import LONGEST_NAME

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
"""Signatures with a key pair; never ``none``, never a shared secret."""

AWAY_SECONDS = 5.0
"""For so long nobody asks an issuer again that did not answer."""

KEYS_LAST_SECONDS = 300.0
"""After this time the issuer's keys are fetched again."""

LEEWAY_SECONDS = 30
"""How far both clocks may differ."""

MONAILABEL_ROLES = {
    "monailabel-user": Role.VIEWER,
    "monailabel-annotator": Role.ANNOTATOR,
    "monailabel-reviewer": Role.EXPERT,
    "monailabel-admin": Role.ADMIN,
}
"""Role names that MONAI Label's own set-up uses."""


@dataclass(frozen=True)
class Claims:
    """Where an issuer says who somebody is.

    Attributes:
        issuer: ``iss`` of its tokens; the address below which its configuration is found.
        audience: ``aud`` that tokens for this server carry.
        name: claim with the person's name; ``sub`` if it is missing.
        roles: claim with the list of roles; dots lead into objects.
    """

    issuer: str
    audience: str
    name: str = "preferred_username"
    roles: str = "roles"


class Issuer:
    """Checks tokens of one issuer; fetches its keys when they are needed."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._guard = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched = 0.0
        self._away: tuple[float, str] = (-math.inf, "")
        self._registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": claims.issuer},
            aud={"essential": True, "value": claims.audience},
            exp={"essential": True},
        )

    def identify(self, token: str) -> tuple[str, Role]:
        """Name and role of the person that a token stands for.

        Raises:
            NotSignedIn: if the token is not this issuer's, not for this server, or expired.
            NotAllowed: if it names none of our roles.
            ComputationInterrupted: if the issuer's keys cannot be fetched.
        """
        with reading_token():
            claims = self._verified(token)
            return self._name(claims), self._role(claims)

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._claims.name) or claims.get("sub")
        if not isinstance(name, str) or not name:
            raise NotSignedIn(f"The token has neither {self._claims.name!r} nor 'sub', so nobody can be named.")
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise NotSignedIn(f"The token's name {name[:50]!r} is not at most {LONGEST_NAME} printable characters.")
        return name

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            decoded = jwt.decode(token, self._key_set(fresh=False), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # The issuer may have changed its keys since they were fetched.
            decoded = jwt.decode(token, self._key_set(fresh=True), algorithms=ALGORITHMS)
        self._registry.validate(decoded.claims)
        return decoded.claims

    def _role(self, claims: Mapping[str, Any]) -> Role:
        found: Any = claims
        for part in self._claims.roles.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        names = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        known = {**{str(role): role for role in PEOPLE}, **MONAILABEL_ROLES}
        roles = [known[name] for name in names if isinstance(name, str) and name in known]
        if not roles:
            raise NotAllowed(
                f"The token's {self._claims.roles!r} names none of {', '.join(known)}; found "
                f"{str(found)[:LONGEST_REASON]}. Ask the administrator of the sign-in for a role."
            )
        return max(roles, key=PEOPLE.index)

    def _key_set(self, *, fresh: bool) -> KeySet:
        with self._guard:
            age = time.monotonic() - self._fetched
            # A wrong token must not make this server ask the issuer again and again.
            if self._keys is None or age > KEYS_LAST_SECONDS or (fresh and age > LEEWAY_SECONDS):
                self._keys = self._fetch()
                self._fetched = time.monotonic()
            return self._keys

    def _fetch(self) -> KeySet:
        since, reason = self._away
        if time.monotonic() - since < AWAY_SECONDS:
            raise ComputationInterrupted(reason)
        try:
            return self._asked()
        except ComputationInterrupted as error:
            self._away = time.monotonic(), str(error)
            raise

    def _asked(self) -> KeySet:
        address = f"{self._claims.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            configuration = httpx.get(address, timeout=10).raise_for_status().json()
            keys = httpx.get(configuration["jwks_uri"], timeout=10).raise_for_status().json()
            return KeySet([key for key in map(_key, keys["keys"]) if key is not None])
        except (httpx.HTTPError, httpx.InvalidURL, KeyError, TypeError, ValueError) as error:
            raise ComputationInterrupted(
                f"The keys of {self._claims.issuer} cannot be fetched: {type(error).__name__} {error}."
            ) from error


def _key(entry: Any) -> Key | None:
    """One key of an issuer; ``None`` for kinds that are not known here, which others may use (RFC 7517 section 5)."""
    try:
        return JWKRegistry.import_key(entry)
    except (JoseError, KeyError, TypeError, ValueError):
        return None
