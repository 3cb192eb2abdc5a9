"""Makes what the engine works on, straight in the database, and looks at what it leaves there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.core import ids
from app.core.clock import DatabaseClock
from app.core.crypto import Keyring
from app.core.db import make_engine
from app.deliveries.claim import claim
from app.deliveries.record import TRIGGERS, Finished, Recorded, Settle, record
from app.events.accept import Submission, Verdict, accept
from app.events.envelope import CheckedEvent, read_event
from app.events.routing import Route
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.settings import Settings
    from app.deliveries.claim import Claimed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://receiver.example.com/hooks"
ENCRYPTION_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
MARGIN_SECONDS = 10.0
WORKER = "test:1"
DAY_SECONDS = 86_400


@dataclass
class Workshop:
    """One workspace with the `default` application; `engine` commits each statement, as the hot path does."""

    settings: Settings
    transactional: AsyncEngine
    engine: AsyncEngine
    clock: DatabaseClock
    keyring: Keyring
    workspace_id: UUID = field(default_factory=lambda: ids.uuid7(1))
    application_id: UUID = field(default_factory=lambda: ids.uuid7(2))

    @property
    def url(self) -> str:
        """The database's address."""
        return self.transactional.url.render_as_string(hide_password=False)

    async def sql(self, statement: str, **values: Any) -> list[Row[Any]]:
        """Run one statement and return its rows."""
        async with self.engine.connect() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    async def value(self, statement: str, **values: Any) -> Any:
        """Return the first value of the only row."""
        (row,) = await self.sql(statement, **values)
        return row[0]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection with an open transaction; it is committed in the end."""
        async with self.transactional.begin() as connection:
            yield connection

    async def furnish(self) -> None:
        """Make the workspace and its application, on an empty database."""
        await self.sql("INSERT INTO workspaces (id, name) VALUES (:id, 'Acme')", id=self.workspace_id)
        await self.sql(
            "INSERT INTO applications (id, workspace_id, uid, name) VALUES (:id, :workspace, 'default', 'Default')",
            id=self.application_id,
            workspace=self.workspace_id,
        )

    async def workspace(self) -> UUID:
        """Make another workspace."""
        made = ids.uuid7(self.clock.unix_ms())
        await self.sql("INSERT INTO workspaces (id, name) VALUES (:id, 'Other')", id=made)
        return made

    async def application(self, *, workspace_id: UUID | None = None, uid: str | None = None) -> UUID:
        """Make an application."""
        made = ids.uuid7(self.clock.unix_ms())
        await self.sql(
            "INSERT INTO applications (id, workspace_id, uid, name) VALUES (:id, :workspace, :uid, 'Shop')",
            id=made,
            workspace=workspace_id or self.workspace_id,
            uid=uid,
        )
        return made

    async def api_key(self, **columns: Any) -> UUID:
        """Make an API key that may publish."""
        made = ids.uuid7(self.clock.unix_ms())
        values = {"id": made, "workspace_id": self.workspace_id, "name": "Key", "role": "publisher"}
        await self._insert("api_keys", values | {"key_id": str(made), "digest": b"0" * 32} | columns)
        return made

    async def endpoint(
        self,
        *,
        application_id: UUID | None = None,
        workspace_id: UUID | None = None,
        fifo: bool = False,
        event_types: Iterable[str] | None = ("*",),
        content_filter: str | None = None,
        secret: str | None = SECRET,
        runtime: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> UUID:
        """Make an endpoint with a secret, a subscription and its runtime row (`runtime`: columns of that row)."""
        made = ids.uuid7(self.clock.unix_ms())
        whose = {
            "workspace_id": workspace_id or self.workspace_id,
            "application_id": application_id or self.application_id,
        }
        common = {
            name: settings[name]
            for name in ("max_in_flight", "timeout_seconds", "rate_per_second", "rate_burst")
            if name in settings
        }
        ordering = {"ordering": "fifo" if fifo else "none"}
        await self._insert("endpoints", {"id": made, "url": URL} | whose | ordering | settings)
        open_ = settings.get("enabled", True) and not settings.get("paused", False)
        await self._insert(
            "endpoint_runtime",
            {"endpoint_id": made, "fifo": fifo, "open": open_} | whose | common | dict(runtime or {}),
        )
        if secret is not None:
            row = ids.uuid7(self.clock.unix_ms())
            sealed = self._sealed(secret, row=row)
            await self._insert("endpoint_secrets", {"id": row, "endpoint_id": made, "sealed_secret": sealed})
        if event_types is not None:
            row = ids.uuid7(self.clock.unix_ms())
            columns = {
                "id": row,
                "endpoint_id": made,
                "event_types": list(event_types),
                "filter": content_filter,
            }
            await self._insert("subscriptions", columns | whose)
        return made

    async def copies(self, endpoint_id: UUID, count: int, *, secret: str = SECRET) -> list[UUID]:
        """Make many endpoints like this one, with secrets of their own and no subscriptions."""
        made = [ids.uuid7(self.clock.unix_ms()) for _ in range(count)]
        for table, column in (("endpoints", "id"), ("endpoint_runtime", "endpoint_id")):
            await self.sql(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(old, jsonb_build_object('{column}', new))).*"  # noqa: S608
                f" FROM {table} AS old, unnest(CAST(:made AS uuid[])) AS new WHERE {column} = :id",
                made=made,
                id=endpoint_id,
            )
        secrets = [(row := ids.uuid7(self.clock.unix_ms()), self._sealed(secret, row=row)) for _ in made]
        await self.sql(
            "INSERT INTO endpoint_secrets (id, endpoint_id, sealed_secret)"
            " SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:made AS uuid[]), CAST(:sealed AS bytea[]))",
            ids=[row for row, _ in secrets],
            made=made,
            sealed=[sealed for _, sealed in secrets],
        )
        return made

    async def change_cap(self, endpoint_id: UUID, cap: int) -> None:
        """Change how many requests to an endpoint may be under way."""
        async with self.transaction() as connection:
            for statement in (
                "UPDATE endpoints SET max_in_flight = :cap WHERE id = :id",
                "UPDATE endpoint_runtime SET max_in_flight = :cap WHERE endpoint_id = :id",
            ):
                await connection.execute(text(statement), {"cap": cap, "id": endpoint_id})

    def submission(
        self,
        routes: Iterable[UUID | Route] = (),
        *,
        application_id: UUID | None = None,
        workspace_id: UUID | None = None,
        api_key_id: UUID | None = None,
        routing_version: int = 1,
        body: bytes | None = None,
        event: CheckedEvent | None = None,
        **fields: Any,
    ) -> Submission:
        """Return an event that was matched to these endpoints, with its id."""
        checked = event or read_event(body or b'{"type":"order.placed","data":{"n":1}}')
        if fields:
            checked = _changed(checked, **fields)
        made = Submission(
            event=checked,
            workspace_id=workspace_id or self.workspace_id,
            application_id=application_id or self.application_id,
            application_uid=None,
            api_key_id=api_key_id,
            routing_version=routing_version,
            routes=[
                route
                if isinstance(route, Route)
                else Route(route, fifo=False, max_age_seconds=5 * DAY_SECONDS)
                for route in routes
            ],
        )
        made.assign_id(self.clock.unix_ms())
        return made

    async def accept(self, *submissions: Submission, inline: int = 1_000) -> list[Verdict]:
        """Write events as the ingest buffer does."""
        async with self.engine.connect() as connection:
            return await accept(connection, submissions, inline=inline, keep_days=30)

    async def publish(
        self,
        endpoint_id: UUID,
        count: int = 1,
        *,
        fifo: bool = False,
        max_age_seconds: int = DAY_SECONDS,
        **fields: Any,
    ) -> list[UUID]:
        """Accept `count` events for one endpoint and return the ids of their deliveries, in their order."""
        ((workspace_id, application_id, version),) = await self.sql(
            "SELECT e.workspace_id, e.application_id, a.routing_version"
            " FROM endpoints e JOIN applications a ON a.id = e.application_id WHERE e.id = :id",
            id=endpoint_id,
        )
        route = Route(endpoint_id, fifo=fifo, max_age_seconds=max_age_seconds)
        made = [
            self.submission(
                [route],
                workspace_id=workspace_id,
                application_id=application_id,
                routing_version=version,
                **fields,
            )
            for _ in range(count)
        ]
        verdicts = await self.accept(*made)
        assert set(verdicts) == {Verdict.ACCEPTED}
        return [submission.delivery_ids[0] for submission in made]

    async def claim(self, *endpoints: UUID, share: int = 10, margin: float = MARGIN_SECONDS) -> list[Claimed]:
        """Lease what may be leased of these endpoints."""
        async with self.engine.connect() as connection:
            claimed, _ = await claim(
                connection,
                [(endpoint, share) for endpoint in endpoints],
                margin_seconds=margin,
                worker=WORKER,
            )
        return claimed

    def result(self, claimed: Claimed, settle: Settle = Settle.SUCCEEDED, **changes: Any) -> Finished:
        """Return what a worker would record for a delivery."""
        attempted = settle not in {Settle.RELEASED, Settle.CANCELLED}
        good = settle is Settle.SUCCEEDED
        values: dict[str, Any] = {
            "id": claimed.id,
            "token": claimed.token,
            "settle": settle,
            "endpoint_id": claimed.endpoint_id,
            "workspace_id": claimed.workspace_id,
            "application_id": claimed.application_id,
            "event_id": claimed.event_id,
            "outcome": "none",
            "counts": attempted,
        }
        if attempted:
            values |= {
                "attempt_id": ids.uuid7(self.clock.unix_ms()),
                "number": claimed.attempt_count + 1,
                "trigger": TRIGGERS[claimed.trigger],
                "test": TRIGGERS[claimed.trigger] == "test",
                "event_type": "order.placed",
                "outcome": "succeeded" if good else "failed",
                "started_at": self.clock.now(),
                "duration_ms": 12.5,
                "request_url": URL,
                "response_status": 200 if good else 503,
                "error_class": None if good else "http_5xx",
                "error_message": None if good else "The receiver failed.",
                "delay_seconds": 60.0 if settle is Settle.RETRY else None,
            }
        return Finished(**(values | changes))

    async def record(self, *finished: Finished) -> Recorded:
        """Record results as a worker does."""
        async with self.engine.connect() as connection:
            return await record(connection, finished)

    async def finish(self, claimed: Claimed, settle: Settle = Settle.SUCCEEDED, **changes: Any) -> None:
        """Record one result; the lease must be ours."""
        recorded = await self.record(self.result(claimed, settle, **changes))
        assert (recorded.settled, recorded.stale) == (1, 0)

    async def queue_row(self, delivery_id: UUID) -> Row[Any] | None:
        """Return a delivery's place in the queue; None: it is final."""
        rows = await self.sql(
            "SELECT *, extract(epoch FROM due_at - now())::float8 AS due_in,"
            " extract(epoch FROM lease_until - now())::float8 AS lease_left"
            " FROM delivery_queue WHERE id = :id",
            id=delivery_id,
        )
        return rows[0] if rows else None

    async def delivery(self, delivery_id: UUID) -> Row[Any]:
        """Return the record of a delivery."""
        (row,) = await self.sql("SELECT * FROM deliveries WHERE id = :id", id=delivery_id)
        return row

    async def attempts(self, delivery_id: UUID) -> list[Row[Any]]:
        """Return a delivery's attempts in their order."""
        return await self.sql(
            "SELECT * FROM attempts WHERE delivery_id = :id ORDER BY number, id", id=delivery_id
        )

    async def runtime(self, endpoint_id: UUID) -> Row[Any]:
        """Return an endpoint's runtime row; `held_for` are seconds from now, None without a hold."""
        (row,) = await self.sql(
            "SELECT *, extract(epoch FROM held_until - now())::float8 AS held_for"
            " FROM endpoint_runtime WHERE endpoint_id = :id",
            id=endpoint_id,
        )
        return row

    async def until(self, statement: str, *, what: str, seconds: float = 30, **values: Any) -> None:
        """Wait until the first value of the only row is true."""
        await wait_until(lambda: self.value(statement, **values), seconds=seconds, what=what)

    async def until_somebody_waits_for_a_lock(self, *, many: int = 1) -> None:
        """Wait until so many statements of this database wait for a lock."""
        await self.until(
            "SELECT count(*) >= :many FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()",
            what="statements wait for a lock",
            many=many,
        )

    async def end_leases(self) -> None:
        """Let every lease run out."""
        await self.sql("UPDATE delivery_queue SET lease_until = now() - interval '1 second' WHERE state = 1")

    def _sealed(self, secret: str, *, row: UUID) -> bytes:
        return self.keyring.seal(secret.encode(), row=row, column="sealed_secret")

    async def _insert(self, table: str, columns: Mapping[str, Any]) -> None:
        names = ", ".join(columns)
        marks = ", ".join(f":{name}" for name in columns)
        await self.sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", **columns)  # noqa: S608 - the test's own names


@asynccontextmanager
async def open_workshop(settings: Settings, *, pool_size: int = 16) -> AsyncIterator[Workshop]:
    """Open a workshop on an empty database."""
    transactional = make_engine(settings, name="test", pool_size=pool_size)
    made = Workshop(
        settings=settings,
        transactional=transactional,
        engine=transactional.execution_options(isolation_level="AUTOCOMMIT"),
        clock=DatabaseClock(),
        keyring=Keyring([ENCRYPTION_KEY]),
    )
    try:
        await made.furnish()
        yield made
    finally:
        await transactional.dispose()


def _changed(event: CheckedEvent, **fields: Any) -> CheckedEvent:
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    return CheckedEvent(**(values | fields))
