"""What a workspace may use: null is the default of the settings, 0 no limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns without a default: no row is rewritten.
    op.add_column("workspaces", sa.Column("events_per_second", sa.Double(), nullable=True))
    op.add_column("workspaces", sa.Column("payload_bytes_per_second", sa.BigInteger(), nullable=True))
    op.add_column("workspaces", sa.Column("max_endpoints", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("workspaces", "max_endpoints")
    op.drop_column("workspaces", "payload_bytes_per_second")
    op.drop_column("workspaces", "events_per_second")
