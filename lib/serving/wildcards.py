"""Patterns with ``*`` and ``?``, as searches of DICOM have them (PS3.4 section C.2.2.2.4)."""

from __future__ import annotations


def is_like(text: str, pattern: str) -> bool:
    """Whether all of a text is like a pattern, in which ``*`` stands for any letters and ``?`` for one.

    No regular expression: it would try every way to share the text among the ``*``, of which there are more than
    anybody can wait for. It is enough to let each ``*`` take as little as it can, since the last one takes the rest;
    so at most ``len(text) * len(pattern)`` letters are compared.
    """
    at_text = at_pattern = 0
    star, taken = -1, 0  # where the last * stands, and up to where in the text its letters go
    while at_text < len(text):
        wanted = pattern[at_pattern] if at_pattern < len(pattern) else ""
        if wanted == "*":
            star, taken = at_pattern, at_text
            at_pattern += 1
        elif wanted in ("?", text[at_text]):
            at_text += 1
            at_pattern += 1
        elif star >= 0:
            taken += 1
            at_text, at_pattern = taken, star + 1
        else:
            return False
    return not pattern[at_pattern:].strip("*")
