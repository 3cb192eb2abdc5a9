"""Pages from templates. Whatever is put into one is escaped, and a name that is missing is a fault, not a gap."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from app.core.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

STYLE_PATH = "/static/app.css"

_FOLDERS = [str(files("app.api") / "templates")]
_GLOBALS: dict[str, object] = {}
_FILTERS: dict[str, Callable[..., object]] = {}


def extend(*, folder: str, names: dict[str, object], filters: dict[str, Callable[..., object]]) -> None:
    """Let a package bring templates, and what they use. Call it at import, before the first page is made."""
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)
    _GLOBALS.update(names)
    _FILTERS.update(filters)
    _environment.cache_clear()


def render(name: str, **values: object) -> str:
    """Return a page."""
    return _environment().get_template(name).render(values)


@lru_cache(maxsize=1)
def style() -> bytes:
    """Return the style of all pages."""
    return (files("app.api") / "static" / "app.css").read_bytes()


@lru_cache(maxsize=1)
def style_address() -> str:
    """Return where the style is: another address for other content, so that browsers may keep it for ever."""
    return f"{STYLE_PATH}?v={hashlib.sha256(style()).hexdigest()[:12]}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in _FOLDERS]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["style"] = style_address
    environment.filters["exact"] = rfc3339
    environment.filters["shown"] = _shown
    environment.globals.update(_GLOBALS)
    environment.filters.update(_FILTERS)
    return environment


def _shown(value: datetime) -> str:
    """Return a time for people: to the minute, in UTC."""
    return value.strftime("%d %b %Y, %H:%M UTC").lstrip("0")
