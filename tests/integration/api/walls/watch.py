"""Watches every statement that requests run, and finds those that could reach another workspace's rows.

A statement is judged by its plan, not by its text: Postgres says for each table of a workspace's own which rows it
goes through, and one of the conditions there must be `workspace_id = '<the caller's>'`. Whatever the statement looks
like, that is what it does. Each text is planned once in a run; planning runs nothing.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import event

from app.access import authenticate, encryption, sessions
from app.access.tokens import digest_of
from app.core.crypto import key_id_of
from app.dashboard.live import look
from app.events import accept, feed_watch
from app.models import Base
from app.operations import notices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

# Statements that may go without the condition, and why. Each is one object of the code: a copy of it is not excused.
EXCUSED = {
    authenticate._FIND: "looks a key up before anybody knows whose workspace it is; the digest must be the key's",
    authenticate._TOUCH: "notes the use of the very key that was found a moment before, by its id",
    sessions._FIND: "looks a person's session up before anybody knows whose workspace it is; the token's digest must fit",
    sessions._TOUCH: "notes the use of the very session that was found a moment before, by its id",
    accept.ACCEPT: "writes many publishers' events at once; it refuses an application that is not of the event's own "
    "workspace (`gone`), which tests/integration/engine/test_accept.py holds it to",
    accept.WHICH_ARE_STORED: "asks which of the ids that this process has made itself are stored",
    accept.FIRST_OF_UID: "looks up uids by the application that the accept statement has just judged",
    feed_watch.NEWS: "asks for all waiting readers at once whether there is news, and tells each yes or no of the "
    "application that it was shown to own",
    look.LOOK: "looks for all open pages at once; every branch joins the workspace of who listens, and what comes back "
    "is a hash, told as yes or no",
    look.SESSIONS: "asks for all open pages at once which of their own sessions still work",
    **dict.fromkeys(
        encryption.COUNTS.values(),
        "counts for the health of the whole instance which keys are needed, and shows a sum",
    ),
    notices._NOTE: "writes into the workspace of an endpoint that this transaction has locked",
}
# Tables that hold no workspace, and the one by which their rows have one: a plan must go through that one, too.
BY_PARENT = {"endpoint_secrets": "endpoints", "event_keys": "applications"}
# How the unit of work writes rows that it has loaded by a query that was watched; see also `app/models/scope.py`.
_ROW = re.compile(
    r"^(UPDATE (?P<updated>\w+) SET .* WHERE (?P=updated)\.(id|endpoint_id) = |"
    r"DELETE FROM (?P<deleted>\w+) WHERE (?P=deleted)\.(id|endpoint_id) = )%\(\w+\)s::UUID( RETURNING .*)?$",
    re.DOTALL,
)
# The cookie of a person who is signed in, with or without the prefix that browsers want over https.
_SESSION = re.compile(r"(?:^|; )(?:__Host-)?bellwire=([^;]+)")
_OF_NONE = "= ANY ('{}'::"
_CONDITIONS = ("Index Cond", "Filter", "Recheck Cond")

_caller: ContextVar[str | None] = ContextVar("caller", default=None)
_tenant_tables = frozenset(
    table.name for table in Base.metadata.sorted_tables if "workspace_id" in table.columns
)
_judged: dict[str, list[str]] = {}


@dataclass(slots=True)
class Watch:
    """Watches one application's engines; `faults` is what was found."""

    url: str
    faults: list[str] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)

    def attach(self, app: FastAPI) -> None:
        """Watch an application that has started."""
        runtime = app.state.runtime
        for engine in (runtime.engine, runtime.publish_engine):
            event.listen(engine.sync_engine, "before_cursor_execute", self._look)

    def _look(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, context: Any, _many: Any
    ) -> None:
        key = _caller.get()
        if key is None or not statement.lstrip().upper().startswith(
            ("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")
        ):
            return
        source = context.compiled.statement if context is not None and context.compiled is not None else None
        if any(source is excused for excused in EXCUSED) or _is_of_a_loaded_row(statement, context):
            return
        self.judged.add(statement)
        if statement not in _judged:
            with psycopg.connect(self.url, autocommit=True) as connection:
                workspace = _workspace_of(connection, key)
                if workspace is None:
                    return
                _judged[statement] = judge(connection, statement, parameters, workspace=workspace)
        self.faults += _judged[statement]


class Watched:
    """An ASGI application that notes for each request which key, or which session of a person, it carries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with its key noted for all that is done because of it."""
        headers = dict(scope.get("headers", ()))
        key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")[2].strip()
        # The pages of signing in and of one's account begin and end sessions by their tokens, whose digests must fit.
        signed_in = scope.get("path", "").startswith("/dashboard")
        cookie = _SESSION.search(headers.get(b"cookie", b"").decode("latin-1")) if signed_in else None
        noted = _caller.set(key or (cookie[1] if cookie else None))
        try:
            await self._app(scope, receive, send)
        finally:
            _caller.reset(noted)


def judge(
    connection: psycopg.Connection[Any], statement: str, parameters: Any, *, workspace: str
) -> list[str]:
    """Return a sentence for each table of workspaces that a statement reads or changes without its condition."""
    plan = connection.execute("EXPLAIN (FORMAT JSON, VERBOSE) " + statement, parameters).fetchone()
    assert plan is not None
    partitions: dict[str, str] = dict(
        connection.execute(
            "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits"
        ).fetchall()
    )
    seen: dict[str, bool] = {}
    for node in _nodes(plan[0][0]["Plan"]):
        relation = node.get("Relation Name")
        if relation is None or node["Node Type"] == "ModifyTable":
            continue
        table = partitions.get(relation, relation)
        if table in _tenant_tables or table in BY_PARENT:
            seen[table] = seen.get(table, True) and _is_confined(node, workspace)
    return [
        f"{table} is reached without workspace_id = the caller's: add it, or excuse the statement with a reason "
        f"(EXCUSED in {__name__}).\n{statement}"
        for table, confined in sorted(seen.items())
        if not confined and not (table in BY_PARENT and seen.get(BY_PARENT[table], False))
    ]


def _is_of_a_loaded_row(statement: str, context: Any) -> bool:
    """Tell whether the session itself writes a row that it holds, or reads it anew."""
    load = context.execution_options.get("_sa_orm_load_options") if context is not None else None
    return getattr(load, "_refresh_state", None) is not None or _ROW.match(statement) is not None


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _is_confined(node: dict[str, Any], workspace: str) -> bool:
    # A look-up of no keys reaches nothing, and Postgres may leave the other conditions out.
    if any(_OF_NONE in node.get(name, "") for name in _CONDITIONS):
        return True
    wanted = re.compile(rf"(\w+\.)?workspace_id = '{workspace}'::uuid")
    return any(wanted.fullmatch(part) for name in _CONDITIONS for part in conjuncts(node.get(name, "")))


def conjuncts(condition: str) -> list[str]:
    """Return the conditions that must all hold: `((a = 1) AND ((b = 2) OR c))` has two, of which one is a choice."""
    while condition.startswith("(") and _closing(condition) == len(condition) - 1:
        condition = condition[1:-1]
    parts, depth, start, quoted = [], 0, 0, False
    for at, char in enumerate(condition):
        if char == "'":
            quoted = not quoted
        elif not quoted:
            depth += (char == "(") - (char == ")")
            if depth == 0 and condition.startswith(" AND ", at):
                parts.append(condition[start:at])
                start = at + len(" AND ")
    if not parts:
        return [condition]
    return [inner for part in (*parts, condition[start:]) for inner in conjuncts(part)]


def _closing(condition: str) -> int:
    depth, quoted = 0, False
    for at, char in enumerate(condition):
        if char == "'":
            quoted = not quoted
        elif not quoted:
            depth += (char == "(") - (char == ")")
            if depth == 0:
                return at
    return -1


def _workspace_of(connection: psycopg.Connection[Any], key: str) -> str | None:
    found = (
        connection.execute(
            "SELECT workspace_id::text FROM api_keys WHERE key_id = %s", [key_id_of(key)]
        ).fetchone()
        or connection.execute(
            "SELECT u.workspace_id::text FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.digest = %s",
            [digest_of(key)],
        ).fetchone()
    )
    return found[0] if found else None
