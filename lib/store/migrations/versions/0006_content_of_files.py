"""Digests of image files, by which a copy keeps its image's id; paths in PostgreSQL are sorted by code points."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("image", sa.Column("size", sa.BigInteger(), nullable=True))
    op.add_column("image", sa.Column("content", sa.String(length=64), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE "file" ALTER COLUMN "path" TYPE VARCHAR(2048) COLLATE "C"')
