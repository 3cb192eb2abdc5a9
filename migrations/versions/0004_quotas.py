"""What a workspace may use: null is the default of the settings, 0 no limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = {
    "events_per_second": sa.Double(),
    "payload_bytes_per_second": sa.BigInteger(),
    "max_endpoints": sa.BigInteger(),
}


def upgrade() -> None:
    # Columns without a default: no row is rewritten.
    for name, kind in _COLUMNS.items():
        op.add_column("workspaces", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in reversed(_COLUMNS):
        op.drop_column("workspaces", name)
