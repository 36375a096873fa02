"""Which UIDs may become names: of images, of files, and in addresses."""

from __future__ import annotations

import re

USABLE_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""The standard's digits and dots, and what anonymisers write; nothing that a file system or a route takes for more."""
