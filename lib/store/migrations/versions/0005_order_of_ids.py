"""Image ids in PostgreSQL are sorted by code points, as they are in SQLite."""

from alembic import op

revision = "0005"
down_revision = "0004"

COLUMNS = (("image", "id"), ("file", "image"), ("annotation", "image"), ("score", "image"), ("assignment", "image"))


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in COLUMNS:
        op.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE VARCHAR(1024) COLLATE "C"')
