"""What every process checks before it begins: the database answers, its schema fits, its partitions are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from app.core import migrate, partitions
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
        raise StartupError(_sentence(error, runtime)) from error


def _sentence(error: SQLAlchemyError, runtime: Runtime) -> str:
    url = runtime.engine.url
    place = f"{url.host or 'localhost'}:{url.port or 5432}"
    reason = str(getattr(error, "orig", None) or error).strip()
    if "password authentication failed" in reason or "no password supplied" in reason:
        return (
            f"Postgres at {place} refused the user {url.username!r} or its password. "
            "Correct BELLWIRE_DATABASE_URL and start again."
        )
    if "does not exist" in reason and "database" in reason:
        return (
            f"Postgres at {place} has no database {url.database!r}. "
            f"Create it (createdb {url.database}), run `bellwire migrate`, and start again."
        )
    if "does not exist" in reason and "role" in reason:
        return (
            f"Postgres at {place} has no user {url.username!r}. Create it or correct BELLWIRE_DATABASE_URL, "
            "and start again."
        )
    lines = reason.splitlines()
    return (
        f"The database at {place} cannot be used ({lines[0] if lines else type(error).__name__}). "
        "Check that Postgres runs and that BELLWIRE_DATABASE_URL is right, and start again."
    )
