"""What users ask of a master that stays, and the tasks that they submit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


Whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables; let masters before this step refuse the file."""
    op.create_table(
        "asks",
        sa.Column("number", Whole, primary_key=True),
        sa.Column("at_s", Whole, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, unique=True),
        sa.Column("digest", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("taken", Whole, nullable=False, index=True),
    )
    op.create_table(
        "tasks",
        sa.Column("number", Whole, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("ask", Whole, nullable=False, index=True),
        sa.Column("task", sa.LargeBinary, nullable=False),
        sa.Column("row", sa.Text),
        sa.Column("estimates", sa.Text),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("waits_for", sa.Text, index=True),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("submitted_s", Whole, nullable=False),
        sa.Column("promised_s", Whole),
        sa.Column("planned", sa.Text),
        sa.Column("start_s", Whole),
        sa.Column("end_s", Whole, index=True),
        sa.Column("outcome", sa.Text),
        sa.Column("reason", sa.Text),
    )
    facts = sa.table("facts", sa.column("name", sa.Text), sa.column("value", sa.LargeBinary))
    op.execute(facts.update().where(facts.c.name == "version").values(value=b"3"))
