"""What every process checks before it begins: the database answers, its schema fits, its partitions are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from app.core import database_faults, migrate, partitions
from app.core.db import adjust_clock
from app.core.errors import StartupError

if TYPE_CHECKING:
    from app.core.runtime import Runtime


async def open_database(runtime: Runtime) -> None:
    """Take the database's time, check the schema, and make the partitions of the coming days.

    Raises:
        StartupError: one sentence that says what is the matter, and the next step.

    """
    try:
        await adjust_clock(runtime.engine, runtime.clock)
        async with runtime.engine.connect() as connection:
            state = await connection.run_sync(migrate.state_of)
        if not state.up_to_date:
            raise StartupError(state.sentence())
        async with runtime.engine.begin() as connection:
            await connection.run_sync(partitions.ensure)
    except SQLAlchemyError as error:
        raise StartupError(database_faults.sentence(error, url=runtime.engine.url)) from error
