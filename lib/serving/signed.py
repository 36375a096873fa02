"""Signed tokens are read in one place: whoever sends one can only be let in, or be told that it is not accepted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lib.errors import LabelRefineryError, NotSignedIn

LONGEST_REASON = 200
"""Letters of what is told about a token: libraries put pieces of it into their messages."""


@contextmanager
def reading_token() -> Iterator[None]:
    """A block that reads a token, its head and what it says of its owner.

    Raises:
        NotSignedIn: whatever goes wrong in it, but for what is an error of ours already. All of a token is the
            sender's: a number may stand where a list is wanted, and the libraries raise whatever they stumble over.
    """
    try:
        yield
    except LabelRefineryError:
        raise
    except Exception as error:
        reason = f"{error or type(error).__name__}"[:LONGEST_REASON]
        raise NotSignedIn(f"The token is not accepted ({reason}). Sign in again.") from error
