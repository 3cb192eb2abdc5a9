"""The form of an endpoint: what stands in its fields, what somebody typed, and what is wrong with it. Pure.

What is typed is checked by the same schemas and services as what comes through the API; a fault is shown at its field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.core.errors import FieldError, Invalid
from app.dashboard.endpoints.settings.lengths import read_lengths, write_length, write_lengths
from app.dashboard.forms import validated
from app.endpoints.headers import MASK, open_headers
from app.endpoints.patterns import EVERYTHING
from app.endpoints.schemas import EndpointCreate, EndpointUpdate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.core.crypto import Keyring
    from app.dashboard.endpoints.queries import EndpointRow

# Fields whose text is the value, by the API's names.
_TEXTS = ("url", "format", "signature", "ordering", "fifo_on_dead")
_OPTIONAL_TEXTS = ("description", "filter")
_NUMBERS = ("max_in_flight", "timeout_seconds")
_DEFAULTS = {
    "max_in_flight": "10",
    "timeout_seconds": "15",
    "format": "standard",
    "signature": "hmac-sha256",
    "ordering": "none",
    "fifo_on_dead": "skip",
}
PICK = "pick:"
# The form's own fields, where several make one of the API's.
_FIELDS = {"per_second": "rate_per_second", "burst": "rate_burst"}


@dataclass(frozen=True, slots=True)
class Typed:
    """What a form holds: `values` by its fields, `given` by the API's, and what cannot be read at all."""

    values: dict[str, str]
    patterns: list[str]
    given: dict[str, Any]
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def filter(self) -> str | None:
        """The filter, or None."""
        return self.values["filter"].strip() or None

    def changes(self, stored: Typed) -> dict[str, Any]:
        """Return what differs from what is stored, by the API's names."""
        return {
            name: value
            for name, value in self.given.items()
            if name not in stored.given or _comparable(name, value) != _comparable(name, stored.given[name])
        }


def blank(application: str) -> Typed:
    """Return the form of a new endpoint."""
    return read(_DEFAULTS | {"application": application, "scope": "some"})


def stored(row: EndpointRow, *, keyring: Keyring) -> Typed:
    """Return the form of an endpoint as it is stored; the values of its headers are masked."""
    endpoint = row.endpoint
    headers = open_headers(endpoint.sealed_headers, keyring=keyring, endpoint_id=endpoint.id)
    patterns = list(dict.fromkeys(pattern for each in row.selectors for pattern in each.event_types))
    rate = endpoint.rate_per_second
    return read(
        {
            "url": endpoint.url,
            "description": endpoint.description or "",
            "scope": "all" if EVERYTHING in patterns else "some",
            "types": "\n".join(pattern for pattern in patterns if pattern != EVERYTHING),
            "filter": (row.selectors[0].filter or "") if len(row.selectors) == 1 else "",
            "headers": "\n".join(f"{name}: {MASK}" for name in headers),
            "format": endpoint.format,
            "signature": endpoint.signature,
            "timeout_seconds": str(endpoint.timeout_seconds),
            "retry_schedule": write_lengths(endpoint.retry_schedule or []),
            "rate_per_second": f"{rate:g}" if rate else "",
            "rate_burst": str(endpoint.rate_burst) if rate and endpoint.rate_burst else "",
            "max_in_flight": str(endpoint.max_in_flight),
            "ordering": endpoint.ordering,
            "fifo_on_dead": endpoint.fifo_on_dead,
            "max_age": write_length(endpoint.max_age_seconds) if endpoint.max_age_seconds else "",
        }
    )


def read(form: Mapping[str, str]) -> Typed:
    """Read a form. Nothing is refused here but what has no form of its own in the API."""
    values = {name: form.get(name, _DEFAULTS.get(name, "")) for name in _ALL}
    faults: dict[str, str] = {}
    patterns = _patterns(form, values)
    given: dict[str, Any] = {name: values[name].strip() for name in _TEXTS}
    given |= {name: values[name].strip() or None for name in _OPTIONAL_TEXTS}
    given |= {name: _number(values[name]) for name in _NUMBERS}
    given["event_types"] = patterns
    given["rate_limit"] = _rate(values)
    for field_name, name, several in (
        ("retry_schedule", "retry_schedule", True),
        ("max_age", "max_age_seconds", False),
    ):
        try:
            lengths = read_lengths(values[field_name], pointer=f"/{field_name}")
        except Invalid as error:
            faults[field_name] = error.detail
        else:
            if not several and len(lengths) > 1:
                faults[field_name] = "Give one length of time, such as 5d."
            given[name] = (lengths if several else lengths[0]) if lengths else None
    try:
        given["headers"] = _headers(values["headers"])
    except Invalid as error:
        faults["headers"] = error.detail
    values["types"] = "\n".join(pattern for pattern in patterns if pattern != EVERYTHING)
    return Typed(values=values, patterns=patterns, given=given, faults=faults)


def new_endpoint(typed: Typed) -> dict[str, Any]:
    """Return what the service takes for a new endpoint.

    Raises:
        Invalid: a value cannot be used; `errors` says which.

    """
    checked = validated(EndpointCreate, typed.given)
    return checked.model_dump(exclude={"application"})


def changed(typed: Typed, before: Typed) -> dict[str, Any]:
    """Return what the service takes for a change; empty where nothing was changed.

    Raises:
        Invalid: a value cannot be used; `errors` says which.

    """
    checked = validated(EndpointUpdate, typed.changes(before))
    return checked.changes()


def by_field(errors: Iterable[FieldError], *, patterns: list[str]) -> dict[str, str]:
    """Return faults by the field of the form at which they are shown; several of one field are joined."""
    found: dict[str, str] = {}
    for error in errors:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in error.pointer.split("/")[1:]]
        name, detail = parts[0] if parts else "", error.detail
        if name == "event_types":
            name = "types"
            if len(parts) > 1 and parts[1].isdigit() and int(parts[1]) < len(patterns):
                detail = f"{patterns[int(parts[1])]!r}: {detail}"
        elif name == "headers" and len(parts) > 1:
            detail = f"{parts[1]}: {detail}"
        elif name == "rate_limit":
            name = _FIELDS.get(parts[-1], "rate_per_second")
        elif name == "max_age_seconds":
            name = "max_age"
        found[name] = f"{found[name]} {detail}" if name in found else detail
    return found


def _comparable(name: str, value: Any) -> Any:
    """Return a value so that the order of patterns, which has no meaning, is no change."""
    return sorted(value) if name == "event_types" else value


def _patterns(form: Mapping[str, str], values: Mapping[str, str]) -> list[str]:
    """Return the patterns that were typed, and those that were picked, without repetitions."""
    if values["scope"] == "all":
        return [EVERYTHING]
    typed = values["types"].replace(",", "\n").split()
    picked = [name.removeprefix(PICK) for name in form if name.startswith(PICK)]
    return list(dict.fromkeys((*typed, *picked)))


def _number(text: str) -> int | str:
    """Return a whole number, or the text as it is: the schema says what is wrong with it."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text  # noqa: PLR2004 - far above any


def _rate(values: Mapping[str, str]) -> dict[str, Any] | None:
    per_second, burst = values["rate_per_second"].strip(), values["rate_burst"].strip()
    if not per_second and not burst:
        return None
    try:
        rate: float | str = float(per_second)
    except ValueError:
        rate = per_second
    return {"per_second": rate, "burst": _number(burst) if burst else None}


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid.at("/headers", f"{line[:40]!r} is no header. Write one a line, as Name: value.")
        if name.strip().lower() in map(str.lower, headers):
            raise Invalid.at("/headers", f"{name.strip()[:40]!r} is given twice.")
        headers[name.strip()] = value.strip()
    return headers


_ALL = (
    *(
        "application",
        "scope",
        "types",
        "headers",
        "retry_schedule",
        "rate_per_second",
        "rate_burst",
        "max_age",
    ),
    *_TEXTS,
    *_OPTIONAL_TEXTS,
    *_NUMBERS,
)
