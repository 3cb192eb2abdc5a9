"""`bellwire deliveries`: look at deliveries and send them again, over the REST API."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.events import ApiUrl
from app.cli.outcome import CommandError, ExitCode
from app.cli.output import (
    AsJson,
    Column,
    hint,
    print_fields,
    print_json,
    print_table,
    shown_time,
    value_at,
    wants_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

group = typer.Typer(help="List, show and retry deliveries.", no_args_is_help=True, rich_markup_mode=None)

_LIST = (
    Column("id", "id", keep_whole=True),
    Column("state", "state", keep_whole=True),
    Column("type", "event.type"),
    Column("endpoint", "endpoint.url", min_terminal=100),
    Column("tries", "attempt_count", keep_whole=True),
    Column("last", "last"),
    Column("next (UTC)", "next", min_terminal=120),
)
_ATTEMPTS = (
    Column("#", "number", keep_whole=True),
    Column("outcome", "outcome", keep_whole=True),
    Column("started (UTC)", "started", keep_whole=True),
    Column("ms", "duration_ms", keep_whole=True),
    Column("status", "response.status", keep_whole=True),
    Column("what happened", "what", wrap=True),
)


class State(StrEnum):
    """States of a delivery, as `--state` takes them."""

    PENDING = "pending"
    SENDING = "sending"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


DeliveryId = Annotated[str, typer.Argument(help="The delivery's id, dlv_...")]


@group.command("list")
def list_deliveries(
    *,
    state: Annotated[State | None, typer.Option("--state", help="Only deliveries in this state.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Only those of this event (evt_...).")] = None,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Only those to this endpoint (ep_...).")
    ] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only those of this event type.")] = None,
    application: Annotated[
        str | None, typer.Option("--application", help="Only those of this application, by id or uid.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=250, help="How many, newest first.")] = 20,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Where to go on: next_cursor of the page before.")
    ] = None,
    url: ApiUrl = None,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first. Exits with 0 also when there are none."""
    from app.cli.rest import ApiClient
    from app.cli.surroundings import find_api

    with ApiClient(find_api(url=url)) as api:
        page = api.get(
            "/v1/deliveries",
            state=state.value if state else None,
            event=event,
            endpoint=endpoint,
            type=event_type,
            application=application,
            limit=limit,
            cursor=cursor,
        )
    if wants_json(as_json):
        print_json(page)
        return
    print_table(
        [_row(delivery) for delivery in page["data"]],
        _LIST,
        empty="There are no such deliveries. Publish an event with `bellwire events publish`, or widen the filters.",
    )
    if page.get("next_cursor"):
        hint(f"There are more: add --cursor {page['next_cursor']}")


@group.command("show")
def show(*, delivery_id: DeliveryId, url: ApiUrl = None, as_json: AsJson = False) -> None:
    """Show one delivery and every attempt that was made for it."""
    from app.cli.rest import ApiClient
    from app.cli.surroundings import find_api

    path = f"/v1/deliveries/{_segment(delivery_id)}"
    with ApiClient(find_api(url=url)) as api:
        delivery = api.get(path)
        attempts = list(api.get_all(f"{path}/attempts"))
    if wants_json(as_json):
        print_json({**delivery, "attempts": attempts})
        return
    print_fields(
        [
            ("id", delivery.get("id")),
            ("state", delivery.get("state")),
            ("event", f"{value_at(delivery, 'event.id')} ({value_at(delivery, 'event.type')})"),
            ("endpoint", f"{value_at(delivery, 'endpoint.id')} {value_at(delivery, 'endpoint.url')}"),
            ("created", shown_time(delivery.get("created_at"))),
            ("completed", shown_time(delivery.get("completed_at"))),
            ("next attempt", _next(delivery)),
            ("deadline", shown_time(delivery.get("deadline_at"))),
        ]
    )
    print_table(
        [
            {**attempt, "what": _what(attempt), "started": shown_time(attempt.get("started_at"))}
            for attempt in attempts
        ],
        _ATTEMPTS,
        empty="No attempt has been made yet.",
    )


@group.command("retry")
def retry(
    *,
    delivery_ids: Annotated[list[str], typer.Argument(help="Deliveries, dlv_...")],
    url: ApiUrl = None,
    as_json: AsJson = False,
) -> None:
    """Send deliveries at once, with a fresh schedule and the same webhook-id.

    Each is tried; the exit code is that of the first that could not be retried.
    """
    from app.cli.rest import ApiClient
    from app.cli.surroundings import find_api

    results: list[dict[str, Any]] = []
    worst: CommandError | None = None
    with ApiClient(find_api(url=url)) as api:
        for delivery_id in delivery_ids:
            try:
                results.append(api.post(f"/v1/deliveries/{_segment(delivery_id)}/retry"))
            except CommandError as error:
                if error.exit_code is ExitCode.UNAVAILABLE:
                    raise
                hint(f"{delivery_id}: {error}")
                worst = worst or error
    if wants_json(as_json):
        print_json({"data": results})
    elif results:
        print_table([_row(delivery) for delivery in results], _LIST, empty="")
    if worst is not None:
        raise typer.Exit(worst.exit_code)


def _row(delivery: dict[str, Any]) -> dict[str, Any]:
    return {**delivery, "last": _last(delivery), "next": _next(delivery)}


def _last(delivery: Mapping[str, Any]) -> Any:
    """Return how the last attempt ended, in one word or number."""
    return delivery.get("last_status") or value_at(delivery, "last_error.class")


def _next(delivery: Mapping[str, Any]) -> Any:
    """Return when it will be sent, or what it waits for."""
    reason = value_at(delivery, "waiting.reason")
    if not reason:
        return shown_time(delivery.get("next_attempt_at"))
    until = shown_time(value_at(delivery, "waiting.until"))
    return f"{reason} until {until}" if until else reason


def _what(attempt: Mapping[str, Any]) -> Any:
    message, advice = value_at(attempt, "error.message"), value_at(attempt, "error.hint")
    return " ".join(str(part) for part in (message, advice) if part) or None


def _segment(text: str) -> str:
    """Return a person's text as one segment of a path, whatever is in it."""
    from urllib.parse import quote

    return quote(text, safe="") or "-"
