"""What lies where below the data folder: the only place that spells these names."""

from __future__ import annotations

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

LOG = "logs/server.log"
"""The log of all processes."""

PATIENT_KEY = "patient.key"
"""The secret that hides patient ids."""

TOKENS = "tokens.json"
"""Hashes of people's tokens."""

TICKET_KEY = "tickets.key"
"""The secret that signs the viewer's short-lived tokens; without it those that were given end to work."""

LOCK = "server.lock"
"""Held by the server that uses the folder."""
