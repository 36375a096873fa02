"""What lies where below the data folder: the only place that spells these names."""

from __future__ import annotations

import hashlib

RECORD = "record.sqlite"
"""Tables, unless they are in PostgreSQL."""

MASKS = "masks"
"""Mask files, named by their content."""

WEIGHTS = "weights"
"""Checkpoints, named by their content."""

SEGMENTATIONS = "segmentations"
"""DICOM segmentations as clients stored them, named by their content."""

UPLOADS = "uploads"
"""Images that clients sent; also the name of this root in the file table."""

FETCHED = "fetched"
"""Images that were fetched from a DICOMweb server, kept while there is room; also the name of this root in the file
table."""

CACHE = "cache"
"""Images and masks in another format, made from what is stored; may be deleted at any time."""

TEMPORARY = "tmp"
"""What a request needs for itself; emptied at each start."""

SESSIONS = "sessions"
"""Images that clients sent for a while."""

ABOUT_SESSION = "session.json"
"""What is written last into the folder of a session."""

LOG = "logs/server.log"
"""The log of all processes."""

KEYS = "keys"
"""Everything secret, apart from all that clients send or may have sent to them."""

PATIENT_KEY = "keys/patient.key"
"""The secret that hides patient ids."""

TOKENS = "keys/tokens.json"
"""Hashes of people's tokens."""

TICKET_KEY = "keys/tickets.key"
"""The secret that signs the viewer's short-lived tokens; without it those that were given end to work."""

BEFORE_KEYS = ("patient.key", "tokens.json", "tickets.key")
"""Where these three lay at first: beside all else."""

LOCK = "server.lock"
"""Held by the server that uses the folder."""


def cached_name(image_id: str, what: str) -> str:
    """Name below ``CACHE`` of something that is made of an image.

    Ids are as long as paths, and hold slashes: a digest stands for them, so that the name is always one that a file may
    have.

    Args:
        image_id: of the image.
        what: short; ``*`` makes it a pattern of all that is made of this image.
    """
    return f"{hashlib.sha256(image_id.encode()).hexdigest()[:32]}-{what}"
