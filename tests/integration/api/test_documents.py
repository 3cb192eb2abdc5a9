"""`/openapi.json` and `/docs`: made here, complete, and free of anything from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from app.api.auth import guard_of

OPEN = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture
async def document(client):
    """The OpenAPI document."""
    return (await client.get("/openapi.json")).json()


class Reader(HTMLParser):
    """Collects tags, attributes and ids of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.ids, self.texts = set(), [], [], []

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src"}:
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)


def operations_of(document):
    """Yield (path, method, operation)."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def references_in(value):
    """Yield every $ref in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)


async def test_every_route_of_the_application_is_described(app, document):
    """What is routed is in the document, with a key unless it is open to all."""
    routed = {
        (route.path_format, method.lower())
        for route in app.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods
    }
    assert routed == {(path, method) for path, method, _ in operations_of(document)}
    assert document["openapi"] == "3.1.0"
    for path, _, operation in operations_of(document):
        assert ("security" in operation) == (path not in OPEN), path


async def test_every_route_below_v1_asks_for_a_key(app):
    """A handler without a guard cannot slip in."""
    unguarded = {
        route.path_format
        for route in app.routes
        if isinstance(route, APIRoute)
        and route.path_format.startswith("/v1/")
        and not (getattr(route, "guard", None) or guard_of(route.dependant))
    }
    assert unguarded == set()


async def test_operations_are_named_described_and_answer_problems(document):
    """Each has a name of its own, a sentence, a tag, and problems for what can go wrong."""
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations_of(document):
        assert operation["description"].split("\n")[0].endswith("."), path
        assert operation["tags"]
        if path not in OPEN:
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
        if method == "post" and path not in OPEN:
            assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]]


async def test_references_resolve(document):
    """No $ref leads nowhere."""
    registry = Registry().with_resource("", DRAFT202012.create_resource(document))
    nowhere = {reference for reference in references_in(document) if not _resolves(registry, reference)}
    assert nowhere == set()
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_examples_fit_their_schemas(document):
    """What is shown is what is taken."""
    schemas = document["components"]["schemas"]
    registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(document))
    misfits = [
        (name, error.message)
        for name, schema in schemas.items()
        for example in schema.get("examples", ())
        for error in Draft202012Validator(
            {"$ref": f"urn:document#/components/schemas/{name}"}, registry=registry
        ).iter_errors(example)
    ]
    assert misfits == []


async def test_request_bodies_have_examples(document):
    """Whoever writes a first request finds one to start from."""
    missing = []
    for path, method, operation in operations_of(document):
        if "requestBody" not in operation:
            continue
        media = next(iter(operation["requestBody"]["content"].values()))
        schema = media["schema"]
        choices = [schema, *schema.get("anyOf", ())]
        resolved = [
            document["components"]["schemas"][choice["$ref"].rpartition("/")[2]]
            if "$ref" in choice
            else choice
            for choice in choices
        ]
        if "example" not in media and not any("examples" in choice for choice in resolved):
            missing.append((method, path))
    assert missing == []


async def test_reference_shows_every_operation_and_schema(client, document):
    """The page has all paths and all schemas, its links inside the page lead somewhere, and it needs no network."""
    answer = await client.get("/docs")
    page = Reader()
    page.feed(answer.text)
    shown = "".join(page.texts)
    for path, _, operation in operations_of(document):
        assert f"<code>{path}</code>" in answer.text
        assert operation["description"].split("\n")[0].replace("`", "") in shown
    for name in document["components"]["schemas"]:
        assert f"<code>{name}</code>" in answer.text
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert [address for address in page.addresses if not address.startswith(("#", "/"))] == []
    assert page.tags.isdisjoint({"script", "iframe", "img", "style", "object"})


async def test_pages_of_the_reference_exist(client):
    """Its style sheet and the pages that it links to are served."""
    style = await client.get("/docs/reference.css")
    root = await client.get("/")
    assert (style.status_code, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert (root.status_code, root.headers["Location"]) == (307, "/dashboard/")


def _resolves(registry, reference):
    try:
        registry.resolver().lookup(reference)
    except Unresolvable:
        return False
    return True
