"""What a process holds while it runs: made at its start, passed down, closed at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.core.clock import DatabaseClock
from app.core.crypto import Keyring
from app.core.db import close_engine, make_engine, make_sessions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from app.core.settings import Settings


@dataclass(slots=True)
class Runtime:
    """Settings, engines, the database's clock and the key ring of one process."""

    settings: Settings
    engine: AsyncEngine
    publish_engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    clock: DatabaseClock
    keyring: Keyring
    _closed: bool = field(default=False, repr=False)

    @classmethod
    def open(cls, settings: Settings, *, name: str) -> Runtime:
        """Make the runtime of an API process; nothing connects before the first use."""
        engine = make_engine(settings, name=name, pool_size=settings.api_pool_size)
        return cls(
            settings=settings,
            engine=engine,
            publish_engine=make_engine(
                settings, name=f"{name}-publish", pool_size=settings.publish_pool_size, few_statements=True
            ),
            sessions=make_sessions(engine),
            clock=DatabaseClock(),
            keyring=Keyring(key.get_secret_value() for key in settings.encryption_keys),
        )

    async def close(self) -> None:
        """Close all connections."""
        if not self._closed:
            self._closed = True
            await close_engine(self.engine)
            await close_engine(self.publish_engine)
