"""Deliveries: the record, and the live queue apart from it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, Sequence, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfWorkspace

# The order in which deliveries of one endpoint go out, within a rank.
queue_sequence = Sequence("delivery_queue_seq", metadata=Base.metadata, cache=1)
# Fences: each lease has its own token, so a late result of an earlier lease changes nothing.
lease_sequence = Sequence("delivery_lease_seq", metadata=Base.metadata, cache=1)


class Delivery(OfWorkspace, Base):
    """One event on its way to one endpoint. Its moves are the table in `app/deliveries/state.py`.

    `sending` is not stored here: it is the queue row's lease. No index names a column that changes, so an
    update stays on its page and touches no index.
    """

    __tablename__ = "deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    endpoint_id: Mapped[UUID]
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    attempt_count: Mapped[int] = mapped_column(server_default=text("0"))
    last_status: Mapped[int | None] = mapped_column(SmallInteger)
    last_error_class: Mapped[str | None]
    last_error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("state IN ('pending', 'succeeded', 'dead', 'cancelled')", name="state_known"),
        Index(None, "workspace_id", "id"),
        Index(None, "endpoint_id", "id"),
        Index(None, "event_id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )


class QueuedDelivery(OfWorkspace, Base):
    """Live work: waiting, leased or scheduled. The row goes when the delivery is final.

    States: 0 ready, 1 leased, 2 scheduled for `due_at`. The ranks are in `app/deliveries/ranks.py`.
    """

    __tablename__ = "delivery_queue"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID]
    seq: Mapped[int] = mapped_column(BigInteger, server_default=queue_sequence.next_value())
    state: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    rank: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    # 0 scheduled, 1 manual, 2 replay, 3 test: why the next attempt is made.
    trigger: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline_at: Mapped[datetime]
    # Attempt rows written, and the place in the retry schedule (failures only).
    attempt_count: Mapped[int] = mapped_column(server_default=text("0"))
    schedule_step: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Tries in a row that the egress policy refused.
    blocked_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Leases lost, and those lost while it was sent alone in its process.
    lost_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    lost_alone_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    lease_until: Mapped[datetime | None]
    lease_token: Mapped[int | None] = mapped_column(BigInteger)
    leased_at: Mapped[datetime | None]
    leased_by: Mapped[str | None]
    alone: Mapped[bool] = mapped_column(server_default=text("false"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        CheckConstraint("state IN (0, 1, 2)", name="state_known"),
        CheckConstraint("(state = 1) = (lease_token IS NOT NULL)", name="leased_rows_have_a_token"),
        # The claim walks workspaces, applications, endpoints, and then a lane's rows in order.
        Index(
            "ix_delivery_queue_lane",
            "workspace_id",
            "application_id",
            "endpoint_id",
            "rank",
            "seq",
            postgresql_where=text("state = 0"),
        ),
        Index("ix_delivery_queue_scheduled", "due_at", postgresql_where=text("state = 2")),
        Index("ix_delivery_queue_leased", "lease_until", postgresql_where=text("state = 1")),
        Index("ix_delivery_queue_deadline", "deadline_at"),
        Index("ix_delivery_queue_endpoint", "endpoint_id"),
        # Rows live for seconds: vacuum and analyze by count, not by share of the table.
        {
            "postgresql_with": {
                "fillfactor": 70,
                "autovacuum_vacuum_scale_factor": 0.0,
                "autovacuum_vacuum_threshold": 5000,
                "autovacuum_analyze_scale_factor": 0.0,
                "autovacuum_analyze_threshold": 5000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )
