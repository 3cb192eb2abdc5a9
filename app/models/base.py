"""What all tables share: naming of constraints, the types of columns, and the metadata."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import DateTime, LargeBinary, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the models. Times are `timestamptz` in UTC; ids are UUIDv7 made by the process."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        bytes: LargeBinary(),
        UUID: PgUUID(as_uuid=True),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        dict[str, str]: JSONB(),
    }


class OfWorkspace:
    """Mixed into every table whose rows belong to one workspace: sessions that are confined to it see no others."""

    workspace_id: Mapped[UUID] = mapped_column()


class OfEndpoint:
    """Mixed into tables whose rows belong to an endpoint and, by it, to its workspace."""

    endpoint_id: Mapped[UUID] = mapped_column()
