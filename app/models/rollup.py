"""Roll-ups: what the dashboard draws, counted once by upkeep and not at each view. docs/reference/rollups.md says what is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Double, ForeignKey, Index, Integer, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfWorkspace


class AttemptRollup(OfWorkspace, Base):
    """What became of attempts and deliveries in one step of time, in one scope; a step without any has no row.

    `scope_id` is the workspace's id for all of it, the application's or the endpoint's id for a part; the columns of
    narrower scopes are null. An attempt belongs to the minute in which it ended: its id carries that time. Longer steps
    are sums of shorter ones.
    """

    __tablename__ = "attempt_rollups"

    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    # Minutes, 1 to 1,440: see app/stats/spans.py.
    step_minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID | None]
    endpoint_id: Mapped[UUID | None]

    # Attempts by outcome, and first attempts whose outcome is known.
    succeeded: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    unknown: Mapped[int] = mapped_column(BigInteger)
    first_known: Mapped[int] = mapped_column(BigInteger)
    first_succeeded: Mapped[int] = mapped_column(BigInteger)
    # Deliveries by how they ended; `delivered_late` of the delivered ones needed more than one attempt.
    delivered: Mapped[int] = mapped_column(BigInteger)
    delivered_late: Mapped[int] = mapped_column(BigInteger)
    dead: Mapped[int] = mapped_column(BigInteger)
    cancelled: Mapped[int] = mapped_column(BigInteger)
    # The latencies: numbers of the buckets (app/stats/latency.py) that are not empty, and how many are in each.
    buckets: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    counts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    # By error class: [how many, start of the first, start of the last (Unix seconds)]; null without any.
    failures: Mapped[dict[str, Any] | None]

    __table_args__ = (
        # Keeping the longer steps, and forgetting, go by time.
        Index(None, "step_minutes", "at"),
        # Endpoints that fail, and applications by volume.
        Index(
            "ix_attempt_rollups_failing",
            "workspace_id",
            "step_minutes",
            "at",
            postgresql_where=text("endpoint_id IS NOT NULL AND failures IS NOT NULL"),
        ),
        Index(
            "ix_attempt_rollups_applications",
            "workspace_id",
            "step_minutes",
            "at",
            postgresql_where=text("endpoint_id IS NULL AND application_id IS NOT NULL"),
        ),
    )


class BacklogMinute(OfWorkspace, Base):
    """What waited at one moment, sampled by upkeep; a minute in which nothing waited has no row.

    `scope_id` is the workspace's id or the application's.
    """

    __tablename__ = "backlog_minutes"

    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID | None]
    due: Mapped[int] = mapped_column(Integer)
    scheduled: Mapped[int] = mapped_column(Integer)
    blocked: Mapped[int] = mapped_column(Integer)
    in_flight: Mapped[int] = mapped_column(Integer)
    oldest_due_seconds: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (
        # None by time alone: all scopes of a minute lie side by side, so it would be preferred to reading one scope.
        Index(None, "workspace_id", "at", postgresql_where=text("application_id IS NOT NULL")),
    )


class RollupProgress(Base):
    """How far the roll-ups are: before `at` everything is counted (`fresh`), or counted for good (`settled`)."""

    __tablename__ = "rollup_progress"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Undelivered(OfWorkspace, Base):
    """A delivery that ended as dead or cancelled; tests are not noted. Rows are written by a trigger on `deliveries`.

    The deliveries themselves have no index that names their state: it would touch every index at every change, on the
    hottest path there is (docs/decisions/0012). `reopened_at` is set when it is asked for again.
    """

    __tablename__ = "undelivered"

    delivery_id: Mapped[UUID] = mapped_column(primary_key=True)
    ended_at: Mapped[datetime] = mapped_column(primary_key=True)
    state: Mapped[str]
    workspace_id: Mapped[UUID]
    application_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    # Null for a delivery that was cancelled before its first attempt.
    error_class: Mapped[str | None]
    last_status: Mapped[int | None] = mapped_column(SmallInteger)
    attempt_count: Mapped[int]
    reopened_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "ended_at"),
        # Those that still are: the list, newest first, and the groups by endpoint and class.
        Index(
            "ix_undelivered_list",
            "workspace_id",
            "state",
            "delivery_id",
            postgresql_where=text("reopened_at IS NULL"),
        ),
        Index(
            "ix_undelivered_groups",
            "workspace_id",
            "state",
            "endpoint_id",
            "error_class",
            "ended_at",
            postgresql_where=text("reopened_at IS NULL"),
        ),
    )


class SavedView(OfWorkspace, Base):
    """A search that a person keeps: `page` and the `query` part of its address."""

    __tablename__ = "saved_views"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    page: Mapped[str]
    name: Mapped[str]
    query: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("uq_saved_views_user_id_page_name", "user_id", "page", "name", unique=True),)
