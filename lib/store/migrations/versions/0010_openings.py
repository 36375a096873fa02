"""Which version of an image each person was given last; whose case a comparison is, is told anew."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

IMAGE_ID = sa.String(length=1024).with_variant(sa.String(length=1024, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "opening",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("image", IMAGE_ID, nullable=False),
        sa.Column("person", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task", "image"], ["image.task", "image.id"], name=op.f("fk_opening_task_image_image")
        ),
        sa.PrimaryKeyConstraint("task", "image", "person", name=op.f("pk_opening")),
    )
    image = sa.table("image", sa.column("standing", sa.String), sa.column("uncompared", sa.Boolean))
    op.execute(image.update().where(image.c.standing == "labelled").values(uncompared=sa.true()))
