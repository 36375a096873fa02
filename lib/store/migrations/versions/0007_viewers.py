"""What viewers search for, and the segmentations that they stored."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

IMAGE_ID = sa.String(length=1024).with_variant(sa.String(length=1024, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("image", sa.Column("listed", sa.Boolean(), nullable=True))
    op.create_index("ix_image_listed", "image", ["task", "listed", "state"])
    op.create_table(
        "listing",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("image", IMAGE_ID, nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_date", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("modality", sa.String(length=64), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task", "image"], ["image.task", "image.id"], name=op.f("fk_listing_task_image_image")
        ),
        sa.PrimaryKeyConstraint("task", "image", name=op.f("pk_listing")),
    )
    op.create_index("ix_listing_date", "listing", ["task", "study_date", "study_uid"])
    op.create_index("ix_listing_study", "listing", ["task", "study_uid"])
    op.create_index("ix_listing_series", "listing", ["task", "series_uid"])
    op.create_table(
        "segmentation",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("image", IMAGE_ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["task", "image"], ["image.task", "image.id"], name=op.f("fk_segmentation_task_image_image")
        ),
        sa.PrimaryKeyConstraint("task", "instance_uid", name=op.f("pk_segmentation")),
    )
    op.create_index("ix_segmentation_image", "segmentation", ["task", "image"])
