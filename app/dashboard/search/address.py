"""The search in a page's address: what is typed (`q`) and what its filter form says, as one query with chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.dashboard.frame import address
from app.dashboard.search.language import MAX_LENGTH, Query, Term, parse
from app.dashboard.search.meanings import Status
from app.dashboard.search.words import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

# Names of the address that are terms of their own: what filter forms and links of other pages say.
FIELDS = ("status", "code", "type", "application", "endpoint")


@dataclass(frozen=True, slots=True)
class Chip:
    """A term as people see it, and the address of the page without it; `fault` says why it was not understood."""

    said: str
    without: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What a page is asked for."""

    query: Query
    chips: tuple[Chip, ...]
    # The same without what is said of the status, for the counts of all of them.
    any_status: Query
    # What stands in the search box, and that without what is said of the status.
    typed: str
    typed_any_status: str
    # The one status that is asked for, `""` for any, None for something else.
    status: str | None
    # The page without any of it.
    cleared: str

    @property
    def faults(self) -> tuple[tuple[str, str], ...]:
        """What was not understood."""
        return self.query.faults


def read_search(path: str, query: Mapping[str, str]) -> Search:
    """Return the search of an address."""
    given = dict(query)
    typed = given.get("q", "").strip()
    found = [(parse(typed), None)] + [
        (parse(f"{name}:{_value(given[name])}"), name) for name in FIELDS if given.get(name, "").strip()
    ]
    chips: list[Chip] = []
    for part, name in found:
        for term in part.terms:
            without = {name: None} if name else {"q": _without(part, term)}
            chips.append(Chip(term.said, address(path, given, cursor=None, **without)))
        for said, fault in part.faults:
            without = {name: None} if name else {"q": _left(part)}
            chips.append(Chip(said, address(path, given, cursor=None, **without), fault))
    terms = tuple(term for part, _ in found for term in part.terms)
    faults = tuple(fault for part, _ in found for fault in part.faults)
    others = tuple(term for term in terms if not isinstance(term.meaning, Status))
    return Search(
        query=Query(terms, faults),
        any_status=Query(others, faults),
        chips=tuple(chips),
        typed=typed[: MAX_LENGTH + 1],
        typed_any_status=" ".join(
            [term.said for term in found[0][0].terms if not isinstance(term.meaning, Status)]
            + [said for said, _ in found[0][0].faults]
        ),
        status=_only_status(terms),
        cleared=address(path, given, cursor=None, q=None, **dict.fromkeys(FIELDS)),
    )


def _value(text: str) -> str:
    """Return a field's value as the language writes it; commas and stars in it mean what they mean there."""
    text = text.strip()
    return text if text[:1] == '"' else ",".join(quote(part) for part in text.split(","))


def _only_status(terms: tuple[Term, ...]) -> str | None:
    said = [term for term in terms if isinstance(term.meaning, Status)]
    if not said:
        return ""
    names = said[0].meaning.names if isinstance(said[0].meaning, Status) else frozenset()
    return next(iter(names)) if len(said) == len(names) == 1 and not said[0].negated else None


def _without(query: Query, term: Term) -> str:
    return " ".join(
        [each.said for each in query.terms if each is not term] + [said for said, _ in query.faults]
    )


def _left(query: Query) -> str:
    return " ".join(term.said for term in query.terms)
