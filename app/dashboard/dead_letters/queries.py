"""The statements of the dead letters: groups by endpoint and error, or one by one; both go by `undelivered`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, func, select
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.error_classes import ErrorClass, explain
from app.core.pagination import Keyset, PageRequest
from app.dashboard.deliveries.queries import read_rows
from app.dashboard.search.conditions import Scope, on_deliveries
from app.dashboard.search.reach import dead_looked_at
from app.endpoints.targets import shown_url
from app.models import Application, Delivery, Endpoint, EndpointRuntime, Undelivered

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement, Select

    from app.core.context import Caller
    from app.core.pagination import Page
    from app.dashboard.deliveries.rows import DeliveryRow
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query

# More groups than a page shows; a group is asked for again in parts of so many.
MOST_GROUPS = 100
MOST_AT_ONCE = 50
_FIRST = Keyset.of(PageRequest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Deliveries to one endpoint that died of the same error."""

    endpoint: str
    url: str
    application: str
    application_name: str
    error_class: str | None
    error: str
    hint: str
    count: int
    first_at: datetime
    last_at: datetime
    # By then the oldest of them is gone for good.
    gone_by: datetime
    # Whether the endpoint would take them now: healthy, failing, paused, disabled or deleted.
    endpoint_state: str
    can_retry: bool

    @property
    def key(self) -> str:
        """What forms name it by."""
        return f"{self.endpoint} {self.error_class}" if self.error_class else self.endpoint

    @property
    def at_once(self) -> int:
        """How many one press of the button sends again."""
        return min(self.count, MOST_AT_ONCE)


async def list_groups(opened: OpenPage, query: Query) -> list[Group]:
    """Return the groups, the one with the newest first."""
    dead = _dead(opened, query)
    grouped = (
        select(
            dead.endpoint_id,
            dead.error_class,
            func.count().label("count"),
            func.min(dead.ended_at).label("first_at"),
            func.max(dead.ended_at).label("last_at"),
        )
        .where(*_matching(opened, query, dead))
        .group_by(dead.endpoint_id, dead.error_class)
        .order_by(func.max(dead.ended_at).desc())
        .limit(MOST_GROUPS + 1)
        .subquery("grouped")
    )
    workspace_id = opened.caller.workspace_id
    found = await opened.session.execute(
        select(
            grouped.c.error_class,
            grouped.c.count,
            grouped.c.first_at,
            grouped.c.last_at,
            Endpoint,
            EndpointRuntime.circuit_state,
            func.coalesce(Application.uid, Application.name),
        )
        .select_from(grouped)
        .join(Endpoint, and_(Endpoint.id == grouped.c.endpoint_id, Endpoint.workspace_id == workspace_id))
        .join(
            EndpointRuntime,
            and_(EndpointRuntime.endpoint_id == Endpoint.id, EndpointRuntime.workspace_id == workspace_id),
        )
        .join(
            Application,
            and_(Application.id == Endpoint.application_id, Application.workspace_id == workspace_id),
        )
        .order_by(grouped.c.last_at.desc(), grouped.c.endpoint_id)
    )
    kept = timedelta(days=opened.runtime.settings.retention_days + 1)
    return [
        _group(
            endpoint,
            circuit,
            error_class,
            count=count,
            first_at=first_at,
            last_at=last_at,
            gone_by=first_at + kept,
            name=name,
            caller=opened.caller,
        )
        for error_class, count, first_at, last_at, endpoint, circuit, name in found
    ]


async def list_dead(opened: OpenPage, query: Query, *, page: PageRequest) -> Page[DeliveryRow]:
    """Return dead deliveries one by one, newest first; a page of a search leads on from where the looking ended.

    Raises:
        Invalid: the cursor was not made by this server.

    """
    keyset = Keyset.of(page)
    scope = Scope(workspace_id=opened.caller.workspace_id, lowest_id=None)
    dead = _dead(opened, query, keyset=keyset)
    found = select(dead.delivery_id).where(*_matching(opened, query, dead))
    narrowed = keyset.narrow(
        select(Delivery).where(Delivery.workspace_id == scope.workspace_id, Delivery.id.in_(found)),
        id_column=Delivery.id,
    )
    rows = keyset.page(await read_rows(opened, narrowed, scope=scope, keyset=keyset))
    most = dead_looked_at(query)
    if most is None or len(rows.rows) == page.limit:
        return rows
    column = Undelivered.delivery_id
    edge = keyset.narrow(_all_dead(opened).with_only_columns(column), id_column=column, most=1).offset(
        most - 1
    )
    return keyset.go_on(rows, edge=await opened.session.scalar(edge))


async def last_dead(opened: OpenPage) -> datetime | None:
    """Return when the last delivery died, whatever became of it afterwards."""
    newest = (
        select(Undelivered.ended_at)
        .where(Undelivered.workspace_id == opened.caller.workspace_id, Undelivered.state == "dead")
        .order_by(Undelivered.ended_at.desc())
        .limit(1)
    )
    return (await opened.session.scalars(newest)).one_or_none()


async def newest_of_group(opened: OpenPage, endpoint_id: UUID, error_class: str | None) -> list[str]:
    """Return the newest deliveries of a group, as many as are sent again at once."""
    rows = await opened.session.scalars(
        select(Undelivered.delivery_id)
        .where(
            Undelivered.workspace_id == opened.caller.workspace_id,
            Undelivered.state == "dead",
            Undelivered.reopened_at.is_(None),
            Undelivered.endpoint_id == endpoint_id,
            Undelivered.error_class.is_not_distinct_from(error_class),
        )
        .order_by(Undelivered.ended_at.desc())
        .limit(MOST_AT_ONCE)
    )
    return [ids.to_text(ids.DELIVERY, row) for row in rows]


def _all_dead(opened: OpenPage) -> Select[Undelivered]:
    return select(Undelivered).where(
        Undelivered.workspace_id == opened.caller.workspace_id,
        Undelivered.state == "dead",
        Undelivered.reopened_at.is_(None),
    )


def _dead(opened: OpenPage, query: Query, *, keyset: Keyset = _FIRST) -> type[Undelivered]:
    """Return what is dead: all of it, or of a search the newest ones from the page's beginning on."""
    dead, most = _all_dead(opened), dead_looked_at(query)
    if most is not None:
        dead = keyset.narrow(dead, id_column=Undelivered.delivery_id, most=most)
    return aliased(Undelivered, dead.subquery("dead"))


def _matching(opened: OpenPage, query: Query, dead: type[Undelivered]) -> list[ColumnElement[bool]]:
    if not query.terms:
        return []
    scope = Scope(workspace_id=opened.caller.workspace_id, lowest_id=None)
    return [
        exists()
        .where(
            Delivery.workspace_id == scope.workspace_id,
            Delivery.id == dead.delivery_id,
            *on_deliveries(query, scope),
        )
        .correlate(dead)
    ]


def _group(
    endpoint: Endpoint,
    circuit: str,
    error_class: str | None,
    *,
    count: int,
    first_at: datetime,
    last_at: datetime,
    gone_by: datetime,
    name: str,
    caller: Caller,
) -> Group:
    sentence, hint = (
        explain(ErrorClass(error_class)) if error_class is not None else ("No attempt was made.", "")
    )
    if endpoint.deleted_at is not None:
        state = "deleted"
    elif not endpoint.enabled:
        state = "disabled"
    elif endpoint.paused:
        state = "paused"
    else:
        state = "healthy" if circuit == "closed" else "failing"
    return Group(
        endpoint=ids.to_text(ids.ENDPOINT, endpoint.id),
        url=shown_url(endpoint.url, caller),
        application=ids.to_text(ids.APPLICATION, endpoint.application_id),
        application_name=name,
        error_class=error_class,
        error=sentence,
        hint=hint,
        count=count,
        first_at=first_at,
        last_at=last_at,
        gone_by=gone_by,
        endpoint_state=state,
        can_retry=state not in {"deleted", "disabled"},
    )
