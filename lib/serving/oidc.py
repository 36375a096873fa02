"""Bearer tokens of an OpenID Connect issuer: signed by its keys, made for this server, not expired."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from lib.errors import ComputationInterrupted, NotAllowed, NotSignedIn
from lib.serving.one_form import nfc
from lib.serving.signed import LONGEST_REASON, reading_token
from lib.stages import PEOPLE, Role
from lib.store.schema import LONGEST_NAME

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
"""Signatures with a key pair; never ``none``, never a shared secret."""

AWAY_SECONDS = 5.0
"""For so long nobody asks an issuer again that did not answer."""

ISSUER_SECONDS = 10.0
"""How long an issuer may take to answer."""

KEYS_LAST_SECONDS = 300.0
"""After this time the issuer's keys are not used any more; they are fetched again when half of it is over."""

KEYS_KEPT_SECONDS = 3600.0
"""For so long known keys are used while the issuer does not answer."""

WAITING = 4
"""Requests that wait for the issuer at once, fewer than are signed in at once: the others are told to come again."""

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
        self._fetched = -math.inf
        self._away: tuple[float, str] = (-math.inf, "")
        self._answer: Future[KeySet] | None = None
        self._places = threading.BoundedSemaphore(WAITING)
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
        return nfc(name)

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
        """The issuer's keys: those that are known, unless they are too old, or ``fresh`` ones are wanted.

        Nobody who can do with known keys waits for the issuer: they are fetched anew before they are too old, and are
        used on while it does not answer.
        """
        now = time.monotonic()
        with self._guard:
            keys, age = self._keys, now - self._fetched
            is_away = self._away[0] > self._fetched
            # A wrong token must not make this server ask the issuer again and again.
            is_good = keys is not None and age <= (LEEWAY_SECONDS if fresh else KEYS_LAST_SECONDS)
            is_usable = is_good or (not fresh and is_away and age <= KEYS_KEPT_SECONDS)
            if keys is not None and is_good and (fresh or age <= KEYS_LAST_SECONDS / 2):
                return keys
            answer = self._fetching(now)
        return keys if keys is not None and is_usable else self._waited(answer)

    def _fetching(self, now: float) -> Future[KeySet]:
        """The answer of the issuer, which is asked by one thread at a time; holding the guard."""
        since, reason = self._away
        if now - since < AWAY_SECONDS:
            told: Future[KeySet] = Future()
            told.set_exception(ComputationInterrupted(reason))
            return told
        if self._answer is None:
            self._answer = Future()
            threading.Thread(target=self._fetch, args=[self._answer], name="issuer", daemon=True).start()
        return self._answer

    def _fetch(self, answer: Future[KeySet]) -> None:
        try:
            keys = self._asked()
        # Whoever waits must be told whatever it is.
        except Exception as error:
            with self._guard:
                self._answer, self._away = None, (time.monotonic(), str(error))
            answer.set_exception(ComputationInterrupted(str(error)))
        else:
            with self._guard:
                self._answer, self._keys, self._fetched = None, keys, time.monotonic()
            answer.set_result(keys)

    def _waited(self, answer: Future[KeySet]) -> KeySet:
        if not self._places.acquire(blocking=False):
            raise ComputationInterrupted(f"The keys of {self._claims.issuer} are being fetched. Send it again later.")
        try:
            return answer.result(ISSUER_SECONDS)
        except TimeoutError as error:
            raise ComputationInterrupted(f"{self._claims.issuer} does not send its keys in time.") from error
        finally:
            self._places.release()

    def _asked(self) -> KeySet:
        address = f"{self._claims.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            configuration = httpx.get(address, timeout=ISSUER_SECONDS).raise_for_status().json()
            keys = httpx.get(configuration["jwks_uri"], timeout=ISSUER_SECONDS).raise_for_status().json()
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
