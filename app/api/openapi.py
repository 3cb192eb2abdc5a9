"""`/openapi.json`: FastAPI's description of the routes, completed with what holds for all of them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.api.auth import RequireInstanceKey, RequireRole, guard_of
from app.api.problem_types import PROBLEM_TYPES, ProblemType
from app.api.schemas import Problem
from app.models import Role

if TYPE_CHECKING:
    from fastapi import FastAPI

DISTRIBUTION = "bellwire-server"

_DESCRIPTION = """\
Bellwire delivers webhooks. Publish an event; every endpoint whose subscriptions match gets it as a signed POST,
with retries, and every attempt is on record.

Authenticate with `Authorization: Bearer <api key>`. Bodies are JSON in UTF-8; times are RFC 3339 in UTC. Every error
is a problem document (RFC 9457) whose `type` is a page on this server. Lists are newest first and go on with
`cursor`. Any POST may carry an `Idempotency-Key`, and its answer is kept for 24 hours.
"""
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A fresh random text for each operation. The same request with the same key gets the first "
    "answer again, with `Idempotent-Replayed: true`.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "0b9f8a52-6f0e-4c55-a3a1-5d7f8f2f6c11",
}
_API = "/v1/"
_ERRORS = 400
# Which problems an operation can be answered with, besides those of its own.
_ALWAYS = (401, 403, 429, 500, 503)
_WITH_BODY = (400, 413, 415)
# Who names an object that is not there, or is another's, is told that it is not there.
_NAMING = (404,)
_OBJECTS = frozenset({"application", "delivery", "endpoint", "event"})


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all routes."""
    document = get_openapi(
        title="Bellwire",
        version=version(DISTRIBUTION),
        openapi_version="3.1.0",
        summary="Webhook delivery: durable, signed, retried, and on record.",
        description=_DESCRIPTION,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    components["securitySchemes"] = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "`bw_...`, see POST /v1/api-keys."},
        "instanceKey": {"type": "http", "scheme": "bearer", "description": "BELLWIRE_INSTANCE_KEY."},
    }
    components["responses"] = {kind.slug: _response_of(kind) for kind in PROBLEM_TYPES}
    routes = {
        (route.path_format, method.lower()): route
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = routes[path, method]
            # Handlers have names of their own, all over the API: they are what generated clients call.
            operation["operationId"] = route.name
            operation["tags"] = [str(name)[:1].upper() + str(name)[1:] for name in route.tags]
            guard = getattr(route, "guard", None)
            if guard is not None:
                # Such a route reads its request by itself: its handler's parameters are not the caller's.
                operation.pop("parameters", None)
                _hoist_definitions(operation, schemas)
            guard = guard or guard_of(route.dependant)
            _complete(operation, path=path, method=method, guard=guard, schemas=schemas)
    for schema in schemas.values():
        for example in schema.get("examples", ()):
            _restore_nulls(example, schema, schemas)
    return document


def _restore_nulls(example: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Put back into an example the nulls that FastAPI leaves out of every document it makes."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            _restore_nulls(example, choice, schemas)
    if isinstance(example, list):
        for item in example:
            _restore_nulls(item, schema.get("items", {}), schemas)
    if not isinstance(example, dict):
        return
    for name, field in schema.get("properties", {}).items():
        if name in example:
            _restore_nulls(example[name], field, schemas)
        elif name in schema.get("required", ()) and {"type": "null"} in field.get("anyOf", ()):
            example[name] = None


def _hoist_definitions(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Make a body's schema, which a route brought along whole, one of the document's schemas."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        body = orjson.loads(orjson.dumps(media["schema"]).replace(b'"#/$defs/', b'"#/components/schemas/'))
        schemas |= body.pop("$defs", {})
        schemas[body["title"]] = body
        media["schema"] = {"$ref": f"#/components/schemas/{body['title']}"}


def _complete(
    operation: dict[str, Any], *, path: str, method: str, guard: object, schemas: dict[str, Any]
) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
    if guard is None and not path.startswith(_API):
        return
    if isinstance(guard, RequireRole):
        operation["x-roles"] = [role.value for role in Role if role in guard.roles]
    operation["security"] = [{"instanceKey" if isinstance(guard, RequireInstanceKey) else "apiKey": []}]
    statuses = {*_ALWAYS, 422}
    if "requestBody" in operation:
        statuses.update(_WITH_BODY)
    if "{" in path or _names_objects(operation, schemas):
        statuses.update(_NAMING)
    if method in {"post", "patch"}:
        statuses.add(409)
    if method == "post":
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    _describe_problems(responses, statuses)


def _describe_problems(responses: dict[str, Any], statuses: set[int]) -> None:
    # What a route declares of an error is when it comes; that it is a problem goes without saying.
    for text, declared in responses.items():
        if int(text) >= _ERRORS and "content" not in declared:
            declared["$ref"] = f"#/components/responses/{_slug_of(int(text))}"
    for status in sorted(statuses):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{_slug_of(status)}"})


def _names_objects(operation: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Tell whether a query parameter or a field of the body names an object by its id."""
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    for media in operation.get("requestBody", {}).get("content", {}).values():
        for choice in (media["schema"], *media["schema"].get("anyOf", ())):
            names |= set(schemas.get(choice.get("$ref", "").rpartition("/")[2], {}).get("properties", ()))
    return not _OBJECTS.isdisjoint(names)


def _slug_of(status: int) -> str:
    return next(kind.slug for kind in PROBLEM_TYPES if kind.status == status and kind.slug != "bad-request")


def _response_of(kind: ProblemType) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.what,
        "instance": "/v1/endpoints",
        "request_id": "5f2b9c0d1e3a4b6c8d7e9f0a1b2c3d4e",
    }
    if kind.slug == "invalid":
        example["errors"] = [{"pointer": "/url", "detail": "This field is required."}]
    return {
        "description": kind.title,
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": example,
            }
        },
    }
