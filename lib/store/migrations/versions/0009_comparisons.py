"""What experts changed: comparisons of their versions with earlier ones, and the images that still need them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

IMAGE_ID = sa.String(length=1024).with_variant(sa.String(length=1024, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "comparison",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("image", IMAGE_ID, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("expert_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("is_ancestor", sa.Boolean(), nullable=False),
        sa.Column("annotator", sa.String(length=256), nullable=True),
        sa.Column("structures", sa.JSON(), nullable=False),
        sa.Column("drawn_mm", sa.Float(), nullable=False),
        sa.Column("outline_mm", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task", "image"], ["image.task", "image.id"], name=op.f("fk_comparison_task_image_image")
        ),
        sa.PrimaryKeyConstraint("task", "image", "version", "expert_version", name=op.f("pk_comparison")),
    )
    op.create_index("ix_comparison_annotator", "comparison", ["task", "annotator"])
    op.add_column("image", sa.Column("uncompared", sa.Boolean(), nullable=True))
    op.create_index("ix_image_uncompared", "image", ["task", "uncompared"])
    image = sa.table("image", sa.column("standing", sa.String), sa.column("uncompared", sa.Boolean))
    op.execute(image.update().where(image.c.standing == "labelled").values(uncompared=sa.true()))
