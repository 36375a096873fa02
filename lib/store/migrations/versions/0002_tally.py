"""A running count of images, so that nothing has to count a hundred thousand rows for a reply."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "tally",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["task.name"], name=op.f("fk_tally_task_task")),
        sa.PrimaryKeyConstraint("task", "state", "standing", "split", name=op.f("pk_tally")),
    )
    op.create_index("ix_image_first", "image", ["task", "state", "standing", "id"], unique=False)
    op.execute(
        "INSERT INTO tally (task, state, standing, split, images) "
        "SELECT task, state, standing, coalesce(split, ''), count(*) FROM image GROUP BY 1, 2, 3, 4"
    )
