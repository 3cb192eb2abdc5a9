"""Workers' signs of life."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Double, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class WorkerHeartbeat(Base):
    """One worker process: alive means that its last claim finished lately, not that its process exists."""

    __tablename__ = "worker_heartbeats"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    in_flight: Mapped[int]
    skew_seconds: Mapped[float] = mapped_column(Double)
