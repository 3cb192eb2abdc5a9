"""What Bellwire notes about itself: transitions of circuits, and notices on their way to a workspace's operators."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfWorkspace


class CircuitTransition(OfWorkspace, Base):
    """One change of an endpoint's circuit: when, from what to what, and why. `actor` is None for Bellwire's own.

    Without a foreign key: its check would lock the endpoint's row after its runtime row, against the order of locks,
    and claims write here.
    """

    __tablename__ = "circuit_transitions"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    workspace_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    from_state: Mapped[str]
    to_state: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str | None]

    __table_args__ = (Index(None, "endpoint_id", "id"),)


class Notice(OfWorkspace, Base):
    """Something to be published to the workspace's application `operations`; the row goes when it has been.

    Written in the transaction of what it tells, so that neither can be without the other.
    """

    __tablename__ = "notices"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    workspace_id: Mapped[UUID]
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
