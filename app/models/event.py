"""Events: immutable facts, kept as they came in."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import FetchedValue, Index, Integer, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from app.models.base import Base, OfWorkspace


class Xid8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's name in SQL."""
        return "xid8"


# Reflection (`alembic check`) knows the type, too.
ischema_names["xid8"] = Xid8


class Event(OfWorkspace, Base):
    """One published fact. `data` holds the published bytes, untouched.

    `xid` is the transaction that wrote the row: the feed reads only below the oldest transaction that is
    still running, so a slow publisher's events are never passed by.
    """

    __tablename__ = "events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]
    type: Mapped[str]
    uid: Mapped[str | None]
    data: Mapped[bytes | None]
    occurred_at: Mapped[datetime]
    correlation_id: Mapped[str | None]
    custom: Mapped[dict[str, str] | None] = mapped_column("metadata")
    # 0 high, 1 normal: the rank of its first attempts.
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    traceparent: Mapped[str | None]
    deliveries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # A test is outside feed, statistics and health.
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    data_erased_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    xid: Mapped[int] = mapped_column(
        Xid8(), server_default=text("pg_current_xact_id()"), server_onupdate=FetchedValue()
    )

    __table_args__ = (
        Index(None, "workspace_id", "id"),
        Index("ix_events_feed", "application_id", "xid", "id"),
        Index(None, "workspace_id", "correlation_id", postgresql_where=text("correlation_id IS NOT NULL")),
        {"postgresql_partition_by": "RANGE (id)"},
    )


class EventKey(Base):
    """A publisher's own id of an event: unique per application for as long as the event is kept."""

    __tablename__ = "event_keys"

    application_id: Mapped[UUID] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    content_hash: Mapped[bytes]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Fanout(OfWorkspace, Base):
    """An event with so many matching endpoints that a worker writes its deliveries, slice by slice."""

    __tablename__ = "fanouts"

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]
    endpoint_ids: Mapped[list[UUID]] = mapped_column(ARRAY(PgUUID(as_uuid=True)))
    # How many of `endpoint_ids` have their delivery; the row goes when all have.
    position: Mapped[int] = mapped_column(server_default=text("0"))
    rank: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
