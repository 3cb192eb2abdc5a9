"""Makes the parts of the documentation that the code decides: `make docs`.

A page marks such a part with `<!-- generated: NAME -->` and `<!-- end: NAME -->`; what stands between is written
anew. A test runs this and compares, so a table cannot fall behind the code. `docs/reference/cli.md` is made as a
whole, by `app.cli.reference`.
"""  # noqa: INP001 - a program beside the pages that it writes

from __future__ import annotations

import json
import re
import sys
import tomllib
from http import HTTPStatus
from inspect import getsource
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from prometheus_client.metrics import MetricWrapperBase

from app.api.openapi import describe
from app.api.problem_types import PROBLEM_TYPES
from app.cli.reference import reference
from app.core import egress, metrics, settings
from app.core.error_classes import FIRST_CLIENT_ERROR, FIRST_SERVER_ERROR, ErrorClass, explain
from app.core.settings import Settings
from app.dashboard.search import QUALIFIERS
from app.deliveries.state import FINAL, MOVES, State
from app.events import envelope
from app.main import create_app
from app.operations.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
CLI_PAGE = ROOT / "docs" / "reference" / "cli.md"

VECTORS = ROOT / "tests" / "egress" / "vectors.toml"
_VERDICTS = {
    "save": "refused at save",
    "connect": "taken, refused at connect",
    "never": "sent",
}

_PART = re.compile(
    r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<tail><!-- end: (?P=name) -->)", re.DOTALL
)
_HEADING = re.compile(r"^\s*# --- (?P<heading>.+)$")
_ASSIGNED = re.compile(r"^\s*(?P<name>\w+)\s*[:=]")
_FIRST_GROUP = {"app.core.settings": "Kind of installation", "app.core.metrics": "Requests"}


def pages() -> dict[Path, str]:
    """Return every page that has generated parts, with its text as it should be."""
    made = {CLI_PAGE: reference()}
    for path in sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md")} - {CLI_PAGE}):
        found = path.read_text(encoding="utf-8")
        text = _PART.sub(lambda part: part["head"] + PARTS[part["name"]]() + part["tail"], found)
        if _PART.search(found):
            made[path] = text
    return made


def settings_table() -> str:
    """Every setting, in the groups of the code."""
    groups = _groups(settings)
    lines = []
    for group in dict.fromkeys(groups[name] for name in Settings.model_fields):
        rows = (
            (f"`BELLWIRE_{name.upper()}`", _kind_of(field), _default_of(field), field.description or "")
            for name, field in Settings.model_fields.items()
            if groups[name] == group
        )
        lines.append(f"## {group}\n\n" + _table(("variable", "value", "default", "meaning"), rows))
    return "\n".join(lines)


def problems_table() -> str:
    """Every kind of problem that the API answers with."""
    return _table(
        ("status", "type", "title", "what to do next"),
        (
            (str(kind.status), f"`/problems/{kind.slug}`", kind.title, kind.next_step)
            for kind in PROBLEM_TYPES
        ),
    )


def routes_table() -> str:
    """Every route, with the roles that may use it."""
    document = describe(create_app(Settings.model_construct()))
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            first_line = operation["description"].strip().splitlines()[0]
            row = (f"`{method.upper()} {path}`", _roles_of(operation), first_line)
            groups.setdefault(operation["tags"][0], []).append(row)
    return "\n".join(
        f"### {name}\n\n" + _table(("route", "roles", "what it does"), rows) for name, rows in groups.items()
    )


def roles_table() -> str:
    """Who may call what, as `docs/reference/roles.txt` says it."""
    lines = (ROOT / "docs" / "reference" / "roles.txt").read_text(encoding="utf-8").splitlines()
    heads, *rows = [line.split() for line in lines if line and not line.startswith("#")]
    return _table(heads, ((f"`{method} {path}`", *cells) for method, path, *cells in rows))


def error_classes_table() -> str:
    """Every class of failed attempts, with its sentence and hint."""
    return _table(
        ("class", "what happened", "what to do next"), ((f"`{kind}`", *explain(kind)) for kind in ErrorClass)
    )


def search_table() -> str:
    """Every qualifier of the dashboard's search; a `-` before it where that is understood."""
    return _table(
        ("qualifier", "what it asks for", "values", "example", "with `-`"),
        (
            (
                f"`{qualifier.name}{'name:' if qualifier.name.endswith('.') else ':'}`",
                qualifier.means,
                qualifier.values,
                f"`{qualifier.example}`",
                "yes" if qualifier.negatable else "no",
            )
            for qualifier in QUALIFIERS
        ),
    )


def statuses_table() -> str:
    """The statuses that have a sentence of their own."""
    general = explain(ErrorClass.HTTP_4XX)
    found = (
        (status.value, explain(ErrorClass.HTTP_4XX, status.value))
        for status in HTTPStatus
        if FIRST_CLIENT_ERROR <= status < FIRST_SERVER_ERROR
    )
    return _table(
        ("status", "what happened", "what to do next"),
        ((str(status), *words) for status, words in found if words != general),
    )


def states_table() -> str:
    """Every legal move of a delivery."""
    return _table(
        ("from", "to", "cause", "queue row", "meaning"),
        (
            (
                f"`{move.source}`" if move.source else "–",
                f"`{move.target}`",
                f"`{move.cause}`",
                str(move.queue_row),
                move.meaning,
            )
            for move in MOVES
        ),
    )


def states_diagram() -> str:
    """The same as a picture: one arrow from state to state, with its causes."""
    causes: dict[tuple[str, str], list[str]] = {}
    for move in MOVES:
        causes.setdefault((move.source or "[*]", move.target), []).append(move.cause)
    arrows = [f"    {source} --> {target}: {', '.join(why)}" for (source, target), why in causes.items()]
    ends = [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```", ""])


def metrics_table() -> str:
    """Every metric of Bellwire's own, in the groups of the code."""
    groups = _groups(metrics)
    found = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
    lines = []
    for group in dict.fromkeys(groups[name] for name in found):
        rows = (
            (f"`{_exposed(metric)}`", str(metric._type), _labels_of(metric), metric._documentation)  # noqa: SLF001 - there is no public way
            for name, metric in found.items()
            if groups[name] == group
        )
        lines.append(f"## {group}\n\n" + _table(("name", "kind", "labels", "meaning"), rows))
    return "\n".join(lines)


def operations_events() -> str:
    """Every event that Bellwire publishes itself."""
    return "\n".join(
        f"### `{told.type}`\n\n{told.when}\n\n"
        + _table(
            ("member of `data`", "meaning"), ((f"`{name}`", told.members[name]) for name in told.members)
        )
        + f"\n```json\n{json.dumps(told.example, indent=2)}\n```\n"
        for told in CATALOGUE
    )


def publishing_limits() -> str:
    """The bounds of a published event."""
    defaults = Settings.model_construct()
    return _table(
        ("what", "bound"),
        (
            ("body of one event", f"{defaults.max_body_bytes:,} bytes (`BELLWIRE_MAX_BODY_BYTES`)"),
            ("body of a batch", f"{defaults.max_batch_body_bytes:,} bytes (`BELLWIRE_MAX_BATCH_BODY_BYTES`)"),
            ("events in a batch", f"1 to {envelope.MAX_BATCH_EVENTS:,}"),
            ("nesting", f"{envelope.MAX_DEPTH} levels"),
            ("`type`", "1 to 128 characters, `" + envelope.EVENT_TYPE_PATTERN + "`"),
            ("`uid`", "`" + envelope.UID_PATTERN + "`"),
            (
                "`metadata`",
                f"{envelope.MAX_METADATA_ENTRIES} entries, keys and values of {envelope.MAX_METADATA_CHARS} characters",
            ),
            ("`correlation_id`", "1 to 256 characters"),
        ),
    )


def egress_ranges() -> str:
    """The addresses and ports that the egress policy denies."""
    denied = ", ".join(f"`{network}`" for network in egress.DENIED_IPV4)
    less = ", ".join(f"`{network}`" for network in egress.DENIED_IPV6)
    ports = ", ".join(str(port) for port in sorted(egress.DENIED_PORTS))
    names = ", ".join(f"`*.{suffix}`" for suffix in egress.DENIED_SUFFIXES)
    return _table(
        ("what", "denied"),
        (
            ("IPv4", denied),
            ("IPv6", f"all but `{egress.ALLOWED_IPV6}`, and of that {less}; every address with a scope id"),
            ("names", f"{names}, also without the star and the dot; our own"),
            (
                "ports",
                f"0, and 1 to {egress.FIRST_UNPRIVILEGED_PORT - 1:,} but 80 and 443; of the others {ports}",
            ),
        ),
    )


def egress_vectors() -> str:
    """The targets that the tests walk, and what becomes of each."""
    with VECTORS.open("rb") as file:
        groups = tomllib.load(file)["groups"]
    return "\n".join(_vectors_of(group) for group in groups)


def _vectors_of(group: dict[str, Any]) -> str:
    given = ", ".join(f"`BELLWIRE_{name.upper()}={value}`" for name, value in group.get("with", {}).items())
    rows = (
        (f"`{_visible(vector['target'])}`", _leads_to(vector), _VERDICTS[vector["refused"]], vector["why"])
        for vector in group["vectors"]
    )
    return (
        f"### {group['name']}\n\n"
        + (f"With {given}.\n\n" if given else "")
        + _table(("target", "leads to", "verdict", "why"), rows)
    )


def _leads_to(vector: dict[str, Any]) -> str:
    parts = [", ".join(vector.get("answers", ()))]
    if "rebound" in vector:
        parts.append("then " + ", ".join(vector["rebound"]))
    if "redirect" in vector:
        parts.append(f"redirect to `{vector['redirect']}`")
    return " ".join(part for part in parts if part) or "–"


def _visible(target: str) -> str:
    """Write what cannot be seen, or looks like something else, by its number."""
    return "".join(
        character if " " <= character <= "~" else f"\\u{ord(character):04x}" for character in target
    )


def _kind_of(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is tuple:
        return "list, separated by commas"
    name = {
        "SecretStr": "secret text",
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "`true` or `false`",
    }[getattr(kind, "__name__", str(kind))]
    bounds = {
        sign: getattr(item, key)
        for item in field.metadata
        for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(item, key)
    }
    return name + "".join(
        f", {sign} {value:,}" for sign, value in bounds.items() if (sign, value) != ("≥", 0)
    )


def _default_of(field: FieldInfo) -> str:
    value: Any = field.default
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, tuple):
        value = ",".join(str(item) for item in value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "–"


def _roles_of(operation: dict[str, Any]) -> str:
    if roles := operation.get("x-roles"):
        return ", ".join(roles)
    return "instance key" if operation.get("security") else "everybody"


def _exposed(metric: MetricWrapperBase) -> str:
    return str(metric._name) + ("_total" if metric._type == "counter" else "")  # noqa: SLF001


def _labels_of(metric: MetricWrapperBase) -> str:
    return ", ".join(f"`{name}`" for name in metric._labelnames) or "–"  # noqa: SLF001


def _groups(module: ModuleType) -> dict[str, str]:
    """Return for each name of a module the `# --- heading` that it stands under."""
    heading = _FIRST_GROUP[module.__name__]
    groups: dict[str, str] = {}
    for line in getsource(module).splitlines():
        if found := _HEADING.match(line):
            heading = found["heading"]
        elif found := _ASSIGNED.match(line):
            groups.setdefault(found["name"], heading)
    return groups


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "".join(_lines(list(heads), rows))


def _lines(heads: list[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |\n"
    yield "|" + "---|" * len(heads) + "\n"
    for row in rows:
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |\n"


PARTS: dict[str, Callable[[], str]] = {
    "egress-ranges": egress_ranges,
    "egress-vectors": egress_vectors,
    "error-classes": error_classes_table,
    "metrics": metrics_table,
    "moves": states_table,
    "operations-events": operations_events,
    "problems": problems_table,
    "publishing-limits": publishing_limits,
    "roles": roles_table,
    "routes": routes_table,
    "search": search_table,
    "settings": settings_table,
    "state-diagram": states_diagram,
    "statuses": statuses_table,
}


def main() -> None:
    """Write the pages that differ, and name them."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
