"""`/v1/event-types`."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

SCHEMA = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"type": "number", "minimum": 0}, "next": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"type": ["null", "string"]}},
}
ORDER = {
    "name": "order.placed",
    "description": "An order",
    "schema": SCHEMA,
    "example": {"amount": 1},
    "validation": "reject",
}


async def make(client, admin, **fields):
    """Make an event type and return it."""
    made = await client.post("/v1/event-types", json=ORDER | fields, headers=admin)
    assert made.status_code == 201, made.text
    return made.json()


@pytest.mark.parametrize("number", [10**20, -(10**19), 10**24, 1.5e300])
async def test_numbers_of_any_size_in_a_schema_are_shown(client, admin, number):
    """Postgres gives large numbers back as whole ones, of more digits than 64 bits hold."""
    made = await make(client, admin, schema={"maximum": number}, example=None)
    assert float(made["schema"]["maximum"]) == float(number)
    for path in (
        "/v1/event-types/order.placed",
        "/v1/event-types",
        "/v1/event-types/openapi.json",
        "/v1/audit-log",
    ):
        answer = await client.get(path, headers=admin)
        assert answer.status_code == 200, path
        assert "order.placed" in answer.text


async def test_makes_shows_and_lists_an_event_type(client, admin):
    """What was posted comes back from all three."""
    made = await make(client, admin)
    shown = (await client.get("/v1/event-types/order.placed", headers=admin)).json()
    listed = (await client.get("/v1/event-types", headers=admin)).json()
    assert {key: made[key] for key in ORDER} == ORDER
    assert shown == made
    assert listed == {"data": [made], "next_cursor": None, "prev_cursor": None}


async def test_example_is_kept_byte_for_byte(client, admin):
    """1.10 stays 1.10, order and spaces stay, and a number too large for a double keeps its digits."""
    example = b'{ "z": 1.10, "a": 12345678901234567890123, "t": "\\u00e9" }'
    body = b'{"name": "exact", "example": ' + example + b"}"
    content = {"Content-Type": "application/json"} | admin
    made = await client.post("/v1/event-types", content=body, headers=content)
    shown = await client.get("/v1/event-types/exact", headers=admin)
    catalogue = await client.get("/v1/event-types/openapi.json", headers=admin)
    assert made.status_code == 201, made.text
    assert all(example in answer.content for answer in (made, shown, catalogue))


async def test_taken_name_is_a_conflict(client, admin, other_admin):
    """One entry of a name in a workspace; another workspace may have it, too."""
    await make(client, admin)
    again = await client.post("/v1/event-types", json=ORDER, headers=admin)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/name-taken")
    assert (await make(client, other_admin))["name"] == "order.placed"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": "order..placed"}, "/name"),
        ({"name": ".order"}, "/name"),
        ({"name": "order placed"}, "/name"),
        ({"name": "order.*"}, "/name"),
        ({"name": "x" * 129}, "/name"),
        ({"name": "openapi.json"}, "/name"),
        ({"name": "order\n"}, "/name"),
        ({"schema": {"type": "x"}}, "/schema/type"),
        ({"schema": {"$ref": "http://169.254.169.254/"}}, "/schema/$ref"),
        ({"schema": {"properties": {"a": {"pattern": "("}}}}, "/schema/properties/a/pattern"),
        ({"schema": "x"}, "/schema"),
        ({"schema": None}, "/validation"),
        ({"example": {"amount": -1}}, "/example/amount"),
        ({"example": "x" * 70_000, "schema": None, "validation": "off"}, "/example"),
        ({"validation": "maybe"}, "/validation"),
        ({"schemas": {}}, "/schemas"),
    ],
)
async def test_bad_input_is_named_by_its_pointer(client, admin, fields, pointer):
    """Each fault is 422 with the place, and nothing is stored."""
    answer = await client.post("/v1/event-types", json=ORDER | fields, headers=admin)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert (await client.get("/v1/event-types", headers=admin)).json()["data"] == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"schema": {"required": ["total"]}}, 422),
        ({"example": {"amount": -5}}, 422),
        ({"schema": {"required": ["total"]}, "example": {"total": 1}}, 200),
        ({"schema": None}, 422),
        ({"schema": None, "validation": "off"}, 200),
        ({"example": None, "schema": {"required": ["total"]}}, 200),
        ({"name": "other"}, 422),
        ({"description": None}, 200),
    ],
)
async def test_patch_keeps_schema_and_example_in_step(client, admin, changes, status):
    """A change that would leave an example that breaks the schema is refused, and nothing is changed."""
    before = await make(client, admin)
    answer = await client.patch("/v1/event-types/order.placed", json=changes, headers=admin)
    after = (await client.get("/v1/event-types/order.placed", headers=admin)).json()
    assert answer.status_code == status, answer.text
    expected = before | changes | {"updated_at": after["updated_at"]} if status == 200 else before
    assert after == expected


async def test_deleted_event_type_is_gone(client, admin):
    """204, then 404; the name can be used again."""
    await make(client, admin)
    statuses = [
        (await client.delete("/v1/event-types/order.placed", headers=admin)).status_code for _ in range(2)
    ]
    assert statuses == [204, 404]
    await make(client, admin)


async def test_catalogue_is_openapi_with_webhooks(client, admin):
    """Receivers' tools read it: one webhook a type, with the body as it is sent and references that resolve."""
    await make(client, admin)
    await client.post("/v1/event-types", json={"name": "ping"}, headers=admin)
    document = (await client.get("/v1/event-types/openapi.json", headers=admin)).json()
    media = document["webhooks"]["order.placed"]["post"]["requestBody"]["content"]["application/json"]
    body = media["schema"]
    assert document["openapi"] == "3.1.0"
    assert list(document["webhooks"]) == ["order.placed", "ping"]
    assert body["properties"]["type"] == {"const": "order.placed"}
    assert body["properties"]["data"] == SCHEMA | {"$id": "urn:bellwire:event-type:order.placed"}
    assert media["example"]["data"] == {"amount": 1}
    assert _is_valid_by_the_document(media["example"], body)


async def test_deep_bodies_are_refused(client, admin):
    """A thousand levels are not walked."""
    body = b'{"name": "x", "example": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    answer = await client.post(
        "/v1/event-types", content=body, headers={"Content-Type": "application/json"} | admin
    )
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed")


def _is_valid_by_the_document(example, schema):
    return Draft202012Validator(json.loads(json.dumps(schema))).is_valid(example)
