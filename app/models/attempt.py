"""Attempts: the delivery log. A row is never changed after it is written."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import REAL, CheckConstraint, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfWorkspace


class Attempt(OfWorkspace, Base):
    """One HTTP request made for a delivery: what was sent, what came back, how long each phase took."""

    __tablename__ = "attempts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    delivery_id: Mapped[UUID]
    number: Mapped[int]
    trigger: Mapped[str]
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    outcome: Mapped[str]
    # The lease had ended when the result came: the delivery's state was left alone.
    stale: Mapped[bool] = mapped_column(server_default=text("false"))
    started_at: Mapped[datetime]

    # Milliseconds; null where a phase was not reached (or, for a kept connection, not needed).
    duration_ms: Mapped[float | None] = mapped_column(REAL)
    queue_ms: Mapped[float | None] = mapped_column(REAL)
    dns_ms: Mapped[float | None] = mapped_column(REAL)
    connect_ms: Mapped[float | None] = mapped_column(REAL)
    tls_ms: Mapped[float | None] = mapped_column(REAL)
    send_ms: Mapped[float | None] = mapped_column(REAL)
    wait_ms: Mapped[float | None] = mapped_column(REAL)
    receive_ms: Mapped[float | None] = mapped_column(REAL)

    # JSON arrays of [name, value], as sent (own values masked) and as received; bytes, since receivers
    # may send what JSONB cannot hold.
    request_url: Mapped[str]
    request_headers: Mapped[bytes | None]
    response_status: Mapped[int | None] = mapped_column(SmallInteger)
    response_headers: Mapped[bytes | None]
    response_body: Mapped[bytes | None]
    response_body_truncated: Mapped[bool] = mapped_column(server_default=text("false"))

    error_class: Mapped[str | None]
    error_message: Mapped[str | None]
    # What happened beside the outcome, e.g. a body that broke off after a 2xx.
    note: Mapped[str | None]

    ip: Mapped[str | None]
    http_version: Mapped[str | None]
    tls_version: Mapped[str | None]
    certificate_expires_at: Mapped[datetime | None]
    connection_reused: Mapped[bool | None]
    worker: Mapped[str | None]
    retry_after_seconds: Mapped[int | None] = mapped_column(Integer)

    __table_args__ = (
        CheckConstraint("outcome IN ('succeeded', 'failed', 'unknown')", name="outcome_known"),
        CheckConstraint("trigger IN ('scheduled', 'manual', 'replay', 'test')", name="trigger_known"),
        Index(None, "delivery_id", "number"),
        Index(None, "workspace_id", "id"),
        Index(None, "endpoint_id", "id"),
        # Most attempts succeed; those that did not are found by their class.
        Index(
            "ix_attempts_failures",
            "workspace_id",
            "error_class",
            "id",
            postgresql_where=text("error_class IS NOT NULL"),
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )
