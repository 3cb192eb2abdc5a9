"""The audit log is append-only by the database, too: triggers refuse UPDATE, DELETE and TRUNCATE.

One way is left open, for retention: a transaction that sets `bellwire.audit_upkeep` may delete rows that are older than
30 days. That floor stands here and not in a setting: no configuration, and no statement that was slipped in, can take
away what happened lately. docs/reference/audit.md describes it.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'DELETE' AND current_setting('bellwire.audit_upkeep', true) = 'on' THEN
            IF OLD.created_at < now() - interval '30 days' THEN
              RETURN OLD;
            END IF;
          END IF;
          RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Upkeep deletes what is older than BELLWIRE_AUDIT_RETENTION_DAYS; nothing else may.';
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER audit_log_rows_stay BEFORE UPDATE OR DELETE ON audit_log
        FOR EACH ROW EXECUTE FUNCTION audit_log_append_only()
    """)
    op.execute("""
        CREATE TRIGGER audit_log_table_stays BEFORE TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_append_only()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER audit_log_table_stays ON audit_log")
    op.execute("DROP TRIGGER audit_log_rows_stay ON audit_log")
    op.execute("DROP FUNCTION audit_log_append_only()")
