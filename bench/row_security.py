"""What walls between workspaces cost the API: the figures of docs/decisions/0011. Run `python -m bench.row_security`.

Three applications on one database, called in turn. Two connect as a role that passes by the policies: one without and
one with sessions that are confined to a workspace (`app.models.scope`). The third is confined too, and connects as a
role that the policies hold, with `app.workspace` set in each transaction. The same routes, rows and processes, so the
differences are the walls. On an embedded Postgres with its settings as shipped.
"""

from __future__ import annotations

import asyncio
import base64
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx2
import psycopg
import structlog
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.core import migrate
from app.core.settings import Settings
from app.embedded.postgres import EmbeddedPostgres
from app.main import create_app
from app.models import Base

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNS = 5
PAIRS = 80
WARM_UP = 20
EVENTS = 5_000
ENDPOINTS = 20
KEY = "bw_" + "b" * 40
INSTANCE_KEY = "i" * 40
PASSWORD = uuid4().hex
PASSING, HELD = "bench_passing", "bench_held"

_ROLES = f"""
CREATE ROLE {PASSING} LOGIN PASSWORD '{PASSWORD}' BYPASSRLS;
CREATE ROLE {HELD} LOGIN PASSWORD '{PASSWORD}' NOBYPASSRLS;
GRANT ALL ON ALL TABLES IN SCHEMA public TO {PASSING}, {HELD};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {PASSING}, {HELD};
GRANT pg_monitor TO {PASSING}, {HELD};
GRANT {PASSING} TO {HELD};
"""
_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON {table} USING ({condition}) WITH CHECK ({condition});
"""
_OWN = "workspace_id = current_setting('app.workspace', true)::uuid"
# Keys are looked up before anybody knows whose workspace it is.
_OPEN = frozenset({"api_keys", "workspaces", "worker_heartbeats"})
_BY_PARENT = {
    "endpoint_secrets": f"EXISTS (SELECT FROM endpoints e WHERE e.id = endpoint_id AND e.{_OWN})",
    "event_keys": f"EXISTS (SELECT FROM applications a WHERE a.id = application_id AND a.{_OWN})",
}

Call = tuple[str, str, dict[str, Any]]


async def main(words: Sequence[str]) -> None:
    """Measure all paths, or those with one of these words, and print a line each: the medians, and each run's ratio."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder) / "postgres") as postgres:
        migrate.upgrade(postgres.url)
        async with AsyncExitStack() as running:
            owner = await _open(running, postgres.url)
            calls = await _fill(owner)
            _build_wall(postgres.url)
            plain = await _open(running, _as_role(postgres.url, PASSING), confined=False)
            confined, held = [await _open(running, _as_role(postgres.url, role)) for role in (PASSING, HELD)]
            clients = (plain, confined, held)
            await _check(clients)
            _check_wall(_as_role(postgres.url, HELD))
            for what, make in calls.items():
                if not words or any(word in what for word in words):
                    await _measure(what, make, clients)


async def _open(running: AsyncExitStack, url: str, *, confined: bool = True) -> httpx2.AsyncClient:
    app = create_app(
        Settings(
            database_url=SecretStr(url),
            environment="development",
            bootstrap_key=SecretStr(KEY),
            instance_key=SecretStr(INSTANCE_KEY),
            encryption_keys=(SecretStr(base64.b64encode(bytes(32)).decode()),),
        )
    )
    await running.enter_async_context(app.router.lifespan_context(app))
    if not confined:
        _let_out(app.state.runtime.engine.sync_engine)
    if f"{HELD}:" in url:
        _set_workspace(app.state.runtime.engine.sync_engine)
        _let_pass(app.state.runtime.publish_engine.sync_engine)
    transport = httpx2.ASGITransport(app=app)
    return await running.enter_async_context(
        httpx2.AsyncClient(
            transport=transport, base_url="http://bench", headers={"Authorization": f"Bearer {KEY}"}
        )
    )


def _set_workspace(engine: Any) -> None:
    """Tell Postgres at the start of each transaction whose rows it may see: one statement more."""

    @event.listens_for(Session, "after_begin")
    def tell(session: Session, _transaction: object, connection: Any) -> None:
        if connection.engine is engine and "workspace_id" in session.info:
            connection.exec_driver_sql(
                "SELECT set_config('app.workspace', %s, true)", (str(session.info["workspace_id"]),)
            )


def _let_out(engine: Any) -> None:
    """Undo what confines a session."""

    @event.listens_for(Session, "after_begin")
    def let_out(session: Session, _transaction: object, connection: Any) -> None:
        if connection.engine is engine:
            session.info.clear()


def _let_pass(engine: Any) -> None:
    """Publishing writes for many workspaces in one statement, so it would have to pass by the policies."""

    @event.listens_for(engine, "connect")
    def take_role(connection: Any, _record: object) -> None:
        connection.cursor().execute(f"SET ROLE {PASSING}")
        connection.commit()


async def _fill(client: httpx2.AsyncClient) -> dict[str, Callable[[], Call]]:
    """Make two workspaces with the same things in them, and return the requests that are measured in one of them."""
    other = await client.post(
        "/v1/workspaces", json={"name": "Other"}, headers={"Authorization": f"Bearer {INSTANCE_KEY}"}
    )
    ids: dict[str, str] = {}
    for key in (other.json()["api_key"], KEY):
        client.headers["Authorization"] = f"Bearer {key}"
        for number in range(ENDPOINTS):
            made = await client.post(
                "/v1/endpoints",
                json={"url": f"https://example.com/{number}", "event_types": [f"order.t{number}"]},
            )
            ids["endpoint"] = made.json()["id"]
        for at in range(0, EVENTS, 500):
            events = [{"type": f"order.t{n % ENDPOINTS}", "data": {"n": n}} for n in range(at, at + 500)]
            done = await client.post("/v1/events/batch", json={"events": events})
            ids["event"] = done.json()["results"][-1]["id"]
    endpoint, event_id = ids["endpoint"], ids["event"]
    return {
        "GET one event": lambda: ("GET", f"/v1/events/{event_id}", {}),
        "GET one endpoint": lambda: ("GET", f"/v1/endpoints/{endpoint}", {}),
        "GET 20 endpoints": lambda: ("GET", "/v1/endpoints", {}),
        "GET 50 events": lambda: ("GET", "/v1/events", {}),
        "GET 50 deliveries": lambda: ("GET", "/v1/deliveries", {}),
        "GET stats of an hour": lambda: ("GET", "/v1/stats?window=1h", {}),
        "PATCH an endpoint": lambda: (
            "PATCH",
            f"/v1/endpoints/{endpoint}",
            {"json": {"description": uuid4().hex}},
        ),
        "POST an event with a key": lambda: (
            "POST",
            "/v1/events",
            {"json": {"type": "order.t1", "data": {}}, "headers": {"Idempotency-Key": uuid4().hex}},
        ),
    }


def _build_wall(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(_ROLES)
        for table in Base.metadata.sorted_tables:
            if table.name in _OPEN:
                continue
            condition = _BY_PARENT.get(table.name, _OWN)
            connection.execute(_POLICY.format(table=table.name, condition=condition))
        connection.execute("ANALYZE")


def _as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)


async def _check(clients: Sequence[httpx2.AsyncClient]) -> None:
    """See that a request has the same answer everywhere."""
    answers = [(await client.get("/v1/deliveries")).json() for client in clients]
    if any(answer != answers[0] for answer in answers) or len(answers[0]["data"]) != 50:
        raise RuntimeError("the applications do not answer alike")


def _check_wall(url: str) -> None:
    """See that the wall stands: without a workspace there is no row, and with one there are its rows only."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        count = "SELECT count(*), count(DISTINCT workspace_id) FROM deliveries"
        without = connection.execute(count).fetchone()
        connection.execute(
            "SELECT set_config('app.workspace', (SELECT id::text FROM workspaces LIMIT 1), false)"
        )
        within = connection.execute(count).fetchone()
        if (without, within) != ((0, 0), (EVENTS, 1)):
            raise RuntimeError(f"the wall has a hole: {without}, {within}")


async def _measure(what: str, make: Callable[[], Call], clients: Sequence[httpx2.AsyncClient]) -> None:
    runs: list[list[float]] = []
    for _ in range(RUNS):
        seconds: list[list[float]] = [[] for _ in clients]
        for turn in range(WARM_UP + PAIRS):
            # In turns, and each as often first as any other.
            for which in sorted(range(len(clients)), key=lambda n: (n + turn) % len(clients)):
                took = await _seconds(clients[which], make())
                if turn >= WARM_UP:
                    seconds[which].append(took)
        runs.append([statistics.median(values) for values in seconds])
    plain, confined, held = (statistics.median(run[which] for run in runs) for which in range(3))
    scope = " ".join(f"{run[1] / run[0] - 1:+.1%}" for run in runs)
    wall = " ".join(f"{run[2] / run[1] - 1:+.1%}" for run in runs)
    sys.stdout.write(
        f"{what:26s} {plain * 1e3:7.2f} {confined * 1e3:7.2f} {held * 1e3:7.2f} ms"
        f"   confined {confined / plain - 1:+6.1%} ({scope})   policies {held / confined - 1:+6.1%} ({wall})\n"
    )
    sys.stdout.flush()


async def _seconds(client: httpx2.AsyncClient, call: Call) -> float:
    method, path, options = call
    started = time.perf_counter()
    answer = await client.request(method, path, **options)
    took = time.perf_counter() - started
    if not answer.is_success:
        raise RuntimeError(answer.text)
    return took


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
