"""`python -m workers.alive worker|beat`: is the process beside it at work? For health checks of containers.

A process that exists may still do nothing. A worker is alive while its claims finish, which its row of signs of
life tells; beat is alive while the broker takes its wake-ups, which the file named by BELLWIRE_BEAT_FILE tells.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import make_engine
from app.core.errors import BellwireError
from app.core.settings import load_settings

if TYPE_CHECKING:
    from app.core.settings import Settings

# A worker writes its row every 5 s, beat sends a wake-up every second.
SILENT_SECONDS = 30

_FRESH = text(
    "SELECT count(*) FROM worker_heartbeats"
    " WHERE starts_with(name, :host || ':') AND beat_at > now() - make_interval(secs => :seconds)"
)


async def fault_of_worker(settings: Settings, *, host: str) -> str | None:
    """Return what is the matter with the worker processes of a host, or None if one of them claims."""
    engine = make_engine(settings, name="alive", pool_size=1)
    try:
        async with engine.connect() as connection:
            fresh = (await connection.execute(_FRESH, {"host": host, "seconds": SILENT_SECONDS})).scalar_one()
    except (SQLAlchemyError, OSError) as error:
        return f"The database cannot be asked ({type(error).__name__}); the worker's log says more."
    finally:
        await engine.dispose()
    if fresh:
        return None
    return f"No worker process on {host} has finished a claim within {SILENT_SECONDS} s; its log says why."


def fault_of_beat(path: str, *, now: float) -> str | None:
    """Return what is the matter with the beat that touches `path`, or None if it works; `now` is Unix time."""
    if not path:
        return "BELLWIRE_BEAT_FILE is not set, so beat leaves no sign of life. Set it for beat and for this check."
    try:
        age = now - Path(path).stat().st_mtime
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}): beat has sent nothing yet, or writes elsewhere."
    if age <= SILENT_SECONDS:
        return None
    return f"The broker has taken no wake-up from beat for {age:.0f} s; its log says why."


def mark_beat(settings: Settings) -> None:
    """Leave beat's sign of life, if there is a place for it. A full disk does not stop beat."""
    if settings.beat_file:
        try:
            Path(settings.beat_file).touch()
        except OSError:
            return


def main(arguments: list[str]) -> int:
    """Check what the first argument names; print what is the matter and return 1, or return 0."""
    if arguments not in (["worker"], ["beat"]):
        sys.stderr.write("Usage: python -m workers.alive worker|beat\n")
        return 2
    try:
        settings = load_settings(need_database=arguments == ["worker"], need_keys=False)
    except BellwireError as error:
        fault: str | None = str(error)
    else:
        if arguments == ["worker"]:
            fault = asyncio.run(fault_of_worker(settings, host=socket.gethostname()))
        else:
            fault = fault_of_beat(settings.beat_file, now=time.time())
    if fault:
        sys.stderr.write(f"{fault}\n")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
