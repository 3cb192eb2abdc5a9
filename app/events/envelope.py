"""Reading a publish request: JSON is checked once, and `data` is cut out as the bytes that came in.

Pure: no I/O. The rules for bad input are the table in `docs/reference/publishing.md`.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from app.core.errors import FieldError, Invalid, Malformed
from app.core.pointers import pointer_to

MAX_DEPTH = 128
MAX_BATCH_EVENTS = 1_000
MAX_METADATA_ENTRIES = 50
MAX_METADATA_CHARS = 500
EVENT_TYPE_PATTERN = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
UID_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"

# Python's `$` lets a line feed pass at the end.
_WHOLE_EVENT_TYPE = EVENT_TYPE_PATTERN.removesuffix("$") + r"\Z"
_WHOLE_UID = UID_PATTERN.removesuffix("$") + r"\Z"

EventTypeName = Annotated[str, msgspec.Meta(pattern=_WHOLE_EVENT_TYPE, max_length=128)]


class PublishedEvent(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """What a publisher sends for one event. `data` is any JSON, kept as raw bytes."""

    type: EventTypeName
    data: msgspec.Raw
    application: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "default"
    uid: Annotated[str, msgspec.Meta(pattern=_WHOLE_UID)] | None = None
    occurred_at: str | None = None
    correlation_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    metadata: dict[str, str] | None = None
    priority: Literal["normal", "high"] = "normal"


class CheckedEvent(msgspec.Struct, gc=False, kw_only=True, frozen=True):
    """A published event that passed all rules that need no database."""

    type: str
    data: bytes
    application: str
    uid: str | None
    occurred_at: datetime | None
    correlation_id: str | None
    metadata: dict[str, str] | None
    high: bool
    # Tells a repeat of the same publish from another one with the same uid.
    content_hash: bytes


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_EVENT_DECODER = msgspec.json.Decoder(PublishedEvent)
_BATCH_DECODER = msgspec.json.Decoder(_Batch)
_JSON_DECODER = msgspec.json.Decoder(msgspec.Raw)
_DATA_KEY = re.compile(rb'"data"\s*:\s*')
_AFTER_VALUE = re.compile(rb"\s*[,}]")
_BATCH_BEGIN = re.compile(rb'\s*\{\s*"[^"]*"\s*:\s*\[\s*')
_BATCH_NEXT = re.compile(rb"\s*,\s*")
_BATCH_END = re.compile(rb"\s*\]\s*\}\s*")
# Objects as lists of pairs. Numbers stay text: one of 5,000 digits is legal in `data`, but no Python int.
_PAIRS_DECODER = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str)
_QUOTED_FIELDS = tuple(f'"{name}"'.encode() for name in PublishedEvent.__struct_fields__)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `(?P<name>[^`]*)`")
_PLAIN = {
    _WHOLE_EVENT_TYPE: "an event type is dot-separated parts of letters, digits, _ and -, for example order.placed",
    _WHOLE_UID: "a uid is 1 to 128 letters, digits, _ and -",
}


def read_event(body: bytes) -> CheckedEvent:
    """Return the event of a request body, or of one element of a batch.

    Raises:
        Malformed: not UTF-8, or not JSON.
        Invalid: JSON, but not a publishable event; the pointers say where.

    """
    _require_utf8(body)
    try:
        event = _EVENT_DECODER.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:
        _require_json(body)
        raise _invalid(str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(error) from None
    data = bytes(event.data)
    if _depth_over(data, MAX_DEPTH - 1):
        raise _too_deep()
    _require_single_keys(body, data, flat=event.metadata is None)
    _check_texts(event)
    return CheckedEvent(
        type=event.type,
        data=data,
        application=event.application,
        uid=event.uid,
        occurred_at=_read_time(event.occurred_at),
        correlation_id=event.correlation_id,
        metadata=event.metadata,
        high=event.priority == "high",
        content_hash=_content_hash(event, data),
    )


def read_batch(body: bytes) -> list[bytes]:
    """Return the raw elements of `{"events": [...]}`; each is read by `read_event`, for itself.

    Raises:
        Malformed, Invalid: as `read_event`; also for an empty batch and for more than 1,000 events.

    """
    _require_utf8(body)
    try:
        batch = _BATCH_DECODER.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:
        _require_json(body)
        raise _invalid(str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(error) from None
    if not 1 <= len(batch.events) <= MAX_BATCH_EVENTS:
        raise Invalid.at(
            "/events",
            f"A batch has 1 to {MAX_BATCH_EVENTS} events; this one has {len(batch.events)}. "
            + ("Send at least one." if not batch.events else "Send it in parts."),
        )
    events = [bytes(raw) for raw in batch.events]
    _require_single_list(body, events)
    return events


def _require_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(
            f"The body is not UTF-8: byte {error.start} cannot be read. Encode the JSON as UTF-8 and send it again."
        ) from None


def _require_json(body: bytes) -> None:
    """Tell that the body is not JSON at all rather than that its first field breaks a rule."""
    try:
        _JSON_DECODER.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        raise _malformed(error) from None


def _malformed(error: msgspec.DecodeError) -> Malformed:
    return Malformed(f"The body is not JSON: {error}. Correct it and send it again.")


def _too_deep() -> Invalid:
    return Invalid.at("/data", f"The JSON is nested more than {MAX_DEPTH} levels deep. Flatten it.")


def _invalid(message: str) -> Invalid:
    match = _PATH.match(message)
    what, path = (match["what"], match["path"]) if match else (message, None)
    pointer = _pointer(path)
    if field := _UNKNOWN_FIELD.search(what):
        return Invalid.at(
            f"{pointer}/{field['name']}",
            f"There is no field `{field['name']}` here. Leave it out, or correct its name.",
        )
    if field := _MISSING_FIELD.search(what):
        return Invalid.at(f"{pointer}/{field['name']}", f"`{field['name']}` is required.")
    for pattern, sentence in _PLAIN.items():
        if repr(pattern)[1:-1] in what or pattern in what:
            return Invalid.at(pointer, sentence[0].upper() + sentence[1:] + ".")
    return Invalid.at(pointer, what.rstrip(".") + ".")


def _pointer(path: str | None) -> str:
    """Turn msgspec's `$.metadata[...]` into a JSON pointer."""
    if not path:
        return ""
    text = path.removeprefix("$").replace("[...]", "").replace("[", "/").replace("]", "")
    return text.replace(".", "/")


def _require_single_keys(body: bytes, data: bytes, *, flat: bool) -> None:
    """Refuse a key that stands twice: two readers of the same bytes must not see two events.

    The standard library's parser tells, and `data` is cut out first, so it reads a few hundred bytes only. Most
    bodies need no parser: all keys are known ones, so where none of them stands twice as a text, none is repeated.
    `flat` says that there is no object but `data`.
    """
    rest = body
    for match in _DATA_KEY.finditer(body):
        end = match.end() + len(data)
        # A longer number that begins with the same digits is another value.
        if body.startswith(data, match.end()) and _AFTER_VALUE.match(body, end):
            rest = body[: match.end()] + b"0" + body[end:]
            break
    # A backslash may spell a name in another way.
    if flat and b"\\" not in rest and all(rest.count(name) <= 1 for name in _QUOTED_FIELDS):
        return
    fields: list[tuple[str, Any]] = _PAIRS_DECODER.decode(rest.decode())
    _refuse_repeats(fields, within=())
    for name, value in fields:
        if name == "metadata" and value is not None:
            _refuse_repeats(value, within=(name,))


def _refuse_repeats(pairs: list[tuple[str, Any]], *, within: tuple[str, ...]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise Invalid.at(
                pointer_to((*within, key)), f"The key `{_visible(key[:64])}` stands twice. Send it once."
            )
        seen.add(key)


def _require_single_list(body: bytes, events: list[bytes]) -> None:
    """Refuse `events` that stands twice: then the list that was read is not all that is in the body."""
    begin = _BATCH_BEGIN.match(body)
    at = begin.end() if begin else 0
    for n, event in enumerate(events):
        between = _BATCH_NEXT.match(body, at) if n else None
        at = between.end() if between else at
        if not body.startswith(event, at):
            break
        at += len(event)
    if not _BATCH_END.fullmatch(body, at):
        raise Invalid.at("/events", "The key `events` stands twice. Send it once.")


def _depth_over(data: bytes, limit: int) -> bool:
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    depth = deepest = 0
    for match in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if match[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest > limit


def _check_texts(event: PublishedEvent) -> None:
    errors = []
    metadata = event.metadata or {}
    if len(metadata) > MAX_METADATA_ENTRIES:
        errors.append(
            FieldError("/metadata", f"At most {MAX_METADATA_ENTRIES} entries; this has {len(metadata)}.")
        )
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_CHARS or len(value) > MAX_METADATA_CHARS:
            errors.append(
                FieldError(
                    pointer_to(("metadata", _visible(key[:64]))), f"At most {MAX_METADATA_CHARS} characters."
                )
            )
        if not _storable(key) or not _storable(value):
            errors.append(
                FieldError(
                    pointer_to(("metadata", _visible(key[:64]))), "The character U+0000 cannot be stored."
                )
            )
    if event.correlation_id is not None and not _storable(event.correlation_id):
        errors.append(FieldError("/correlation_id", "The character U+0000 cannot be stored."))
    if not _storable(event.application):
        errors.append(FieldError("/application", "The character U+0000 cannot stand in a name."))
    if errors:
        raise Invalid("The event breaks a rule; see `errors`.", errors=errors)


def _storable(text: str) -> bool:
    # Postgres' text cannot hold U+0000; a lone surrogate is no character at all.
    return "\0" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))


def _visible(text: str) -> str:
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()


def _read_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        value = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        value = None
    if value is None or value.tzinfo is None or not 1970 <= value.year <= 9000:  # noqa: PLR2004 - what Postgres and UUIDv7 hold
        raise Invalid.at(
            "/occurred_at", "Not an RFC 3339 time with a zone. Write it like 2026-01-31T12:00:00Z."
        )
    return value.astimezone(UTC)


def _content_hash(event: PublishedEvent, data: bytes) -> bytes:
    rest = msgspec.json.encode(
        (
            event.type,
            event.occurred_at,
            event.correlation_id,
            sorted(event.metadata.items()) if event.metadata else None,
            event.priority,
        )
    )
    digest = hashlib.sha256(rest)
    digest.update(b"\n")
    digest.update(data)
    return digest.digest()
