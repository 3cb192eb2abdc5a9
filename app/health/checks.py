"""Whether this process can do its work: the database, its schema, the broker, the workers, the encryption keys."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import redis.asyncio
import structlog
from kombu import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import text

from app.access import encryption
from app.core import migrate
from app.core.db import is_away

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.runtime import Runtime

# A worker writes a sign of life every few seconds; one that is silent for this long is taken for dead.
WORKER_SILENT_SECONDS = 30
BROKER_DEADLINE_SECONDS = 1.0
# Probes come from several places at once; the broker is asked at most so often.
BROKER_REMEMBERED_SECONDS = 2.0
# Which keys the stored secrets need changes by the hand of a person; the tables are looked through at most so often.
SECRETS_REMEMBERED_SECONDS = 60.0
SECRETS_TIMEOUT_SECONDS = 2

_SCHEMA = text("SELECT version_num FROM alembic_version")
_WORKERS = text("""
SELECT count(*) FROM worker_heartbeats WHERE beat_at > now() - make_interval(secs => :seconds)
""")

_log = structlog.get_logger(__name__)


class State(StrEnum):
    """How something is."""

    OK = "ok"
    # Something is slower or later than it should be; requests are answered.
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding, with a sentence for a person."""

    state: State
    detail: str


class HealthChecks:
    """Looks at what this process depends on; never raises."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._wanted: str | None = None
        self._broker: Check | None = None
        self._broker_at = 0.0
        self._asking = asyncio.Lock()
        self._asked: set[asyncio.Task[Check]] = set()
        self._secrets: Check | None = None
        self._secrets_at = 0.0
        self._looking = asyncio.Lock()

    async def run(self) -> dict[str, Check]:
        """Return all findings by name: `database`, `migrations`, `broker`, `workers`, `secrets`."""
        broker = asyncio.create_task(self._check_broker())
        try:
            async with self._runtime.engine.connect() as connection:
                checks = await self._check_inside(connection)
            checks["secrets"] = await self._check_secrets()
        except Exception as error:  # noqa: BLE001 - a probe is answered whatever happens
            _log.warning("health.database_failed", error=type(error).__name__)
            reason = (
                "Postgres cannot be reached." if is_away(error) else "Postgres answers, but with an error."
            )
            unknown = Check(State.FAILED, "Unknown, because the database does not answer.")
            checks = {
                "database": Check(State.FAILED, reason + " Publishing answers 503 until it is back."),
                "migrations": unknown,
                "workers": unknown,
                "secrets": unknown,
            }
        found = await broker
        return {
            "database": checks["database"],
            "migrations": checks["migrations"],
            "broker": found,
            "workers": checks["workers"],
            "secrets": checks["secrets"],
        }

    async def look_at_broker(self, *, patience: float) -> Check | None:
        """Return the finding about the broker; the last one, or None, if it takes longer than `patience` seconds."""
        asked = asyncio.create_task(self._check_broker())
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        await asyncio.wait({asked}, timeout=patience)
        return asked.result() if asked.done() else self._broker

    async def _check_inside(self, connection: AsyncConnection) -> dict[str, Check]:
        current = (await connection.execute(_SCHEMA)).scalar_one_or_none()
        alive = (await connection.execute(_WORKERS, {"seconds": WORKER_SILENT_SECONDS})).scalar_one()
        if self._wanted is None:
            # Reads the migrations' files: once per process.
            self._wanted = (await connection.run_sync(migrate.state_of)).wanted
        schema = migrate.SchemaState(current=current, wanted=self._wanted)
        if alive:
            workers = Check(State.OK, f"{alive} worker process{'es' if alive > 1 else ''} alive.")
        else:
            workers = Check(
                State.DEGRADED,
                f"No worker has given a sign of life for {WORKER_SILENT_SECONDS} s: events are accepted and wait. "
                "Start one with `bellwire worker`.",
            )
        return {
            "database": Check(State.OK, "Postgres answers."),
            "migrations": Check(State.OK if schema.up_to_date else State.FAILED, schema.sentence()),
            "workers": workers,
        }

    async def _check_secrets(self) -> Check:
        async with self._looking:
            now = time.monotonic()
            if self._secrets is None or now - self._secrets_at > SECRETS_REMEMBERED_SECONDS:
                self._secrets = await self._look_at_secrets()
                self._secrets_at = time.monotonic()
            return self._secrets

    async def _look_at_secrets(self) -> Check:
        lasting = [column for column in encryption.all_columns() if column.binding.lasting]
        keyring = self._runtime.keyring
        try:
            async with self._runtime.engine.begin() as connection:
                await connection.execute(text(f"SET LOCAL statement_timeout = '{SECRETS_TIMEOUT_SECONDS}s'"))
                uses = await connection.run_sync(
                    lambda sync: encryption.uses_of_keys(sync, keyring, columns=lasting)
                )
        except Exception as error:  # noqa: BLE001 - a probe is answered whatever happens
            _log.warning("health.secrets_not_looked_at", error=type(error).__name__)
            return Check(
                State.DEGRADED, "It could not be seen in time whether every stored secret can be opened."
            )
        missing = sum(use.values for use in uses if use.place is None)
        if missing:
            return Check(
                State.DEGRADED,
                f"{missing:,} stored secrets need a key that is not in BELLWIRE_ENCRYPTION_KEYS: nothing can be sent "
                "to their endpoints. Add that key after the newest one and start API and workers again.",
            )
        return Check(State.OK, "Every stored secret can be opened.")

    async def _check_broker(self) -> Check:
        async with self._asking:
            now = time.monotonic()
            if self._broker is None or now - self._broker_at > BROKER_REMEMBERED_SECONDS:
                self._broker = await self._ask_broker()
                self._broker_at = time.monotonic()
            return self._broker

    async def _ask_broker(self) -> Check:
        url = self._runtime.settings.broker_url.get_secret_value()
        if not url:
            return Check(
                State.DEGRADED,
                "BELLWIRE_BROKER_URL is not set: workers look for work every 2 s instead of being woken.",
            )
        try:
            # Each way has deadlines of its own; this one is for a name server that hangs.
            async with asyncio.timeout(3 * BROKER_DEADLINE_SECONDS):
                if url.startswith("redis"):
                    await _ping_redis(url)
                else:
                    await asyncio.to_thread(_connect_amqp, url)
        except Exception as error:  # noqa: BLE001 - both let through whatever their sockets raise
            _log.warning("health.broker_failed", error=type(error).__name__)
            return Check(
                State.DEGRADED,
                "The broker cannot be reached: deliveries go on, up to 2 s later than usual. Nothing is lost.",
            )
        return Check(State.OK, "The broker answers.")


async def _ping_redis(url: str) -> None:
    client = redis.asyncio.from_url(
        url,
        socket_connect_timeout=BROKER_DEADLINE_SECONDS,
        socket_timeout=BROKER_DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
        await client.ping()


def _connect_amqp(url: str) -> None:
    deadline = BROKER_DEADLINE_SECONDS
    options = {"read_timeout": deadline, "write_timeout": deadline}
    with Connection(url, connect_timeout=deadline, transport_options=options) as connection:
        connection.connect()
