"""Tables of the first record: task, image, file, annotation, model, job."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "task",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("structures", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_task")),
    )
    op.create_table(
        "image",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=1024), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=True),
        sa.Column("affine", sa.JSON(), nullable=True),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("patient", sa.String(length=256), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("current", sa.Integer(), nullable=True),
        sa.Column("draw", sa.Float(), nullable=False),
        sa.Column("offered", sa.DateTime(timezone=True), nullable=True),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.Column("added", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["task.name"], name=op.f("fk_image_task_task")),
        sa.PrimaryKeyConstraint("task", "id", name=op.f("pk_image")),
    )
    op.create_index("ix_image_next", "image", ["task", "state", "standing", "offered", "draw"], unique=False)
    op.create_index("ix_image_patient", "image", ["task", "patient"], unique=False)
    op.create_index("ix_image_split", "image", ["task", "split", "patient"], unique=False)
    op.create_table(
        "job",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("newest_annotation", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cancel", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("log", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["task"], ["task.name"], name=op.f("fk_job_task_task")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_job")),
        sa.UniqueConstraint("id", name=op.f("uq_job_id")),
    )
    op.create_index("ix_job_kind", "job", ["task", "kind", "state", "number"], unique=False)
    op.create_table(
        "model",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("weights", sa.String(length=64), nullable=False),
        sa.Column("network", sa.JSON(), nullable=False),
        sa.Column("training", sa.JSON(), nullable=False),
        sa.Column("validation", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["task.name"], name=op.f("fk_model_task_task")),
        sa.PrimaryKeyConstraint("task", "version", name=op.f("pk_model")),
    )
    op.create_index(
        "uq_model_serving",
        "model",
        ["task"],
        unique=True,
        sqlite_where=sa.text("state = 'serving'"),
        postgresql_where=sa.text("state = 'serving'"),
    )
    op.create_table(
        "annotation",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("image", sa.String(length=1024), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("author", sa.String(length=256), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("mask", sa.String(length=64), nullable=True),
        sa.Column("looked_at", sa.JSON(), nullable=False),
        sa.Column("voxels", sa.JSON(), nullable=False),
        sa.Column("tag", sa.String(length=256), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("client", sa.String(length=256), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["task", "image"], ["image.task", "image.id"], name=op.f("fk_annotation_task_image_image")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
        sa.UniqueConstraint("task", "image", "version", name=op.f("uq_annotation_task_image_version")),
    )
    op.create_index("ix_annotation_author", "annotation", ["task", "image", "author"], unique=False)
    op.create_index("ix_annotation_stage", "annotation", ["task", "stage", "id"], unique=False)
    op.create_table(
        "file",
        sa.Column("task", sa.String(length=64), nullable=False),
        sa.Column("root", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=2048), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("image", sa.String(length=1024), nullable=False),
        sa.ForeignKeyConstraint(["task", "image"], ["image.task", "image.id"], name=op.f("fk_file_task_image_image")),
        sa.PrimaryKeyConstraint("task", "root", "path", name=op.f("pk_file")),
    )
    op.create_index("ix_file_image", "file", ["task", "image"], unique=False)
