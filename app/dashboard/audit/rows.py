"""Entries of the audit log as people read them: who, what, on which page it is seen, and what changed. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.models import AuditEntry

# Kind of object -> where its page is; `{}` is its id. Others have no page of their own.
_PAGES = {
    "application": "/dashboard/applications/{}",
    "api_key": "/dashboard/keys",
    "delivery": "/dashboard/deliveries/{}",
    "endpoint": "/dashboard/endpoints/{}",
    "event": "/dashboard/events/{}",
    "user": "/dashboard/people/{}",
}
_KINDS = {
    "anonymous": "nobody signed in",
    "api_key": "API key",
    "bellwire": "Bellwire itself",
    "command_line": "command line",
    "instance": "instance key",
    "user": "person",
}
# A value that is longer is cut; the export has all of it.
_MOST_CHARS = 300
_EMPTY: tuple[object, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Change:
    """One field before and after; None: it was not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One entry, ready to be shown."""

    entry: AuditEntry
    actor: str
    actor_kind: str
    href: str | None
    changes: tuple[Change, ...]


def rows_of(entries: Iterable[AuditEntry], names: Mapping[str, str]) -> list[Row]:
    """Return the rows of entries; `names` are those of the actors, by id."""
    return [
        Row(
            entry=entry,
            actor=names.get(entry.actor_id) or entry.actor_id,
            actor_kind=_KINDS.get(entry.actor_kind, entry.actor_kind.replace("_", " ")),
            href=_PAGES[entry.object_kind].format(entry.object_id) if entry.object_kind in _PAGES else None,
            changes=changes_of(entry.before, entry.after),
        )
        for entry in entries
    ]


def changes_of(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[Change, ...]:
    """Return the fields that differ, in the order in which they stand; of what is new, those that say something."""
    before, after = before or {}, after or {}
    return tuple(
        Change(name, _said(before, name), _said(after, name))
        for name in dict.fromkeys((*before, *after))
        if (before.get(name) != after.get(name) and not (not before and after[name] in _EMPTY))
        or (before and (name in before) != (name in after))
    )


def _said(values: Mapping[str, Any], name: str) -> str | None:
    if name not in values:
        return None
    value = values[name]
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= _MOST_CHARS else said[:_MOST_CHARS] + "…"
