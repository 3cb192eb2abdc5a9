"""From what is typed to terms. Pure, and total: any text gives a `Query`, at worst one that is all faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import ids
from app.dashboard.search import meanings, values
from app.dashboard.search.values import NotUnderstood
from app.dashboard.search.words import split

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.dashboard.search.candidate import Candidate
    from app.dashboard.search.meanings import Meaning
    from app.dashboard.search.words import Word

MAX_LENGTH = 500
MAX_TERMS = 20


@dataclass(frozen=True, slots=True)
class Qualifier:
    """One `name:` of the language, as the reference says it. `negatable`: a `-` before it costs no more."""

    name: str
    means: str
    values: str
    example: str
    read: Callable[[str, Word], Meaning]
    negatable: bool = True


@dataclass(frozen=True, slots=True)
class Term:
    """One term: as it was said, and what it means."""

    said: str
    negated: bool
    meaning: Meaning

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return self.meaning.matches(row) is not self.negated


@dataclass(frozen=True, slots=True)
class Query:
    """All terms must hold. With `faults` nothing is searched: rows that were not asked for would mislead."""

    terms: tuple[Term, ...] = ()
    # A sentence for each part that was not understood, beside that part.
    faults: tuple[tuple[str, str], ...] = ()

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate; a query with faults finds nothing."""
        return not self.faults and all(term.matches(row) for term in self.terms)

    @property
    def needs_data(self) -> bool:
        """Tell whether candidates need the published JSON."""
        return any(isinstance(term.meaning, meanings.Data) for term in self.terms)

    @property
    def needs_headers(self) -> bool:
        """Tell whether candidates need the headers."""
        return any(isinstance(term.meaning, meanings.Header) for term in self.terms)

    @property
    def anywhen(self) -> bool:
        """Tell whether one event or delivery is named: then the time range of the page does not matter."""
        return any(
            isinstance(term.meaning, meanings.Id)
            and term.meaning.whole
            and not term.negated
            and term.meaning.prefix in {ids.EVENT, ids.DELIVERY, ids.ATTEMPT}
            for term in self.terms
        )


QUALIFIERS = (
    Qualifier(
        "status",
        "State of the delivery. `retrying` is pending after at least one attempt.",
        ", ".join(f"`{name}`" for name in values.STATES),
        "status:dead",
        values.status,
    ),
    Qualifier(
        "code",
        "What the last attempt brought: a status, a class of statuses, an error.",
        "`503`, `5xx`, `none`, "
        + ", ".join(f"`{name}`" for name in values.ERROR_WORDS)
        + ", or an error class",
        "code:5xx,timeout",
        values.code,
    ),
    Qualifier(
        "type",
        "Event type; `*` stands for any characters.",
        "a name or a pattern",
        "type:order.*",
        values.event_type,
    ),
    Qualifier(
        "application",
        "Application, by id or uid.",
        "`app_…` or a uid",
        "application:acme",
        values.application,
    ),
    Qualifier(
        "endpoint",
        "Endpoint, by id or by part of its URL.",
        "`ep_…` or part of a URL",
        "endpoint:shop.example.com",
        values.endpoint,
    ),
    Qualifier(
        "attempt",
        "How many attempts were made.",
        "`3`, `>3`, `>=3`, `<3`, `<=3`, `2..5`",
        "attempt:>3",
        values.attempts,
    ),
    Qualifier(
        "duration",
        "An attempt took so long.",
        "as above, each with a unit: `ms`, `s`, `m`",
        "duration:>2s",
        values.duration,
        negatable=False,
    ),
    Qualifier(
        "data.",
        "The published JSON has this value at this place; lists on the way stand for their elements.",
        "a number, `true`, `false`, `null`, a text, the beginning of a text and `*`, or `*` for any value",
        "data.order.id:42",
        values.data,
        negatable=False,
    ),
    Qualifier(
        "header.",
        "A header of a request or of its answer holds this text.",
        "part of the value, or `*` for any",
        "header.server:nginx",
        values.header,
        negatable=False,
    ),
)
_NAMES = {qualifier.name: qualifier for qualifier in QUALIFIERS}
POSSIBLE = "Possible are " + ", ".join(
    f"{qualifier.name}{'name' if qualifier.name.endswith('.') else ''}:" for qualifier in QUALIFIERS
)


def parse(text: str) -> Query:
    """Return what a text asks for."""
    if len(text) > MAX_LENGTH:
        return Query(
            faults=(
                (text[:40] + "…", f"A search has at most {MAX_LENGTH} characters. Leave some of it out."),
            )
        )
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
        return Query(faults=((_shown(text), "It holds a character that no text has. Type it again."),))
    words = split(text)
    if len(words) > MAX_TERMS:
        return Query(
            faults=((words[MAX_TERMS].said, f"A search has at most {MAX_TERMS} terms. Leave some out."),)
        )
    terms: list[Term] = []
    faults: list[tuple[str, str]] = []
    for word in words:
        try:
            terms.append(_term(word))
        except NotUnderstood as fault:
            faults.append((word.said, str(fault)))
    return Query(tuple(terms), tuple(faults))


def _term(word: Word) -> Term:
    if word.open_quote:
        raise NotUnderstood('A quotation mark is not closed. Put another " at the end.')
    name = word.name.lower()
    stem = name.partition(".")[0] + "." if "." in name else name
    qualifier = _NAMES.get(stem)
    if qualifier is None and name and not _is_plain_text(word):
        raise NotUnderstood(f'There is no {word.name}: here. {POSSIBLE}; put text with a colon in "quotes".')
    if qualifier is None:
        return Term(word.said, word.negated, values.text(word))
    if word.negated and not qualifier.negatable:
        raise NotUnderstood(
            f"What {qualifier.name}… names cannot be excluded: the database would read everything else. Leave the - out."
        )
    if not word.value and not word.quoted:
        raise NotUnderstood(f"{word.name}: needs a value, for example {qualifier.example}.")
    return Term(word.said, word.negated, qualifier.read(word.name[len(qualifier.name) :], word))


def _is_plain_text(word: Word) -> bool:
    """Tell whether a word with a colon is an address rather than a qualifier that does not exist."""
    return word.value.startswith("//") or "." in word.name or word.value.partition("/")[0].isdigit()


def _shown(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()
