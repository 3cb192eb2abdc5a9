"""A worker process's sign of life: one row, refreshed while its claims finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app import __version__

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

BEAT = text(
    "INSERT INTO worker_heartbeats (id, name, version, in_flight, skew_seconds)"
    " VALUES (:id, :name, :version, :in_flight, :skew)"
    " ON CONFLICT (id) DO UPDATE SET beat_at = now(), in_flight = excluded.in_flight,"
    " skew_seconds = excluded.skew_seconds"
)


async def beat(
    engine: AsyncEngine, *, heart_id: UUID, name: str, in_flight: int, skew_seconds: float
) -> None:
    """Write or refresh the row of this process."""
    async with engine.begin() as connection:
        await connection.execute(
            BEAT,
            {
                "id": heart_id,
                "name": name,
                "version": __version__,
                "in_flight": in_flight,
                "skew": skew_seconds,
            },
        )
