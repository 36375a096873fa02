"""Masks drawn as small pictures."""

from __future__ import annotations

import numpy as np


def drawn(text: str) -> np.ndarray:
    """The mask in a picture: ``.`` is background, ``#`` is 1, a digit is its own label value.

    Lines of the picture follow each other along I, signs within a line along J; the result is uint8 (I, J, 1).
    """
    lines = [line.split() for line in text.strip().splitlines()]
    values = [[{".": 0, "#": 1}.get(sign) if sign in ".#" else int(sign) for sign in line] for line in lines]
    return np.array(values, np.uint8)[:, :, None]
