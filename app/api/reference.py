"""The API reference at `/docs`: made from the OpenAPI document, on the server, with no script and no CDN."""

from __future__ import annotations

import re
from typing import Any

import orjson

from app.api.html import Html, join, page, prose, tag

_METHODS = ("get", "post", "put", "patch", "delete")
_REF = "#/components/"


def render_reference(document: dict[str, Any], *, base_url: str) -> bytes:
    """Return the whole reference as one page: every path, parameter, schema and example."""
    sections: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                sections.setdefault((operation.get("tags") or ["Other"])[0], []).append(
                    (method, path, operation)
                )
    schemas = document["components"]["schemas"]
    main = join(
        [
            tag("h1", f"{document['info']['title']} API"),
            tag("p", "Version ", document["info"]["version"], ". The same as data: ", _link("/openapi.json")),
            prose(document["info"]["description"]),
            [
                tag(
                    "section",
                    tag("h2", name, id=_anchor("tag", name)),
                    [_operation(document, *item, base_url=base_url) for item in items],
                )
                for name, items in sections.items()
            ],
            tag("h2", "Schemas", id="schemas"),
            [_schema(document, name, schemas[name]) for name in sorted(schemas)],
        ]
    )
    aside = join(
        [
            tag("a", "Bellwire", href="/docs", class_="home"),
            tag("a", "Dashboard", href="/dashboard/"),
            [
                [
                    tag("a", name, href=f"#{_anchor('tag', name)}", class_="group"),
                    tag("ul", [tag("li", _entry(method, path)) for method, path, _ in items]),
                ]
                for name, items in sections.items()
            ],
            tag("a", "Schemas", href="#schemas", class_="group"),
            tag("a", "Problems", href="/problems", class_="group"),
        ]
    )
    return page(title="Bellwire API reference", main=main, aside=aside)


def _operation(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any], *, base_url: str
) -> Html:
    body = operation.get("requestBody")
    roles = operation.get("x-roles")
    return tag(
        "article",
        tag(
            "h3",
            tag("span", method.upper(), class_=f"method {method}"),
            " ",
            tag("code", path),
            id=_anchor(method, path),
        ),
        prose(operation.get("description") or operation.get("summary", "")),
        tag("p", "Roles: ", ", ".join(roles), class_="roles") if roles else None,
        _parameters(operation.get("parameters", [])),
        _request_body(document, body) if body else None,
        tag("h4", "Example"),
        tag("pre", tag("code", _curl(document, method, path, operation, base_url=base_url))),
        _responses(document, operation["responses"]),
    )


def _parameters(parameters: list[dict[str, Any]]) -> Html | None:
    if not parameters:
        return None
    rows = [
        tag(
            "tr",
            tag("td", tag("code", parameter["name"])),
            tag("td", parameter["in"]),
            tag("td", _type(parameter.get("schema", {}))),
            tag("td", _note(parameter.get("schema", {}), parameter.get("description", ""))),
        )
        for parameter in parameters
    ]
    return join([tag("h4", "Parameters"), _table(("Name", "In", "Type", "Meaning"), rows)])


def _request_body(document: dict[str, Any], body: dict[str, Any]) -> Html:
    schema = next(iter(body["content"].values())).get("schema", {})
    return join([tag("h4", "Body"), tag("p", _type(schema)), _fields(document, schema)])


def _responses(document: dict[str, Any], responses: dict[str, Any]) -> Html:
    rows = []
    for status, given in responses.items():
        response = _resolve(document, given)
        slug = given.get("$ref", "").removeprefix(_REF + "responses/")
        meaning = (
            tag("a", response["description"], href=f"/problems/{slug}") if slug else response["description"]
        )
        content: dict[str, Any] = next(iter(response.get("content", {}).values()), {})
        rows.append(
            tag(
                "tr",
                tag("td", tag("code", status)),
                tag("td", meaning),
                tag("td", _type(content.get("schema", {}))),
            )
        )
    return join([tag("h4", "Answers"), _table(("Status", "Meaning", "Body"), rows)])


def _schema(document: dict[str, Any], name: str, schema: dict[str, Any]) -> Html:
    example = _example(document, schema)
    return tag(
        "article",
        tag("h3", tag("code", name), id=_anchor("schema", name)),
        prose(schema.get("description", "")),
        _fields(document, schema),
        tag("pre", tag("code", _json(example))) if example is not None else None,
    )


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> Html | None:
    resolved = _resolve(document, _not_null(schema))
    properties = resolved.get("properties")
    if not properties:
        return None
    required = set(resolved.get("required", ()))
    rows = [
        tag(
            "tr",
            tag(
                "td",
                tag("code", name),
                tag("span", " required", class_="required") if name in required else None,
            ),
            tag("td", _type(field)),
            tag("td", _note(field, field.get("description", ""))),
        )
        for name, field in properties.items()
    ]
    return _table(("Field", "Type", "Meaning"), rows)


def _type(schema: dict[str, Any]) -> Html:
    """Return what a value may be, with a link where it is a schema of its own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return tag("a", name, href=f"#{_anchor('schema', name)}")
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            types = [_type(item) for item in schema[key]]
            return join([types[0], *[[" or ", item] for item in types[1:]]])
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        return join([[" or " if n else "", tag("code", _json(value))] for n, value in enumerate(values)])
    kind = schema.get("type", "any JSON")
    inner = schema.get("items") if kind == "array" else schema.get("additionalProperties")
    if isinstance(inner, dict):
        return join(["list of " if kind == "array" else "object of ", _type(inner)])
    return join([kind, f" ({schema['format']})" if "format" in schema else None])


def _note(schema: dict[str, Any], description: str) -> Html:
    limits = [
        f"{label} {schema[key]}"
        for key, label in (
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("minLength", "at least this many characters:"),
            ("maxLength", "at most this many characters:"),
            ("minItems", "at least this many entries:"),
            ("maxItems", "at most this many entries:"),
        )
        if key in schema
    ]
    if schema.get("default") not in (None, {}, []):
        limits.append(f"default {_json(schema['default'])}")
    notes = "; ".join(limits)
    return join(
        [prose(description) if description else None, tag("p", notes, class_="limits") if notes else None]
    )


def _curl(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any], *, base_url: str
) -> str:
    lines = [f"curl {base_url}{path}"]
    if method != "get":
        lines[0] = f"curl -X {method.upper()} {base_url}{path}"
    if "security" in operation:
        key = "$BELLWIRE_INSTANCE_KEY" if "instanceKey" in operation["security"][0] else "$BELLWIRE_API_KEY"
        lines.append(f'-H "Authorization: Bearer {key}"')
    if "requestBody" in operation:
        media = next(iter(operation["requestBody"]["content"].values()))
        example = media.get("example", _example(document, _not_null(media.get("schema", {}))))
        lines.append("-H 'Content-Type: application/json'")
        lines.append("-d '" + _json(example if example is not None else {}).replace("'", "'\\''") + "'")
    return " \\\n  ".join(lines)


def _example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    resolved = _resolve(document, schema)
    return next(iter(resolved.get("examples", ())), resolved.get("example"))


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the one alternative that is not null, if there is just one."""
    choices = [item for item in schema.get("anyOf", ()) if item.get("type") != "null"]
    return choices[0] if len(choices) == 1 else schema


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    resolved: dict[str, Any] = found
    return resolved


def _table(heads: tuple[str, ...], rows: list[Html]) -> Html:
    head = tag("thead", tag("tr", [tag("th", name, scope="col") for name in heads]))
    return tag("div", tag("table", head, tag("tbody", rows)), class_="table")


def _entry(method: str, path: str) -> Html:
    return tag(
        "a",
        tag("span", method.upper(), class_=f"method {method}"),
        " ",
        path,
        href=f"#{_anchor(method, path)}",
    )


def _link(address: str) -> Html:
    return tag("a", address, href=address)


def _anchor(kind: str, name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
