"""An example of what a JSON Schema allows, for a person to change before it is sent. Pure.

It is a beginning, not a proof: what patterns and conditions ask for is not made up.
"""

from __future__ import annotations

from typing import Any

# A schema that refers to itself ends here.
MAX_DEPTH = 6
MOST_FIELDS = 40

_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "01890a5d-ac96-774b-bcce-b302099a8057",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def example_of(schema: Any, *, root: Any = None, depth: int = 0) -> Any:
    """Return a value for a schema: its own examples first, then what its types and bounds suggest."""
    if not isinstance(schema, dict):
        return None
    root = schema if root is None else root
    for given in (
        schema.get("const"),
        schema.get("default"),
        _first(schema.get("examples")),
        _first(schema.get("enum")),
    ):
        if given is not None:
            return given
    target = _target(schema.get("$ref"), root)
    if target is not None:
        return None if depth >= MAX_DEPTH else example_of(target, root=root, depth=depth + 1)
    merged = _merged(schema, root)
    kind = merged.get("type")
    kind = _first(kind) if isinstance(kind, list) else kind
    if kind == "object" or (kind is None and "properties" in merged):
        return _object(merged, root=root, depth=depth)
    if kind == "array":
        item = example_of(merged.get("items"), root=root, depth=depth + 1) if depth < MAX_DEPTH else None
        return [item] if item is not None else []
    return _plain(kind, merged)


def _plain(kind: Any, schema: dict[str, Any]) -> Any:
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        shortest = schema.get("minLength")
        return text.ljust(shortest, "x") if isinstance(shortest, int) and shortest < 200 else text  # noqa: PLR2004
    if kind in {"integer", "number"}:
        lowest = schema.get("minimum", schema.get("exclusiveMinimum"))
        if not isinstance(lowest, int | float):
            return 1
        return lowest if "minimum" in schema else lowest + 1
    return True if kind == "boolean" else None


def _object(schema: dict[str, Any], *, root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if depth >= MAX_DEPTH or not isinstance(properties, dict):
        return {}
    return {
        name: example_of(each, root=root, depth=depth + 1)
        for name, each in list(properties.items())[:MOST_FIELDS]
    }


def _merged(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """Return a schema with what `allOf` adds, and with the first choice of `oneOf` and `anyOf`."""
    parts = [each for each in _list(schema.get("allOf")) if isinstance(each, dict)]
    parts += [first for name in ("oneOf", "anyOf") if isinstance(first := _first(schema.get(name)), dict)]
    merged = dict(schema)
    for part in parts:
        resolved = _target(part.get("$ref"), root) or part
        properties = {**_dict(merged.get("properties")), **_dict(resolved.get("properties"))}
        merged = {**resolved, **merged}
        if properties:
            merged["properties"] = properties
    return merged


def _target(reference: Any, root: Any) -> dict[str, Any] | None:
    """Return what a reference within the schema leads to."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for part in filter(None, reference[1:].split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
