"""Endpoints: their settings, secrets and subscriptions, and what changes with every delivery."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfEndpoint, OfWorkspace


class Endpoint(OfWorkspace, Base):
    """Where and how to deliver. Settings only: what changes with each delivery is in `endpoint_runtime`."""

    __tablename__ = "endpoints"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    application_id: Mapped[UUID] = mapped_column(ForeignKey("applications.id", ondelete="CASCADE"))
    url: Mapped[str]
    description: Mapped[str | None]
    # JSON object of the endpoint's own headers, sealed: their values are often credentials.
    sealed_headers: Mapped[bytes | None]
    rate_per_second: Mapped[float | None] = mapped_column(Double)
    rate_burst: Mapped[int | None]
    max_in_flight: Mapped[int] = mapped_column(server_default=text("10"))
    timeout_seconds: Mapped[int] = mapped_column(SmallInteger, server_default=text("15"))
    retry_schedule: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    ordering: Mapped[str] = mapped_column(server_default=text("'none'"))
    # What becomes of a FIFO line whose head is dead: it goes on, or waits for a person.
    fifo_on_dead: Mapped[str] = mapped_column(server_default=text("'skip'"))
    format: Mapped[str] = mapped_column(server_default=text("'standard'"))
    signature: Mapped[str] = mapped_column(server_default=text("'hmac-sha256'"))
    max_age_seconds: Mapped[int | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    custom: Mapped[dict[str, str]] = mapped_column("metadata", server_default=text("'{}'"))
    # Rises with every change that a worker must see; workers cache settings by (id, settings_version).
    settings_version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("ordering IN ('none', 'fifo')", name="ordering_known"),
        CheckConstraint("fifo_on_dead IN ('skip', 'block')", name="fifo_on_dead_known"),
        CheckConstraint("format IN ('standard', 'cloudevents')", name="format_known"),
        CheckConstraint("signature IN ('hmac-sha256', 'ed25519')", name="signature_known"),
        Index(None, "workspace_id", "id"),
        Index(None, "application_id", "id"),
    )


class EndpointSecret(OfEndpoint, Base):
    """A signing secret. The current one has no `expires_at`; a retired one signs until its grace ends.

    Retired secrets are kept until the attempts that they signed are gone, so that an old attempt can
    still be shown to verify.
    """

    __tablename__ = "endpoint_secrets"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), index=True)
    sealed_secret: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_endpoint_secrets_current",
            "endpoint_id",
            unique=True,
            postgresql_where=text("expires_at IS NULL"),
        ),
    )


class Subscription(OfWorkspace, Base):
    """Which events go to an endpoint: event-type patterns and an optional content filter (CEL)."""

    __tablename__ = "subscriptions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    application_id: Mapped[UUID] = mapped_column(ForeignKey("applications.id", ondelete="CASCADE"))
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), index=True)
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    filter: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index(None, "application_id"),)


class EndpointRuntime(OfWorkspace, Base):
    """What claims and records read and write for an endpoint: one narrow, often updated row.

    The settings that a claim needs are copied here, in the transaction that changes them, so that a claim
    touches no other table.
    """

    __tablename__ = "endpoint_runtime"

    endpoint_id: Mapped[UUID] = mapped_column(
        ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True
    )
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]

    # Copied settings
    settings_version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    # False while disabled, paused or deleted: nothing of it is claimed (tests excepted).
    open: Mapped[bool] = mapped_column(server_default=text("true"))
    fifo: Mapped[bool] = mapped_column(server_default=text("false"))
    block_on_dead: Mapped[bool] = mapped_column(server_default=text("false"))
    max_in_flight: Mapped[int] = mapped_column(server_default=text("10"))
    timeout_seconds: Mapped[int] = mapped_column(SmallInteger, server_default=text("15"))
    rate_per_second: Mapped[float | None] = mapped_column(Double)
    rate_burst: Mapped[int | None]

    # State
    in_flight: Mapped[int] = mapped_column(server_default=text("0"))
    tokens: Mapped[float | None] = mapped_column(Double)
    tokens_at: Mapped[datetime | None]
    # `Retry-After` of the receiver, or the wait of a FIFO head: nothing is claimed before.
    held_until: Mapped[datetime | None]
    held_reason: Mapped[str | None]
    # The dead delivery that a FIFO line waits for (`block_on_dead`): nothing else goes until it is settled otherwise,
    # or a person lets the line go on.
    fifo_blocked_by: Mapped[UUID | None]
    consecutive_failures: Mapped[int] = mapped_column(server_default=text("0"))
    last_success_at: Mapped[datetime | None]
    last_failure_at: Mapped[datetime | None]
    # The first failure since the last success, and how many warnings it has brought.
    failing_since: Mapped[datetime | None]
    failure_warnings: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Successes and failures of the last five minutes: slot `minute % 5`, the newest at `window_minute` (since 1970).
    window_minute: Mapped[int] = mapped_column(server_default=text("0"))
    window_ok: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default=text("'{0,0,0,0,0}'"))
    window_failed: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default=text("'{0,0,0,0,0}'"))

    # The circuit; open without `next_probe_at`: a person holds it open.
    circuit_state: Mapped[str] = mapped_column(server_default=text("'closed'"))
    circuit_reason: Mapped[str | None]
    circuit_opened_at: Mapped[datetime | None]
    # Openings since it was last closed: each one waits twice as long as the one before.
    circuit_openings: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    next_probe_at: Mapped[datetime | None]
    # Set while half open. What was leased before belongs to the time before the probes.
    half_open_at: Mapped[datetime | None]
    # Probes that succeeded; -1: one has failed.
    probes_ok: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Concurrency allowed after the circuit has closed, rising with each success; null: all of `max_in_flight`.
    ramp: Mapped[int | None]
    filter_errors: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_filter_error: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("in_flight >= 0", name="in_flight_not_negative"),
        CheckConstraint("circuit_state IN ('closed', 'open', 'half_open')", name="circuit_state_known"),
        # Half of each page stays free, so that updates stay on their page and need no index work;
        # vacuum comes by rows changed, not by share of the table.
        {
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_scale_factor": 0.0,
                "autovacuum_vacuum_threshold": 500,
            }
        },
    )
