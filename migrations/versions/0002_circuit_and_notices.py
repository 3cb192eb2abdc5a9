"""The circuit breaker's state, the endpoint's health over days, and notices for the workspace's operators."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns with constant defaults: no row is rewritten.
    op.add_column(
        "endpoints", sa.Column("fifo_on_dead", sa.Text(), server_default=sa.text("'skip'"), nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_endpoints_fifo_on_dead_known"), "endpoints", "fifo_on_dead IN ('skip', 'block')"
    )
    for column in _runtime_columns():
        op.add_column("endpoint_runtime", column)
    op.create_table(
        "circuit_transitions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("workspace_id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_circuit_transitions")),
    )
    op.create_index(
        op.f("ix_circuit_transitions_endpoint_id_id"), "circuit_transitions", ["endpoint_id", "id"]
    )
    op.create_index(op.f("ix_circuit_transitions_at"), "circuit_transitions", ["at"])
    op.create_table(
        "notices",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("workspace_id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )


def downgrade() -> None:
    op.drop_table("notices")
    op.drop_table("circuit_transitions")
    for column in reversed(_runtime_columns()):
        op.drop_column("endpoint_runtime", column.name)
    op.drop_constraint(op.f("ck_endpoints_fifo_on_dead_known"), "endpoints", type_="check")
    op.drop_column("endpoints", "fifo_on_dead")


def _runtime_columns() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("block_on_dead", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("fifo_blocked_by", sa.UUID(), nullable=True),
        sa.Column("circuit_reason", sa.Text(), nullable=True),
        sa.Column("circuit_openings", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("half_open_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probes_ok", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ramp", sa.Integer(), nullable=True),
        sa.Column("window_minute", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "window_ok",
            postgresql.ARRAY(sa.Integer()),
            server_default=sa.text("'{0,0,0,0,0}'"),
            nullable=False,
        ),
        sa.Column(
            "window_failed",
            postgresql.ARRAY(sa.Integer()),
            server_default=sa.text("'{0,0,0,0,0}'"),
            nullable=False,
        ),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure_warnings", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    )
