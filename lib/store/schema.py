"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Stores any aware moment as UTC."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Reads the moment back as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


LONGEST_NAME = 256
"""Letters of the name of a person or of a client's program."""

IMAGE_ID = String(1024).with_variant(String(1024, collation="C"), "postgresql")
"""Ids are sorted by their code points: by a language's rules the same images would come in another order elsewhere."""

FILE_PATH = String(2048).with_variant(String(2048, collation="C"), "postgresql")
"""Paths too: what lies below a folder is one range of them."""


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


task = Table(
    "task",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("structures", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
)

image = Table(
    "image",
    metadata,
    Column("task", String(64), ForeignKey("task.name"), primary_key=True),
    Column("id", IMAGE_ID, primary_key=True),
    Column("kind", String(16), nullable=False),  # file, series
    Column("source", Text, nullable=False),  # path of the file, or of the folder of the series, below its root
    Column("shape", JSON),
    Column("affine", JSON),
    Column("modality", String(16), nullable=False, default=""),
    Column("patient", String(256), nullable=False),
    Column("split", String(16)),
    Column("state", String(16), nullable=False),  # ok, quarantined, no_image, hidden, erased
    Column("reason", Text, nullable=False, default=""),
    Column("standing", String(16), nullable=False),  # by the current annotation, see lib/stages.py
    Column("current", Integer),  # its version
    Column("draw", Float, nullable=False),  # place in the recorded random order
    Column("offered", UtcTime),
    Column("info", JSON, nullable=False),
    Column("added", UtcTime, nullable=False),
    Column("size", BigInteger),  # bytes of the file when it was digested
    Column("content", String(64)),  # SHA-256 of the file; empty: not known, or a series
    Column("listed", Boolean),  # empty: its row in the listing is missing or out of date
    Column("uncompared", Boolean),  # true: comparisons of its versions are missing or out of date
    Index("ix_image_next", "task", "state", "standing", "offered", "draw"),
    Index("ix_image_first", "task", "state", "standing", "id"),
    Index("ix_image_patient", "task", "patient"),
    Index("ix_image_split", "task", "split", "patient"),
    Index("ix_image_listed", "task", "listed", "state"),
    Index("ix_image_uncompared", "task", "uncompared"),
)

listing = Table(
    "listing",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("image", IMAGE_ID, primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("instance_uid", String(64), nullable=False),  # of a radiograph, whose series may hold others; else empty
    Column("study_date", String(64), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("patient_name", Text, nullable=False),  # without regard to case
    Column("accession_number", Text, nullable=False),
    Column("modality", String(64), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("attributes", JSON, nullable=False),  # of study and series, as DICOM JSON
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_listing_date", "task", "study_date", "study_uid"),
    Index("ix_listing_study", "task", "study_uid"),
    Index("ix_listing_series", "task", "series_uid"),
)

segmentation = Table(
    "segmentation",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("instance_uid", String(64), primary_key=True),
    Column("series_uid", String(64), nullable=False),
    Column("image", IMAGE_ID, nullable=False),
    Column("version", Integer, nullable=False),  # the annotation that it became
    Column("content", String(64), nullable=False),  # SHA-256 of the object as it came
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_segmentation_image", "task", "image"),
)

tally = Table(
    "tally",
    metadata,
    Column("task", String(64), ForeignKey("task.name"), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("standing", String(16), primary_key=True),
    Column("split", String(16), primary_key=True),  # empty: none yet
    Column("images", Integer, nullable=False),
)

file = Table(
    "file",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("root", String(16), primary_key=True),  # studies, uploads
    Column("path", FILE_PATH, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("modified_ns", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
    Column("image", IMAGE_ID, nullable=False),
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_file_image", "task", "image"),
)

annotation = Table(
    "annotation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("task", String(64), nullable=False),
    Column("image", IMAGE_ID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("author", String(LONGEST_NAME), nullable=False),
    Column("role", String(16), nullable=False),
    Column("parent", Integer),
    Column("mask", String(64)),
    Column("looked_at", JSON, nullable=False),
    Column("voxels", JSON, nullable=False),
    Column("tag", String(256), nullable=False, default=""),
    Column("model_version", Integer),
    Column("refiner_version", Integer),
    Column("rule", String(64), nullable=False, default=""),
    Column("client", String(LONGEST_NAME), nullable=False, default=""),
    Column("seconds", Float),
    Column("info", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
    UniqueConstraint("task", "image", "version"),
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_annotation_stage", "task", "stage", "id"),
    Index("ix_annotation_author", "task", "image", "author"),
)

model = Table(
    "model",
    metadata,
    Column("task", String(64), ForeignKey("task.name"), primary_key=True),
    Column("kind", String(16), primary_key=True),  # segmenter, refiner
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("weights", String(64), nullable=False),
    Column("network", JSON, nullable=False),
    Column("training", JSON, nullable=False),  # [[image, annotation version], ...]
    Column("validation", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("state", String(16), nullable=False),  # candidate, serving, kept, rejected
    Column("reason", Text, nullable=False),
    Column("created", UtcTime, nullable=False),
    Index(
        "uq_model_serving",
        "task",
        "kind",
        unique=True,
        sqlite_where=text("state = 'serving'"),
        postgresql_where=text("state = 'serving'"),
    ),
)

score = Table(
    "score",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("image", IMAGE_ID, primary_key=True),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(64), primary_key=True),  # such as dice:liver
    Column("value", Float),  # empty: undefined for this image
    Column("created", UtcTime, nullable=False),
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_score_kind", "task", "kind", "model_version"),
)

comparison = Table(
    "comparison",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("image", IMAGE_ID, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("expert_version", Integer, primary_key=True, autoincrement=False),
    Column("role", String(16), nullable=False),  # of who made the other one
    Column("is_ancestor", Boolean, nullable=False),  # the expert's was made from the other, not by way of an expert's
    Column("annotator", String(LONGEST_NAME)),  # whose case in the report on annotators; empty: nobody's
    Column("structures", JSON, nullable=False),  # figures by name of the structure
    Column("drawn_mm", Float, nullable=False),  # outlines drawn anew, of all structures
    Column("outline_mm", Float, nullable=False),  # all outlines of the expert's version
    Column("reason", Text, nullable=False),  # why there are no figures
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_comparison_annotator", "task", "annotator"),
)

assignment = Table(
    "assignment",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("task", String(64), nullable=False),
    Column("image", IMAGE_ID, nullable=False),
    Column("annotator", String(LONGEST_NAME), nullable=False),
    Column("purpose", String(16), nullable=False),  # label, review, second_reading
    Column("state", String(16), nullable=False),  # open, done
    Column("expires", UtcTime, nullable=False),
    Column("created", UtcTime, nullable=False),
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
    Index("ix_assignment_image", "task", "image", "state"),
)

opening = Table(
    "opening",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("image", IMAGE_ID, primary_key=True),
    Column("person", String(LONGEST_NAME), primary_key=True),
    Column("version", Integer, nullable=False),  # that this person was given last
    ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"]),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time", UtcTime, nullable=False),
    Column("task", String(64), ForeignKey("task.name"), nullable=False),
    Column("author", String(LONGEST_NAME), nullable=False),
    Column("role", String(16), nullable=False),
    Column("client", String(LONGEST_NAME), nullable=False),
    Column("address", String(64), nullable=False),
    Column("method", String(8), nullable=False),
    Column("path", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("status", Integer, nullable=False),
)

job = Table(
    "job",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # train, batch_infer, scoring, refine
    Column("task", String(64), ForeignKey("task.name"), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("state", String(16), nullable=False),  # queued, running, done, failed, cancelled
    Column("newest_annotation", Integer, nullable=False, default=0),
    Column("owner", String(64)),
    Column("lease_until", UtcTime),
    Column("attempts", Integer, nullable=False, default=0),
    Column("cancel", Boolean, nullable=False, default=False),
    Column("progress", JSON, nullable=False),
    Column("log", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("started", UtcTime),
    Column("ended", UtcTime),
    Index("ix_job_kind", "task", "kind", "state", "number"),
)
