"""Logs: one line a thing that happened, with a static name and fields; JSON, or colours on a terminal.

Never in a log: payloads, secrets, API keys, query strings. What other libraries log comes out in the same form. Errors of
Postgres lose their DETAIL, in which the server repeats the row that it refused.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from app.core.clock import rfc3339_ms

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from app.core.settings import Settings

    EventDict = MutableMapping[str, Any]

# These say at INFO what Bellwire says itself, or what nobody wants to know.
_QUIET = ("uvicorn.access", "httpx2", "httpcore2", "alembic", "kombu", "amqp")
_HIDDEN = "[hidden]"
_SECRET_FIELDS = frozenset(
    {
        "secret",
        "password",
        "authorization",
        "api_key",
        "key",
        "token",
        "data",
        "payload",
        "body",
        "headers",
        "query",
    }
)
# Local variables of a traceback hold payloads and secrets: they stay out.
_TRACEBACKS = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
# Up to what SQLAlchemy adds after it, or to the end: a value in it may have any number of lines.
_DETAIL = re.compile(r"\nDETAIL:.*?(?=\n\[SQL:|\n\(Background on|\Z)", re.DOTALL)


def configure(settings: Settings, *, process: str, stream: TextIO | None = None) -> None:
    """Set logging up for this process (`api`, `worker`, `beat`, `cli`); a second call replaces the first."""
    out = stream or sys.stderr
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        _Stamp(process),
        hide_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: list[Any] = (
        [_TRACEBACKS, drop_details, structlog.processors.JSONRenderer(serializer=_as_json)]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=_plain_traceback),
        ]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def hide_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Blank out fields whose names say that they hold what must not be in a log: the last line of defence."""
    for name in event:
        if name in _SECRET_FIELDS:
            event[name] = _HIDDEN
    return event


def drop_details(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take the DETAIL of Postgres' errors out of texts and of rendered tracebacks."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _without_detail(value)
    exceptions = event.get("exception")
    for exception in exceptions if isinstance(exceptions, list) else ():
        exception["exc_value"] = _without_detail(exception["exc_value"])
        exception["exc_notes"] = [_without_detail(note) for note in exception.get("exc_notes", ())]
    return event


def _without_detail(text: str) -> str:
    return _DETAIL.sub("\nDETAIL: [hidden]", text) if "\nDETAIL:" in text else text


def _plain_traceback(out: TextIO, exc_info: Any) -> None:
    """Write a traceback for people, each exception of the chain without its DETAIL."""
    whole = io.StringIO()
    structlog.dev.plain_traceback(whole, exc_info)
    # Chained exceptions are divided by an empty line and a sentence.
    out.write("\n\n".join(_without_detail(part) for part in whole.getvalue().split("\n\n")))


class _Stamp:
    """Adds the time, in UTC, and which process speaks."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        event["at"] = rfc3339_ms(datetime.now(UTC))
        event["process"] = self._process
        return event


def _as_json(event: EventDict, **_: object) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
