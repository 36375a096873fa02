"""Who may do what: the role that each request needs."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lib.errors import InvalidSetting, NotAllowed, NotSignedIn, SignInAway
from lib.serving.annotator import Annotator
from lib.serving.oidc import Claims, Issuer
from lib.serving.settings import Settings
from lib.serving.tickets import Tickets
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """Requests whose method and path match need a role; ``None``: nobody needs to sign in."""

    methods: tuple[str, ...]
    path: str
    role: Role | None


READ = ("GET", "HEAD")
CHANGE = ("POST", "PUT", "DELETE")

RULES = (
    # Pages and the viewer's own files tell nothing about patients; a browser sends no token when it opens them.
    Rule(READ, r"/|/docs|/annotators|/openapi\.json|/favicon\.ico|/ohif(-monai|-bar)?/.*|/health/.*", None),
    Rule(READ, r"/auth/token/valid", Role.VIEWER),
    Rule((*READ, *CHANGE), r"/auth/.*|/open", None),
    Rule(READ, r"/(logs|audit)/.*", Role.ADMIN),
    Rule(READ, r"/model/(info|versions)/.*", Role.VIEWER),
    Rule((*READ, *CHANGE), r"/model/.*", Role.ADMIN),
    Rule(("DELETE",), r"/datastore/(image)?", Role.ADMIN),
    Rule(CHANGE, r"/cases/open", Role.VIEWER),
    Rule(READ, r"/datastore/dataset|/annotators/.*", Role.ANNOTATOR),
    Rule(CHANGE, r"/datastore/.*", Role.ANNOTATOR),
    Rule(CHANGE, r"/(infer|activelearning|session|dicomweb|cases)/.*|/annotations/restore", Role.ANNOTATOR),
    Rule(CHANGE, r"/(train|scoring|batch)/.*|/annotations/accept", Role.EXPERT),
    Rule(READ, r"/.*", Role.VIEWER),
)
"""The first rule that matches counts; a request that none matches needs an administrator."""


def needed_role(method: str, path: str) -> Role | None:
    """The role that a request needs at least, or ``None`` if it needs none."""
    for rule in RULES:
        if method in rule.methods and re.fullmatch(rule.path, path):
            return rule.role
    return Role.ADMIN


def may(role: Role, needed: Role | None) -> bool:
    """Whether somebody with a role may do what needs another."""
    return needed is None or PEOPLE.index(role) >= PEOPLE.index(needed)


class Access:
    """Signs people in as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self.is_open = settings.auth == "none"
        self._tokens = TokenFile(settings.data / layout.TOKENS)
        self._tickets = Tickets(settings.data / layout.TICKET_KEY)
        self._fault = ""
        self._issuer: Issuer | None = None
        if settings.auth == "oidc":
            claims = Claims(settings.oidc_issuer, settings.oidc_audience, settings.oidc_name, settings.oidc_roles)
            self._issuer = Issuer(claims)

    def identify(self, token: str) -> tuple[str, Role]:
        """Name and role of the person that a token stands for.

        Raises:
            NotSignedIn: if nobody has this token.
            NotAllowed: if the issuer names none of our roles.
            SignInAway: if the files of tokens and tickets cannot be read.
        """
        with self._faults_told():
            holder = self._tokens.holder_of(token)
            if holder is not None:
                return holder.name, holder.role
            if (ticket := self._tickets.read(token)) is not None:
                return self._owner(ticket)
        if self._issuer is not None:
            return self._issuer.identify(token)
        raise NotSignedIn("The token is not known. Ask an administrator: scripts/tokens.py gives tokens.")

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        """Tells the log, once, why nobody can sign in; what is no client's business is not told to clients."""
        try:
            yield
        except (InvalidSetting, OSError) as error:
            if str(error) != self._fault:
                LOG.error("Nobody can sign in: %s", error)
            self._fault = str(error)
            raise SignInAway(
                "Nobody can sign in just now. The administrator of this server finds the reason in its log."
            ) from error
        self._fault = ""

    def _owner(self, ticket: Mapping[str, Any]) -> tuple[str, Role]:
        """The person whom a ticket was given to; one whose token was taken back has none any more."""
        if not ticket["holder"]:
            return ticket["name"], Role(ticket["role"])
        holder = self._tokens.holder_with(ticket["holder"])
        if holder is None:
            raise NotSignedIn(f"The token of {ticket['name']}, with which the viewer was opened, was taken back.")
        return holder.name, holder.role

    def ticket(self, token: str) -> str:
        """A ticket of the person that a token stands for; for a ticket itself, so that its time does not grow.

        Raises:
            NotSignedIn: if nobody has this token.
            NotAllowed: if the issuer names none of our roles.
        """
        name, role = self.identify(token)
        with self._faults_told():
            if self._tickets.read(token) is not None:
                return token
            holder = self._tokens.holder_of(token)
            return self._tickets.give({"name": name, "role": role, "holder": holder.digest if holder else ""})

    def seconds_left(self, token: str) -> int | None:
        """Until the person has to sign in anew; ``None``: a token that is good until it is taken back."""
        with self._faults_told():
            ticket = self._tickets.read(token)
        return max(0, int(ticket["exp"] - time.time())) if ticket is not None else None

    def admit(self, token: str | None, method: str, path: str, client: str) -> Annotator | None:
        """The person behind a request, or ``None`` if it needs nobody; then a token is not even looked at.

        Raises:
            NotSignedIn: if it needs somebody and the token is missing or not known.
            NotAllowed: if the person's role is not enough.
        """
        needed = needed_role(method, path)
        if needed is None:
            return None
        if token is None:
            raise NotSignedIn("Sign in: send the header 'Authorization: Bearer TOKEN'.")
        name, role = self.identify(token)
        if not may(role, needed):
            raise NotAllowed(f"{method} {path} needs the role {needed}; {name} is {role}.")
        return Annotator(name, role, client)
