"""Applications and the event types that they publish."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, OfWorkspace

DEFAULT_APPLICATION_UID = "default"
OPERATIONS_APPLICATION_UID = "operations"


class Application(OfWorkspace, Base):
    """One consumer of a workspace: the party that receives webhooks.

    `routing_version` changes with every change of its endpoints and subscriptions; the accept statement
    refuses events that were matched against an older one.
    """

    __tablename__ = "applications"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    uid: Mapped[str | None]
    name: Mapped[str]
    custom: Mapped[dict[str, str]] = mapped_column("metadata", server_default=text("'{}'"))
    routing_version: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        # A deleted application frees its uid.
        Index(
            "uq_applications_workspace_id_uid",
            "workspace_id",
            "uid",
            unique=True,
            postgresql_where=text("deleted_at IS NULL AND uid IS NOT NULL"),
        ),
        Index(None, "workspace_id", "id"),
    )


class EventType(OfWorkspace, Base):
    """A name in the catalogue, with an optional JSON Schema and example."""

    __tablename__ = "event_types"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    name: Mapped[str]
    description: Mapped[str | None]
    json_schema: Mapped[dict[str, Any] | None] = mapped_column("schema")
    # Exactly as it was given: an example shows numbers as receivers will see them.
    example: Mapped[bytes | None]
    validation: Mapped[str] = mapped_column(server_default=text("'off'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("uq_event_types_workspace_id_name", "workspace_id", "name", unique=True),
        CheckConstraint("validation IN ('off', 'warn', 'reject')", name="validation_known"),
    )
