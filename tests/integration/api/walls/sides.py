"""One party's objects, one of each kind, with a mark in every text of theirs, so that a leak of any can be found."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from app.core import ids
from app.deliveries.record import Settle
from app.events.feed import Position, encode_cursor, find_horizon
from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx2
    from fastapi import FastAPI

_ID = re.compile(r"\b(?P<prefix>[a-z]{2,4})_(?P<tail>[0-9a-hjkmnp-tv-z]{26})\b")


@dataclass(slots=True)
class Side:
    """What one party has: its key's headers, and the name of one object of each kind."""

    mark: str
    headers: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    owner: dict[str, str] = field(default_factory=dict)

    def leaks_in(self, text: str, *, sent: Iterable[str] = ()) -> list[str]:
        """Return what of this party stands in a text that another one was answered, beside what that one sent."""
        for value in sorted(sent, key=len, reverse=True):
            text = text.replace(value, "")
        return [found for found in sorted({self.mark, *self.texts}) if found in text]

    async def choose(self, app: FastAPI, client: httpx2.AsyncClient, kind: str) -> str:
        """Give one more object of this party a name of its own choice, and return the name."""
        traffic = Traffic(app, client, self.owner)
        name = f"{self.mark}-{secrets.token_hex(4)}"
        if kind == "application_uid":
            await traffic.post("/v1/applications", {"name": name, "uid": name}, status=201)
        elif kind == "event_type":
            name = f"{name}.placed"
            body = {"name": name, "schema": {"required": [self.mark]}, "validation": "reject"}
            await traffic.post("/v1/event-types", body, status=201)
        else:
            field = {"event_uid": "uid", "correlation_id": "correlation_id"}[kind]
            await traffic.publish("quiet.placed", **{field: name})
        return name


async def make_side(
    app: FastAPI,
    client: httpx2.AsyncClient,
    *,
    mark: str,
    owner: dict[str, str],
    headers: dict[str, str] | None = None,
    catalogue: bool = True,
) -> Side:
    """Make one object of each kind in an application of its own, with the `owner`'s key.

    `headers` are those that the party calls with, if not the owner's. Without `catalogue` its event type is not put
    into the workspace's catalogue, which all applications of a workspace share.
    """
    traffic = Traffic(app, client, owner)
    side = Side(mark=mark, headers=headers or owner, owner=owner)
    event_type = f"{mark}.placed"
    application = await traffic.post(
        "/v1/applications", {"name": f"{mark} application", "uid": f"{mark}-app"}, status=201
    )
    if catalogue:
        body = {
            "name": event_type,
            "description": f"{mark} description",
            "schema": {"type": "object", "required": [mark]},
            "validation": "reject",
        }
        await traffic.post("/v1/event-types", body, status=201)
    endpoint = await traffic.endpoint(
        application=application["id"],
        url=f"https://{mark}.example.com/hooks?token={mark}",
        description=f"{mark} endpoint",
        headers={"X-Token": f"{mark}-token"},
        event_types=[event_type],
        metadata={"of": mark},
    )
    await traffic.post(
        f"/v1/endpoints/{endpoint['id']}/subscriptions", {"event_types": [f"{mark}.other"]}, status=201
    )
    subscriptions = await traffic.get(f"/v1/endpoints/{endpoint['id']}/subscriptions")
    events = [
        await traffic.publish(
            event_type,
            application=application["id"],
            data={mark: number},
            uid=f"{mark}-event-{number}",
            correlation_id=f"{mark}-order",
            metadata={"of": mark},
        )
        for number in range(3)
    ]
    await traffic.attempt(endpoint, Settle.RETRY, event_type=event_type)
    await traffic.attempt(endpoint, Settle.RETRY, event_type=event_type)
    await traffic.post(f"/v1/endpoints/{endpoint['id']}/circuit/open", status=200)
    await traffic.post(f"/v1/endpoints/{endpoint['id']}/circuit/close", status=200)
    key = await traffic.post(
        "/v1/api-keys",
        {"name": f"{mark} key", "role": "viewer", "application": application["id"]},
        status=201,
    )
    user = await traffic.post(
        "/v1/users", {"email": f"{mark}@example.com", "role": "viewer", "name": f"{mark} person"}, status=201
    )
    attempts = await traffic.get(f"/v1/attempts?application={application['id']}")
    pages = {
        path: await traffic.get(f"{path}limit=1")
        for path in (
            f"/v1/deliveries?application={application['id']}&",
            f"/v1/endpoints/{endpoint['id']}/circuit?",
            f"/v1/endpoints/{endpoint['id']}/subscriptions?",
        )
    }
    feed = await traffic.get(f"/v1/events/feed?application={application['id']}&limit=1")
    audit = await traffic.get("/v1/audit-log")
    workspace = await _workspace_of(app, application["id"])
    side.names = {
        "application": application["id"],
        "application_uid": application["uid"],
        "attempt": attempts["data"][0]["id"],
        "audit_entry": audit["data"][0]["id"],
        "circuit_cursor": pages[f"/v1/endpoints/{endpoint['id']}/circuit?"]["next_cursor"],
        "correlation_id": f"{mark}-order",
        "cursor": pages[f"/v1/deliveries?application={application['id']}&"]["next_cursor"],
        "delivery": attempts["data"][0]["delivery"],
        "endpoint": endpoint["id"],
        "event": events[0]["id"],
        "event_type": event_type,
        "event_uid": f"{mark}-event-0",
        "feed_cursor": feed["cursor"],
        "key": key["id"],
        "subscription": subscriptions["data"][0]["id"],
        "user": user["id"],
        "workspace": workspace,
    }
    shown = [application, endpoint, *subscriptions["data"], *events, *attempts["data"], key, user]
    side.texts = {item["id"] for item in shown} | {endpoint["secret"], key["key"]}
    side.texts |= {attempt["delivery"] for attempt in attempts["data"]} | {event["uid"] for event in events}
    if catalogue:
        # A workspace of its own: nothing of its log may be seen either.
        side.texts |= {entry["id"] for entry in audit["data"]} | {workspace}
    return side


async def ghost_of(app: FastAPI, kind: str, name: str) -> str:
    """Return a name of the same form that is nothing's: what is answered to it must not differ."""
    if kind == "feed_cursor":
        async with app.state.runtime.engine.connect() as connection:
            horizon = await find_horizon(connection)
        nobody = UUID(int=secrets.randbits(128))
        return encode_cursor(Position(1, nobody), application_id=nobody, epoch=horizon.epoch)
    found = _ID.fullmatch(name)
    if found is not None:
        return ids.to_text(found["prefix"], ids.uuid7(app.state.runtime.clock.unix_ms()))
    if kind in {"cursor", "circuit_cursor"}:
        return name
    return f"nobody{secrets.token_hex(4)}.x" if kind == "event_type" else f"nobody-{secrets.token_hex(4)}"


async def _workspace_of(app: FastAPI, application: str) -> str:
    from sqlalchemy import text

    async with app.state.runtime.engine.connect() as connection:
        found = await connection.scalar(
            text("SELECT workspace_id FROM applications WHERE id = :id"),
            {"id": ids.from_text(ids.APPLICATION, application)},
        )
    return ids.to_text(ids.WORKSPACE, found)
