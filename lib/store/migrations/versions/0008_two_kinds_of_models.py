"""Models are of two kinds, those that segment and those that refine; annotations say which refiner made them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("annotation", sa.Column("refiner_version", sa.Integer(), nullable=True))
    op.drop_index("uq_model_serving", "model")
    with op.batch_alter_table("model") as model:
        # So far there were segmenters only.
        model.add_column(sa.Column("kind", sa.String(length=16), nullable=False, server_default="segmenter"))
    with op.batch_alter_table("model") as model:
        model.alter_column("kind", server_default=None)
        model.drop_constraint(op.f("pk_model"), type_="primary")
        model.create_primary_key(op.f("pk_model"), ["task", "kind", "version"])
    serving = sa.text("state = 'serving'")
    op.create_index(
        "uq_model_serving", "model", ["task", "kind"], unique=True, sqlite_where=serving, postgresql_where=serving
    )
