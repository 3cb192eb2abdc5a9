"""An index of the audit log by object: what was done to one endpoint is found without reading what was done to others."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_audit_log_workspace_id_object_id_id"), "audit_log", ["workspace_id", "object_id", "id"]
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_audit_log_workspace_id_object_id_id"), table_name="audit_log")
