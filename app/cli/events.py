"""`bellwire events`: publish over the REST API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from app.cli.outcome import CommandError, Unavailable, Unusable
from app.cli.output import AsJson, print_fields, print_json, wants_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.cli.rest import ApiClient

group = typer.Typer(help="Publish events.", no_args_is_help=True, rich_markup_mode=None)

ApiUrl = Annotated[
    str | None,
    typer.Option("--url", help="Address of the API; else BELLWIRE_URL, else what `bellwire dev` runs here."),
]


@group.callback()
def _events() -> None:
    """Publish events."""


@group.command("publish")
def publish(
    *,
    event_type: Annotated[str, typer.Option("--type", help="Event type, such as order.placed.")],
    data: Annotated[
        str, typer.Option("--data", help="The data, JSON. @FILE reads a file, - standard input.")
    ] = "-",
    uid: Annotated[
        str | None,
        typer.Option("--uid", help="Your own id: the same event under the same uid is accepted once."),
    ] = None,
    application: Annotated[
        str | None, typer.Option("--application", help="Application, by id or uid; else `default`.")
    ] = None,
    correlation_id: Annotated[
        str | None, typer.Option("--correlation-id", help="What to find this event by in logs.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="NAME=VALUE; may be repeated.")
    ] = None,
    url: ApiUrl = None,
    as_json: AsJson = False,
) -> None:
    """Publish one event. Its data is sent byte for byte as given."""
    from app.cli.rest import ApiClient
    from app.cli.surroundings import find_api

    fields: dict[str, Any] = {
        "type": event_type,
        "uid": uid,
        "application": application,
        "correlation_id": correlation_id,
        "metadata": _pairs(metadata or []) or None,
    }
    body = _body({name: value for name, value in fields.items() if value is not None}, data=read_data(data))
    with ApiClient(find_api(url=url)) as api:
        event = _publish(api, body, uid=uid)
    if wants_json(as_json):
        print_json(event)
        return
    print_fields([(name, event.get(name)) for name in ("id", "uid", "type", "application_uid", "created_at")])
    count = event.get("deliveries")
    print_fields([("deliveries", count)])
    if count == 0:
        typer.echo("No endpoint is subscribed to this type, so nothing will be delivered.", err=True)
    else:
        typer.echo(f"Follow it with: bellwire deliveries list --event {event.get('id')}", err=True)


def read_data(given: str) -> bytes:
    """Return the bytes of `--data`: JSON itself, `@FILE`, or `-` for standard input.

    Raises:
        Unusable: the file cannot be read, or it is not one JSON value in UTF-8.

    """
    text = read_bytes(given, option="--data").strip()
    try:
        json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Unusable("--data is not text in UTF-8. Convert it, for example with iconv.") from None
    except (ValueError, RecursionError) as error:
        raise Unusable(
            f"--data is not JSON: {error}. Put it in single quotes for the shell, such as '{{\"id\": 1}}' or "
            "'\"a text\"', or name a file with --data @file.json."
        ) from None
    return text


def read_bytes(given: str, *, option: str) -> bytes:
    """Return what an option names: the text itself, the content of `@FILE`, or standard input for `-`."""
    if given == "-":
        if sys.stdin.isatty():
            typer.echo(f"Reading {option} from the keyboard; end with Ctrl-D.", err=True)
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return given.encode("utf-8", "surrogateescape")
    try:
        return Path(given[1:]).read_bytes()
    except OSError as error:
        raise Unusable(
            f"{option} names the file {given[1:]}, which cannot be read: {error.strerror}. Check its name and rights."
        ) from None


def _publish(api: ApiClient, body: bytes, *, uid: str | None) -> dict[str, Any]:
    try:
        return api.post("/v1/events", content=body)
    except Unavailable as error:
        again = (
            "Send it again: its uid keeps it from being accepted twice."
            if uid
            else "Whether it was accepted is not known; with --uid it could be sent again safely."
        )
        raise Unavailable(f"{error} {again}") from None


def _body(fields: dict[str, Any], *, data: bytes) -> bytes:
    """Return the request's body with the data's own bytes in it: parsing and writing would change them."""
    head = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return head[:-1] + b', "data": ' + data + b"}"


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Unusable(f"--metadata {text!r} is not NAME=VALUE. Write it like --metadata source=shop.")
        pairs[name] = value
    return pairs


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


__all__ = ["CommandError", "group", "publish", "read_bytes", "read_data"]
