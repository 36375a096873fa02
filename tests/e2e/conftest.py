"""A browser for all tests of a file: starting one takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e.browser import browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """A browser whose pages share files and what is kept in it; each page signs in by itself."""
    with browsing() as context:
        yield context
