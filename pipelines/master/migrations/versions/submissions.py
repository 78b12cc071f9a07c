"""What users ask of a master that stays, and the tasks that they submit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables; let masters before this step refuse the file."""
    op.create_table(
        "asks",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at_s", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, unique=True),
        sa.Column("digest", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("taken", sa.Integer, nullable=False, index=True),
    )
    op.create_table(
        "tasks",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("ask", sa.Integer, nullable=False, index=True),
        sa.Column("task", sa.LargeBinary, nullable=False),
        sa.Column("row", sa.Text),
        sa.Column("estimates", sa.Text),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("waits_for", sa.Text, index=True),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("submitted_s", sa.Integer, nullable=False),
        sa.Column("promised_s", sa.Integer),
        sa.Column("planned", sa.Text),
        sa.Column("start_s", sa.Integer),
        sa.Column("end_s", sa.Integer, index=True),
        sa.Column("outcome", sa.Text),
        sa.Column("reason", sa.Text),
    )
    op.execute("UPDATE facts SET value = CAST('3' AS BLOB) WHERE name = 'version'")
