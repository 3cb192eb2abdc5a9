"""Routes under `/v1/events`."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from app.api.dependencies import Admin, Session, Viewer
from app.api.idempotency import REPLAYED_HEADER
from app.api.pages import CreatedRange, Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.applications.service import require_application
from app.core import ids
from app.core.clock import EPOCH, rfc3339
from app.core.context import Caller
from app.core.errors import RequestError
from app.events import queries, service
from app.events.envelope import CheckedEvent, read_batch, read_event
from app.events.ingest import IngestBuffer, Published
from app.events.publish_route import PublishRoute, at_most_once, problem_of
from app.events.schemas import BatchIn, BatchOut, EventIn, EventOut, EventWithData
from app.models import Event

publishing = APIRouter(prefix="/v1/events", tags=["events"], route_class=PublishRoute)
reading = APIRouter(prefix="/v1/events", tags=["events"], route_class=TransactionalRoute)


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
        traceparent=request.state.traceparent,
    )
    return await _published(request, event, result, caller=caller)


@publishing.post("/batch", status_code=202, response_model=BatchOut, openapi_extra=_body_of(BatchIn))
async def publish_batch(request: Request, *, caller: Any = None, body: Any = None) -> Any:
    """Publish up to 1,000 events.

    The results come in the order of the events; one bad event does not sink the others.
    """
    events = [_read_or_error(raw) for raw in read_batch(body)]

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
            traceparent=request.state.traceparent,
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


@reading.get("/{event_id}", response_model=EventWithData)
async def get_event(session: Session, caller: Viewer, event_id: str) -> Response:
    """Return an event with its data, byte for byte as it was published."""
    event = await service.require_event(session, caller, event_id)
    uids = await queries.uids_of(session, {event.application_id})
    shown = EventOut(**_show(event, uids[event.application_id])).model_dump(mode="json")
    # The data is put in as it is stored: parsing it would change numbers.
    head = orjson.dumps(shown)[:-1]
    return Response(
        head + b',"data":' + (event.data if event.data is not None else b"null") + b"}",
        media_type="application/json",
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
        traceparent=request.state.traceparent,
    )


async def _published(request: Request, event: CheckedEvent, result: Published, *, caller: Caller) -> Response:
    if result.replayed:
        async with request.app.state.runtime.sessions() as session:
            first = await queries.find_event(session, caller, result.id)
        if first is not None:
            shown = EventOut(**_show(first, result.application_uid)).model_dump(mode="json")
            return Response(
                orjson.dumps(shown),
                status_code=200,
                media_type="application/json",
                headers={REPLAYED_HEADER: "true"},
            )
    created_at = rfc3339(EPOCH + result.created_at_delta())
    answer = {
        "id": ids.to_text(ids.EVENT, result.id),
        "type": event.type,
        "application": ids.to_text(ids.APPLICATION, result.application_id),
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


def _show(event: Event, application_uid: str | None) -> dict[str, Any]:
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
