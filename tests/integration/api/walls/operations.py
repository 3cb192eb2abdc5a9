"""Every operation of the API with the places in it where a caller can name an object, read from the application.

Nothing here lists routes: a route that is added is walked from then on. What must be told is what a *name* means:
`REFERENCES` says which kind of object a parameter or field names, `PLAIN` says why one names none. An operation with
a name that is in neither is an error, so nothing new is passed over.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute

from app.api.openapi import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

# Which kind of object (see `sides.py`) is named where: `path.NAME`, `query.NAME`, or `SCHEMA.FIELD` of a body.
REFERENCES = {
    "path.application": "application",
    "path.attempt": "attempt",
    "path.delivery": "delivery",
    "path.endpoint": "endpoint",
    "path.event_id": "event",
    "path.key": "key",
    "path.name": "event_type",
    "path.subscription": "subscription",
    "path.user": "user",
    "query.actor": "key",
    "query.application": "application",
    "query.correlation_id": "correlation_id",
    "query.cursor": "cursor",
    "query.delivery": "delivery",
    "query.endpoint": "endpoint",
    "query.event": "event",
    "query.object": "endpoint",
    "query.type": "event_type",
    "query.types": "event_type",
    "query.uid": "event_uid",
    "ApiKeyCreate.application": "application",
    "ApplicationCreate.uid": "application_uid",
    "ApplicationUpdate.uid": "application_uid",
    "EndpointCreate.application": "application",
    "EndpointCreate.event_types": "event_type",
    "EndpointUpdate.event_types": "event_type",
    "EventIn.application": "application",
    "EventIn.correlation_id": "correlation_id",
    "EventIn.type": "event_type",
    "EventIn.uid": "event_uid",
    "EventTypeCreate.name": "event_type",
    "SubscriptionCreate.event_types": "event_type",
    "SubscriptionUpdate.event_types": "event_type",
    "TestSend.type": "event_type",
}
_WORDS = "text that is stored and shown, and looked up nowhere"
_BYTES = "any JSON, stored as it came and looked up nowhere"
PLAIN = {
    "path.workspace": "a workspace, named with the instance key, which is above all of them",
    "query.action": "a word of Bellwire's own, the same in all workspaces",
    "ApiKeyCreate.name": _WORDS,
    "ApplicationCreate.metadata": _WORDS,
    "ApplicationCreate.name": _WORDS,
    "ApplicationUpdate.metadata": _WORDS,
    "ApplicationUpdate.name": _WORDS,
    "EndpointCreate.description": _WORDS,
    "EndpointCreate.filter": "a condition on the event at hand: it reaches no other",
    "EndpointCreate.headers": "names and values that are sent to the endpoint itself",
    "EndpointCreate.metadata": _WORDS,
    "EndpointCreate.secret": "a secret of the caller's own, compared with no other",
    "EndpointCreate.url": "an address, judged by the egress policy alone: any number of endpoints may have it",
    "EndpointUpdate.description": _WORDS,
    "EndpointUpdate.filter": "a condition on the event at hand: it reaches no other",
    "EndpointUpdate.headers": "names and values that are sent to the endpoint itself",
    "EndpointUpdate.metadata": _WORDS,
    "EndpointUpdate.url": "an address, judged by the egress policy alone: any number of endpoints may have it",
    "EventIn.data": _BYTES,
    "EventIn.metadata": _WORDS,
    "EventTypeCreate.description": _WORDS,
    "EventTypeCreate.example": _BYTES,
    "EventTypeCreate.schema": "a JSON Schema that may refer to nothing outside itself",
    "EventTypeUpdate.description": _WORDS,
    "EventTypeUpdate.example": _BYTES,
    "EventTypeUpdate.schema": "a JSON Schema that may refer to nothing outside itself",
    "SecretRotate.secret": "a secret of the caller's own, compared with no other",
    "SubscriptionCreate.filter": "a condition on the event at hand: it reaches no other",
    "SubscriptionUpdate.filter": "a condition on the event at hand: it reaches no other",
    "TestSend.data": _BYTES,
    "UserCreate.email": "one person's in the whole installation: 409 says that it is taken, and not by whom",
    "UserCreate.name": _WORDS,
    "UserPatch.name": _WORDS,
    "WorkspaceCreate.name": _WORDS,
}
# Routes that are in no OpenAPI document: pages, the same for everybody, and those of a person's own session, which take
# no key and name nothing but that person's own (tests/integration/people/).
PAGES = {
    "/",
    "/account",
    "/account/confirm",
    "/account/password",
    "/account/sessions/end-others",
    "/account/sessions/{session_id}/end",
    "/docs",
    "/docs/reference.css",
    "/login",
    "/login/link/{token}",
    "/login/oidc",
    "/login/oidc/callback",
    "/logout",
    "/openapi.json",
    "/problems",
    "/problems/{slug}",
    "/static/app.css",
    "/static/script/{version}/{name}",
    "/static/{name}",
}
# Pages of the dashboard: every one of them is walked in tests/integration/dashboard/test_walls.py, by people.
DASHBOARD = "/dashboard/"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation can name an object: in its path, its query, or its body (then `steps` lead there)."""

    where: str
    name: str
    kind: str
    steps: tuple[str | int, ...] = ()
    many: bool = False

    def __str__(self) -> str:
        """Return it for messages."""
        return f"{self.where} {self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One method of one path."""

    method: str
    path: str
    places: tuple[Place, ...]
    body: Any
    roles: frozenset[str]
    needs: str | None

    def __str__(self) -> str:
        """Return it as it stands in the reference."""
        return f"{self.method} {self.path}"

    def places_in(self, *where: str) -> list[Place]:
        """Return the places of these kinds."""
        return [place for place in self.places if place.where in where]

    def body_with(self, changes: dict[Place, str]) -> Any:
        """Return the example of the body with other values in some places."""
        made = copy.deepcopy(self.body)
        for place, value in changes.items():
            at = made
            for step in place.steps[:-1]:
                at = at[step] if isinstance(step, int) else at.setdefault(step, {})
            at[place.steps[-1]] = [value] if place.many else value
        return made


class NotTold(AssertionError):
    """A route has something that nobody has told the walk about."""


def operations_of(app: FastAPI) -> list[Operation]:
    """Return all operations of an application.

    Raises:
        NotTold: a name is in neither table, a body has no example, or a route is in no document.

    """
    document = describe(app)
    schemas = document["components"]["schemas"]
    hidden = {
        route.path_format
        for route in app.routes
        if isinstance(route, APIRoute)
        and not route.include_in_schema
        and not route.path_format.startswith(DASHBOARD)
    }
    if hidden - PAGES:
        raise NotTold(
            f"The routes {sorted(hidden - PAGES)} are in no OpenAPI document, so they cannot be walked: describe them, "
            "or name them in PAGES if they are the same for everybody."
        )
    found, not_told = [], []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            try:
                found.append(_operation(method.upper(), path, operation, schemas))
            except NotTold as error:
                not_told.append(str(error))
    if not_told:
        raise NotTold("\n".join(not_told))
    return found


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Operation:
    at = f"{method} {path}"
    places = [
        Place(parameter["in"], parameter["name"], kind)
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "header" and not _is_closed(parameter["schema"], schemas)
        if (kind := _kind_of(f"{parameter['in']}.{parameter['name']}", at=at)) is not None
    ]
    media = operation.get("requestBody", {}).get("content", {}).get("application/json")
    body = None
    if media is not None:
        name, schema = _model_of(media["schema"], schemas)
        if not schema.get("examples"):
            raise NotTold(f"{at}: its body {name} has no example. Give the model one; the walk sends it.")
        body = schema["examples"][0]
        places += _places_in(name, schema, schemas, steps=(), at=at)
    elif "requestBody" in operation:
        raise NotTold(f"{at} takes a body that is not JSON. Teach the walk to send it.")
    security = operation.get("security")
    return Operation(
        method=method,
        path=path,
        places=tuple(places),
        body=body,
        roles=frozenset(operation.get("x-roles", ())),
        needs=next(iter(security[0])) if security else None,
    )


def _places_in(
    name: str, schema: dict[str, Any], schemas: dict[str, Any], *, steps: tuple[str | int, ...], at: str
) -> Iterator[Place]:
    for field, described in schema.get("properties", {}).items():
        inner = _inner_model(described, schemas)
        if inner is not None:
            many, inner_name, inner_schema = inner
            deeper = (*steps, field, 0) if many else (*steps, field)
            yield from _places_in(inner_name, inner_schema, schemas, steps=deeper, at=at)
        elif not _is_closed(described, schemas):
            kind = _kind_of(f"{name}.{field}", at=at)
            if kind is not None:
                yield Place(
                    "body", f"{name}.{field}", kind, steps=(*steps, field), many="array" in _types(described)
                )


def _kind_of(name: str, *, at: str) -> str | None:
    if name in REFERENCES:
        return REFERENCES[name]
    if name in PLAIN:
        return None
    raise NotTold(
        f"{at} has {name}, which the walk does not know. If it names an object, say of which kind in REFERENCES of "
        f"{__name__} (a kind that is new is made in sides.py); if it names none, say why in PLAIN."
    )


def _model_of(schema: dict[str, Any], schemas: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            name = choice["$ref"].rpartition("/")[2]
            return name, schemas[name]
    return schema.get("title", "?"), schema


def _inner_model(
    described: dict[str, Any], schemas: dict[str, Any]
) -> tuple[bool, str, dict[str, Any]] | None:
    for choice in (described, *described.get("anyOf", ())):
        many = choice.get("type") == "array"
        target = choice.get("items", {}) if many else choice
        if "$ref" in target:
            name, schema = _model_of(target, schemas)
            if "properties" in schema:
                return many, name, schema
    return None


def _types(described: dict[str, Any]) -> set[str]:
    return {choice.get("type", "any") for choice in (described, *described.get("anyOf", ()))}


def _is_closed(described: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Tell whether a value can only be a number, a time, a truth, or one of a few words: such names no object."""
    choices = [
        schemas[choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
        for choice in described.get("anyOf", [described])
    ]
    return all(
        "enum" in choice
        or "const" in choice
        or choice.get("format") == "date-time"
        or choice.get("type") in {"integer", "number", "boolean", "null"}
        or (choice.get("type") == "array" and _is_closed(choice.get("items", {}), schemas))
        for choice in choices
    )
