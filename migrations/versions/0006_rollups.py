"""Roll-ups of attempts and of the backlog, deliveries that ended undelivered, indexes of rare rows, saved views.

`undelivered` is written by a trigger, so that no statement that ends a delivery or opens it again can forget it. The
trigger's condition keeps it away from deliveries that succeed or are tried again; docs/decisions/0012 has what it costs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _rollups()
    _undelivered()
    op.create_table(
        "saved_views",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("workspace_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
            name=op.f("fk_saved_views_workspace_id_workspaces"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_saved_views_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
    )
    op.create_index(op.f("ix_saved_views_workspace_id"), "saved_views", ["workspace_id"])
    op.create_index(
        "uq_saved_views_user_id_page_name", "saved_views", ["user_id", "page", "name"], unique=True
    )
    # Attempts never change, and most succeed: those that did not are found by their class.
    op.create_index(
        "ix_attempts_failures",
        "attempts",
        ["workspace_id", "error_class", "id"],
        postgresql_where=sa.text("error_class IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_failures", table_name="attempts")
    op.drop_table("saved_views")
    op.execute("DROP TRIGGER deliveries_undelivered ON deliveries")
    op.execute("DROP FUNCTION note_undelivered()")
    for table in ("undelivered", "rollup_progress", "backlog_minutes", "attempt_rollups"):
        op.drop_table(table)


def _rollups() -> None:
    numbers = ("succeeded", "failed", "unknown", "first_known", "first_succeeded")
    op.create_table(
        "attempt_rollups",
        sa.Column("scope_id", sa.UUID(), nullable=False),
        sa.Column("step_minutes", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("workspace_id", sa.UUID(), nullable=False),
        sa.Column("application_id", sa.UUID(), nullable=True),
        sa.Column("endpoint_id", sa.UUID(), nullable=True),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in (*numbers, "delivered", "delivered_late", "dead", "cancelled")
        ),
        sa.Column("buckets", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("failures", postgresql.JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("scope_id", "step_minutes", "at", name=op.f("pk_attempt_rollups")),
    )
    op.create_index(op.f("ix_attempt_rollups_step_minutes_at"), "attempt_rollups", ["step_minutes", "at"])
    for name, rows in (
        ("failing", "endpoint_id IS NOT NULL AND failures IS NOT NULL"),
        ("applications", "endpoint_id IS NULL AND application_id IS NOT NULL"),
    ):
        op.create_index(
            f"ix_attempt_rollups_{name}",
            "attempt_rollups",
            ["workspace_id", "step_minutes", "at"],
            postgresql_where=sa.text(rows),
        )
    op.create_table(
        "backlog_minutes",
        sa.Column("scope_id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("workspace_id", sa.UUID(), nullable=False),
        sa.Column("application_id", sa.UUID(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("due", "scheduled", "blocked", "in_flight")
        ),
        sa.Column("oldest_due_seconds", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("scope_id", "at", name=op.f("pk_backlog_minutes")),
    )
    op.create_index(
        op.f("ix_backlog_minutes_workspace_id_at"),
        "backlog_minutes",
        ["workspace_id", "at"],
        postgresql_where=sa.text("application_id IS NOT NULL"),
    )
    op.create_table(
        "rollup_progress",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rollup_progress")),
    )


def _undelivered() -> None:
    op.create_table(
        "undelivered",
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.UUID(), nullable=False),
        sa.Column("application_id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("last_status", sa.SmallInteger(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("reopened_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", "ended_at", name=op.f("pk_undelivered")),
    )
    op.create_index(op.f("ix_undelivered_ended_at"), "undelivered", ["ended_at"])
    for name, columns in (
        ("list", ["workspace_id", "state", "delivery_id"]),
        ("groups", ["workspace_id", "state", "endpoint_id", "error_class", "ended_at"]),
    ):
        op.create_index(
            f"ix_undelivered_{name}", "undelivered", columns, postgresql_where=sa.text("reopened_at IS NULL")
        )
    op.execute("""
        CREATE FUNCTION note_undelivered() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          UPDATE undelivered SET reopened_at = now() WHERE delivery_id = OLD.id AND reopened_at IS NULL;
          IF NEW.state IN ('dead', 'cancelled') THEN
            INSERT INTO undelivered (delivery_id, ended_at, state, workspace_id, application_id, endpoint_id, event_id,
              event_type, error_class, last_status, attempt_count)
            VALUES (NEW.id, coalesce(NEW.completed_at, now()), NEW.state, NEW.workspace_id, NEW.application_id,
              NEW.endpoint_id, NEW.event_id, NEW.event_type, NEW.last_error_class, NEW.last_status, NEW.attempt_count)
            -- Opened again and ended in one transaction: one moment, and what holds is the last.
            ON CONFLICT (delivery_id, ended_at) DO UPDATE SET state = excluded.state, reopened_at = NULL;
          END IF;
          RETURN NULL;
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER deliveries_undelivered AFTER UPDATE OF state ON deliveries FOR EACH ROW
        WHEN (NOT NEW.test AND NEW.state IS DISTINCT FROM OLD.state
          AND (NEW.state IN ('dead', 'cancelled') OR OLD.state IN ('dead', 'cancelled')))
        EXECUTE FUNCTION note_undelivered()
    """)
    op.execute("""
        INSERT INTO undelivered (delivery_id, ended_at, state, workspace_id, application_id, endpoint_id, event_id,
          event_type, error_class, last_status, attempt_count)
        SELECT id, coalesce(completed_at, created_at), state, workspace_id, application_id, endpoint_id, event_id,
          event_type, last_error_class, last_status, attempt_count
        FROM deliveries WHERE state IN ('dead', 'cancelled') AND NOT test
    """)
