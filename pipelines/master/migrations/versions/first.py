"""The schema that files had before there were migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


Whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make its four tables."""
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("number", Whole, primary_key=True),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("estimates", sa.Text),
    )
    op.create_table(
        "orders",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("attempt", Whole, primary_key=True),
        sa.Column("workers", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ordered_s", Whole),
        sa.Column("start_s", Whole),
        sa.Column("end_s", Whole),
        sa.Column("outcome", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "plans",
        sa.Column("number", Whole, primary_key=True),
        sa.Column("after_event", Whole, nullable=False),
        sa.Column("choice", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_s", Whole, nullable=False),
        sa.Column("cost", sa.Float),
        sa.Column("moved", Whole),
        sa.Column("plan", sa.LargeBinary, nullable=False),
        sa.Column("unplanned", sa.Text, nullable=False),
    )
