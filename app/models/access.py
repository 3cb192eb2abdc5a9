"""Who may do what, and what they did: workspaces, API keys, idempotency keys, the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfWorkspace
from app.models.sealed import SEALED_AS, Binding, RowKey


class Workspace(Base):
    """One customer of the service; the unit of isolation."""

    __tablename__ = "workspaces"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Quotas; null is the settings' default, 0 no limit.
    events_per_second: Mapped[float | None] = mapped_column(Double)
    payload_bytes_per_second: Mapped[int | None] = mapped_column(BigInteger)
    max_endpoints: Mapped[int | None] = mapped_column(BigInteger)


class ApiKey(OfWorkspace, Base):
    """A bearer of rights in one workspace; only the key's digest is stored."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), index=True)
    application_id: Mapped[UUID | None] = mapped_column(ForeignKey("applications.id"))
    name: Mapped[str]
    role: Mapped[str]
    key_id: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("role IN ('admin', 'operator', 'publisher', 'viewer')", name="role_known"),
    )


def idempotency_row(key: RowKey) -> UUID:
    """Return the identity to which the sealed answer of an idempotency key is bound: it has no id of its own."""
    return uuid5(key["workspace_id"], key["key"])


IDEMPOTENT_ANSWER = Binding(column="idempotency_keys.sealed_body", row=idempotency_row, lasting=False)


class IdempotencyKey(OfWorkspace, Base):
    """The answer to a POST that carried an `Idempotency-Key`, kept 24 hours, written in its transaction."""

    __tablename__ = "idempotency_keys"

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    # Sealed: an answer may hold a secret that is shown once.
    sealed_body: Mapped[bytes | None] = mapped_column(info={SEALED_AS: IDEMPOTENT_ANSWER})
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class AuditEntry(OfWorkspace, Base):
    """One change, reveal or repair, by whom, on what, from where. Rows are never changed."""

    __tablename__ = "audit_log"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    actor_kind: Mapped[str]
    actor_id: Mapped[str]
    action: Mapped[str]
    object_kind: Mapped[str]
    object_id: Mapped[str]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index(None, "workspace_id", "id"),
        # The pages of an endpoint and of an application lead to what was done to it.
        Index(None, "workspace_id", "object_id", "id"),
    )
