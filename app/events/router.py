"""Routes under `/v1/events`."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from app.api.dependencies import Admin, RuntimeDep, Session, Viewer
from app.api.idempotency import REPLAYED_HEADER
from app.api.pages import CreatedRange, Page, PageParams, page_of
from app.api.routing import ApiRoute, TransactionalRoute
from app.applications.service import require_application
from app.core import ids
from app.core.clock import EPOCH, rfc3339
from app.core.context import Caller
from app.core.errors import RequestError
from app.core.pagination import DEFAULT_LIMIT, MAX_LIMIT
from app.events import queries, service
from app.events.envelope import CheckedEvent, read_batch, read_event
from app.events.feed import FeedEvent, require_types
from app.events.feed_watch import follow
from app.events.ingest import IngestBuffer
from app.events.publish_route import PublishRoute, at_most_once, meter, problem_of
from app.events.published import Published
from app.events.schemas import BatchIn, BatchOut, EventIn, EventOut, EventWithData, Feed
from app.models import Event, confine

publishing = APIRouter(prefix="/v1/events", tags=["events"], route_class=PublishRoute)
reading = APIRouter(prefix="/v1/events", tags=["events"], route_class=TransactionalRoute)

MAX_WAIT_SECONDS = 30
# Nobody receives it; the name that logs and metrics know it by is nginx's.
CLIENT_GONE = 499

_ResultT = TypeVar("_ResultT")


def _body_of(schema: type[Any]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema.model_json_schema()}},
        }
    }


@publishing.post("", status_code=202, response_model=EventOut, openapi_extra=_body_of(EventIn))
async def publish(request: Request, *, caller: Any = None, body: Any = None) -> Any:
    """Publish an event.

    Answered when the event and its deliveries are committed. The same `uid` with the same content returns the first
    event (200, `Idempotent-Replayed: true`); with other content it is refused (409).
    """
    event = read_event(body)
    meter(request, caller, events=1, body=body)

    async def keyed(session: AsyncSession) -> Response:
        result = (await _publish_in(session, request, caller, [event]))[0]
        if isinstance(result, RequestError):
            raise result
        return await _published(request, event, result, caller=caller)

    response = await at_most_once(request, caller, body, publish=keyed)
    if response is not None:
        request.app.state.waker.wake()
        return response
    ingest: IngestBuffer = request.app.state.ingest
    result = await ingest.publish(
        event,
        workspace_id=caller.workspace_id,
        api_key_id=caller.api_key_id,
        bound_to=caller.application_id,
        traceparent=request.scope["state"]["traceparent"],
    )
    return await _published(request, event, result, caller=caller)


@publishing.post("/batch", status_code=202, response_model=BatchOut, openapi_extra=_body_of(BatchIn))
async def publish_batch(request: Request, *, caller: Any = None, body: Any = None) -> Any:
    """Publish up to 1,000 events.

    The results come in the order of the events; one bad event does not sink the others.
    """
    found = read_batch(body)
    meter(request, caller, events=len(found), body=body)
    events = [_read_or_error(raw) for raw in found]

    async def keyed(session: AsyncSession) -> Response:
        return _batch_answer(request, await _publish_in(session, request, caller, events))

    response = await at_most_once(request, caller, body, publish=keyed)
    if response is None:
        ingest: IngestBuffer = request.app.state.ingest
        results = await ingest.publish_many(
            events,
            workspace_id=caller.workspace_id,
            api_key_id=caller.api_key_id,
            bound_to=caller.application_id,
            traceparent=request.scope["state"]["traceparent"],
        )
        return _batch_answer(request, results)
    request.app.state.waker.wake()
    return response


@reading.get("")
async def list_events(
    session: Session,
    caller: Viewer,
    page: PageParams,
    created: CreatedRange,
    application: Annotated[str | None, Query(description="Id or uid of an application.")] = None,
    type: Annotated[str | None, Query(description="The event type, exactly.")] = None,  # noqa: A002 - the contract's name
    uid: str | None = None,
    correlation_id: str | None = None,
) -> Page[EventOut]:
    """List events without their data, newest first."""
    wanted = await require_application(session, caller, application) if application is not None else None
    found = await queries.list_events(
        session,
        caller,
        page=page,
        created=created,
        application_id=wanted.id if wanted else None,
        event_type=type,
        uid=uid,
        correlation_id=correlation_id,
    )
    uids = await queries.uids_of(session, {row.application_id for row in found.rows})
    return page_of(found, lambda row: EventOut(**_show(row, uids[row.application_id])))


# Not a TransactionalRoute: a request that waits must not hold a transaction. It stands before `/{event_id}`.
async def read_feed(
    request: Request,
    caller: Viewer,
    runtime: RuntimeDep,
    application: Annotated[
        str | None, Query(description="Id or uid of the application; the key's own, or `default`.")
    ] = None,
    types: Annotated[
        str | None,
        Query(description="Comma-separated patterns of event types.", examples=["order.*,user.created"]),
    ] = None,
    cursor: Annotated[
        str | None,
        Query(
            description="`cursor` of the page before; absent: the oldest event kept; `latest`: from now on."
        ),
    ] = None,
    wait: Annotated[
        int, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait while there is nothing new.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")] = DEFAULT_LIMIT,
) -> Response:
    """Read an application's events in a stable order, oldest first, with their data byte for byte.

    Store `cursor` once you have processed a page, and send it for the next one: then you miss nothing and see nothing
    twice, however many publishers commit at once. Nothing new: an empty page, and the cursor to go on with. Tests
    are not in the feed.
    """
    wanted = require_types(types)
    async with runtime.sessions() as session:
        confine(session, caller.workspace_id)
        found = await require_application(session, caller, application)
    result = await _unless_gone(
        request,
        follow(
            runtime.engine,
            request.app.state.feed_watch,
            workspace_id=caller.workspace_id,
            application_id=found.id,
            cursor=cursor,
            types=wanted,
            limit=limit,
            wait_seconds=wait,
        ),
    )
    if result is None:
        return Response(status_code=CLIENT_GONE)
    page, following = result
    shown = b",".join(_with_data(event, _show(event, found.uid)) for event in page.events)
    return Response(
        b'{"data":[' + shown + b'],"cursor":' + orjson.dumps(following) + b"}", media_type="application/json"
    )


reading.add_api_route("/feed", read_feed, response_model=Feed, route_class_override=ApiRoute)


@reading.get("/{event_id}", response_model=EventWithData)
async def get_event(session: Session, caller: Viewer, event_id: str) -> Response:
    """Return an event with its data, byte for byte as it was published."""
    event = await service.require_event(session, caller, event_id)
    uids = await queries.uids_of(session, {event.application_id})
    return Response(
        _with_data(event, _show(event, uids[event.application_id])), media_type="application/json"
    )


@reading.delete("/{event_id}/data", status_code=204)
async def erase_event_data(session: Session, caller: Admin, event_id: str) -> None:
    """Erase an event's data for good; what still waits of it is cancelled, the record stays."""
    await service.erase(session, caller, event_id)


async def _publish_in(
    session: AsyncSession,
    request: Request,
    caller: Caller,
    events: list[CheckedEvent | RequestError] | list[CheckedEvent],
) -> list[Published | RequestError]:
    state = request.app.state
    return await service.publish_in_transaction(
        session,
        caller,
        events,
        runtime=state.runtime,
        matcher=state.matcher,
        traceparent=request.scope["state"]["traceparent"],
    )


async def _published(request: Request, event: CheckedEvent, result: Published, *, caller: Caller) -> Response:
    if result.replayed:
        async with request.app.state.runtime.sessions() as session:
            confine(session, caller.workspace_id)
            first = await queries.find_event(session, caller, result.id)
        if first is not None:
            shown = EventOut(**_show(first, result.application_uid)).model_dump(mode="json")
            return Response(
                orjson.dumps(shown),
                status_code=200,
                media_type="application/json",
                headers={REPLAYED_HEADER: "true"},
            )
    created_at = _time_of(result.created_ms)
    answer = {
        "id": ids.to_text(ids.EVENT, result.id),
        "type": event.type,
        "application": _text_of_application(result.application_id),
        "application_uid": result.application_uid,
        "uid": event.uid,
        "occurred_at": rfc3339(event.occurred_at) if event.occurred_at is not None else created_at,
        "correlation_id": event.correlation_id,
        "metadata": event.metadata,
        "priority": "high" if event.high else "normal",
        "created_at": created_at,
        "deliveries": result.deliveries,
        "data_erased_at": None,
    }
    return Response(orjson.dumps(answer), status_code=202, media_type="application/json")


# What was accepted by one flush has one time, and a publisher has few applications.
@lru_cache(maxsize=64)
def _time_of(unix_ms: int) -> str:
    return rfc3339(EPOCH + timedelta(milliseconds=unix_ms))


@lru_cache(maxsize=10_000)
def _text_of_application(application_id: UUID) -> str:
    return ids.to_text(ids.APPLICATION, application_id)


def _batch_answer(request: Request, results: list[Published | RequestError]) -> Response:
    shown: list[dict[str, Any]] = []
    for result in results:
        if isinstance(result, RequestError):
            shown.append({"error": problem_of(result, request)})
        else:
            row: dict[str, Any] = {"id": ids.to_text(ids.EVENT, result.id), "deliveries": result.deliveries}
            if result.replayed:
                row["replayed"] = True
            shown.append(row)
    rejected = sum("error" in row for row in shown)
    answer = {"accepted": len(shown) - rejected, "rejected": rejected, "results": shown}
    return Response(orjson.dumps(answer), status_code=202, media_type="application/json")


def _read_or_error(raw: bytes) -> CheckedEvent | RequestError:
    try:
        return read_event(raw)
    except RequestError as error:
        return error


def _with_data(event: Event | FeedEvent, fields: dict[str, Any]) -> bytes:
    # The data is put in as it is stored: parsing it would change numbers.
    head = orjson.dumps(EventOut(**fields).model_dump(mode="json"))[:-1]
    return head + b',"data":' + (event.data if event.data is not None else b"null") + b"}"


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _ResultT]) -> _ResultT | None:
    """Return what the work returns; when the client goes away meanwhile, end it and return None."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect_of(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect_of(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _show(event: Event | FeedEvent, application_uid: str | None) -> dict[str, Any]:
    return {
        "id": ids.to_text(ids.EVENT, event.id),
        "type": event.type,
        "application": ids.to_text(ids.APPLICATION, event.application_id),
        "application_uid": application_uid,
        "uid": event.uid,
        "occurred_at": event.occurred_at,
        "correlation_id": event.correlation_id,
        "metadata": event.custom,
        "priority": "normal" if event.priority else "high",
        "created_at": event.created_at,
        "deliveries": event.deliveries,
        "data_erased_at": event.data_erased_at,
    }
