"""Queries stay inside the caller's workspace: the confined session, and the watch over every statement."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from fastapi import APIRouter
from psycopg.types.json import Jsonb
from sqlalchemy import select, text, update

from app.api.dependencies import Session, Viewer  # noqa: TC001 - FastAPI reads them at run time
from app.api.routing import TransactionalRoute
from app.core import ids
from app.models import (
    Application,
    Base,
    Delivery,
    Endpoint,
    EndpointSecret,
    OfEndpoint,
    OfWorkspace,
    OutsideTheWorkspace,
    confine,
)
from tests.integration.api.walls.sides import make_side
from tests.integration.api.walls.watch import BY_PARENT, EXCUSED, conjuncts, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from fastapi import FastAPI

    from app.core.settings import Settings
    from tests.integration.api.walls.sides import Side
    from tests.integration.api.walls.watch import Watch

WORKSPACE = "0199c0de-0000-7000-8000-000000000001"
OTHER = "0199c0de-0000-7000-8000-000000000002"
NO_TENANTS = {
    "workspaces": "the workspaces themselves: only the instance key lists them",
    "rollup_progress": "how far upkeep has counted, for all workspaces at once",
    "sign_in_buckets": "counts of failed sign-ins, by digests of what was tried and from where: nobody is in a workspace yet",
    "worker_heartbeats": "signs of life of processes, which work for all workspaces",
}


@pytest.fixture
async def theirs(app: FastAPI, client: httpx2.AsyncClient, other_admin: dict[str, str]) -> Side:
    """The objects of another workspace."""
    return await make_side(app, client, mark="theirs", owner=other_admin)


@pytest.fixture
async def own_workspace(app: FastAPI, theirs: Side) -> Any:
    """The id of the first workspace, which is not theirs."""
    async with app.state.runtime.sessions() as session:
        other = ids.from_text(ids.WORKSPACE, theirs.names["workspace"])
        return await session.scalar(select(Application.workspace_id).where(Application.workspace_id != other))


def test_every_table_of_a_workspace_is_known_as_one():
    """A model with a workspace is confined with all others; one without says how it belongs to one, or why to none."""
    for mapper in Base.registry.mappers:
        table = mapper.local_table.name
        if "workspace_id" in mapper.local_table.columns:
            assert issubclass(mapper.class_, OfWorkspace), f"{table}: derive it from OfWorkspace"
        else:
            known = issubclass(mapper.class_, OfEndpoint) or table in BY_PARENT or table in NO_TENANTS
            assert known, f"{table} has no workspace_id: give it one, or say in NO_TENANTS why it needs none"


@pytest.mark.parametrize(
    "forgetful",
    [
        select(Endpoint),
        select(Endpoint.url),
        select(Delivery).join(Endpoint, Endpoint.id == Delivery.endpoint_id),
        select(Application.id).where(Application.id.in_(select(Endpoint.application_id))),
        select(EndpointSecret),
    ],
    ids=str,
)
async def test_confined_session_reads_its_own_workspace_only(app, theirs, own_workspace, forgetful):
    """A query that forgets the workspace finds nothing of another one; a session that is not confined finds it."""
    async with app.state.runtime.sessions() as session:
        everything = (await session.execute(forgetful)).all()
        confine(session, own_workspace)
        confined = (await session.execute(forgetful)).all()
    assert len(everything) > len(confined)
    async with app.state.runtime.sessions() as session:
        confine(session, ids.from_text(ids.WORKSPACE, theirs.names["workspace"]))
        assert len((await session.execute(forgetful)).all()) == len(everything) - len(confined)


async def test_confined_session_gets_and_changes_no_row_of_another(app, theirs, own_workspace):
    """Neither by primary key nor by an UPDATE without a condition."""
    endpoint_id = ids.from_text(ids.ENDPOINT, theirs.names["endpoint"])
    async with app.state.runtime.sessions() as session:
        confine(session, own_workspace)
        assert await session.get(Endpoint, endpoint_id) is None
        changed = await session.execute(update(Endpoint).values(description="mine").returning(Endpoint.id))
        assert changed.all() == []


async def test_confined_session_writes_no_row_of_another(app, theirs, own_workspace):
    """A row that got into it all the same, or was made for another workspace, is refused before anything is stored."""
    endpoint_id = ids.from_text(ids.ENDPOINT, theirs.names["endpoint"])
    async with app.state.runtime.sessions() as session:
        row = await session.get(Endpoint, endpoint_id)
        confine(session, own_workspace)
        row.description = "mine"
        with pytest.raises(OutsideTheWorkspace, match="Endpoint belongs to the workspace"):
            await session.commit()


async def test_sessions_of_two_requests_do_not_mix(app, theirs, own_workspace):
    """Statements are compiled once and used by all: each session's own workspace goes in, also side by side."""
    other = ids.from_text(ids.WORKSPACE, theirs.names["workspace"])

    async def look(workspace: Any) -> set[Any]:
        async with app.state.runtime.sessions() as session:
            confine(session, workspace)
            return {row.workspace_id for row in await session.scalars(select(Application))}

    looked = await asyncio.gather(*(look(workspace) for workspace in [own_workspace, other] * 10))
    assert looked == [{own_workspace}, {other}] * 10


@pytest.mark.parametrize(
    ("statement", "faulty"),
    [
        ("SELECT * FROM endpoints WHERE workspace_id = %(w)s AND id = %(i)s", set()),
        ("SELECT * FROM endpoints e JOIN endpoint_runtime r ON r.endpoint_id = e.id AND r.workspace_id = e.workspace_id "
         "WHERE e.workspace_id = %(w)s", set()),
        ("SELECT * FROM endpoints e JOIN endpoint_runtime r ON r.endpoint_id = e.id WHERE e.workspace_id = %(w)s",
         {"endpoint_runtime"}),
        ("SELECT * FROM endpoints WHERE id = %(i)s", {"endpoints"}),
        ("SELECT * FROM endpoints WHERE workspace_id = %(o)s", {"endpoints"}),
        ("SELECT * FROM endpoints WHERE workspace_id = %(w)s OR id = %(i)s", {"endpoints"}),
        ("SELECT * FROM endpoints WHERE workspace_id <> %(w)s", {"endpoints"}),
        ("SELECT * FROM endpoints WHERE url = ' AND (workspace_id = ''0199c0de-0000-7000-8000-000000000001''::uuid)'",
         {"endpoints"}),
        ("SELECT * FROM events WHERE workspace_id = %(w)s AND id = %(i)s", set()),
        ("SELECT * FROM events WHERE id > %(i)s", {"events"}),
        ("SELECT (SELECT count(*) FROM attempts) FROM endpoints WHERE workspace_id = %(w)s", {"attempts"}),
        ("WITH d AS MATERIALIZED (SELECT * FROM deliveries LIMIT 1) SELECT * FROM d WHERE workspace_id = %(w)s",
         {"deliveries"}),
        ("UPDATE endpoint_runtime SET in_flight = 0 WHERE endpoint_id = %(i)s", {"endpoint_runtime"}),
        ("UPDATE endpoints SET url = '' FROM applications a WHERE a.workspace_id = %(w)s AND a.id = application_id",
         {"endpoints"}),
        ("DELETE FROM delivery_queue WHERE endpoint_id = %(i)s", {"delivery_queue"}),
        ("DELETE FROM delivery_queue WHERE workspace_id = %(w)s AND endpoint_id = %(i)s", set()),
        ("INSERT INTO notices (workspace_id, type, data) SELECT workspace_id, url, %(j)s FROM endpoints WHERE id = %(i)s",
         {"endpoints"}),
        ("SELECT * FROM endpoint_secrets WHERE endpoint_id = %(i)s", {"endpoint_secrets"}),
        ("SELECT * FROM endpoint_secrets WHERE endpoint_id IN (SELECT id FROM endpoints WHERE workspace_id = %(w)s)",
         set()),
        ("SELECT * FROM workspaces", set()),
    ],
)  # fmt: skip
def test_plan_tells_what_a_statement_can_reach(settings: Settings, statement: str, faulty: set[str]):
    """Each way to forget the workspace is found, and each way to name it is taken, by what Postgres would do."""
    values = {"w": WORKSPACE, "o": OTHER, "i": OTHER, "j": Jsonb({})}
    with psycopg.connect(settings.sqlalchemy_url.replace("+psycopg", "", 1), autocommit=True) as connection:
        found = judge(connection, statement, values, workspace=WORKSPACE)
    assert {fault.partition(" ")[0] for fault in found} == faulty


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("", [""]),
        ("(a = 1)", ["a = 1"]),
        ("((a = 1) AND ((b = 2) OR (c = 3)))", ["a = 1", "(b = 2) OR (c = 3)"]),
        ("((a = ') AND (') AND ((b = 2) AND (c = 3)))", ["a = ') AND ('", "b = 2", "c = 3"]),
    ],
)
def test_conditions_are_taken_apart(condition: str, parts: list[str]):
    """Only what must hold counts: a choice is one part, and quotes hold no syntax."""
    assert conjuncts(condition) == parts


@pytest.mark.parametrize(
    "query",
    [
        lambda _: text("SELECT url FROM endpoints WHERE id = :id"),
        lambda caller: text(
            "SELECT url FROM endpoints WHERE id = :id OR workspace_id = :workspace"
        ).bindparams(workspace=caller.workspace_id),
    ],
    ids=["forgotten", "a choice"],
)
async def test_watch_finds_a_statement_that_forgets_the_workspace(
    app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str], watch: Watch, query: Callable[[Any], Any]
):
    """A handler whose SQL looks up by id alone is found by the first request that runs it."""
    router = APIRouter(route_class=TransactionalRoute)

    @router.get("/v1/forgetful")
    async def forgetful(caller: Viewer, session: Session) -> None:
        """Read without a workspace."""
        await session.execute(query(caller), {"id": ids.uuid7(1)})

    app.router.routes.extend(router.routes)
    assert watch.faults == []
    assert (await client.get("/v1/forgetful", headers=admin)).status_code == 200
    found, watch.faults = watch.faults, []
    assert len(found) == 1
    assert found[0].startswith("endpoints is reached without workspace_id")


async def test_watch_has_seen_the_statements_of_a_request(client, admin, watch):
    """It judges what requests run, and nothing of it is excused without a reason."""
    await client.get("/v1/endpoints", headers=admin)
    assert any("FROM endpoints" in statement for statement in watch.judged)
    assert all(len(reason) > 40 for reason in EXCUSED.values())
