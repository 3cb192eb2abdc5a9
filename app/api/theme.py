"""The colours that a browser has chosen: a cookie, which every page follows; without it the system's are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.core.settings import Settings

# `__Host-`: the browser takes it over https only, for this host and all of its paths, and lets no other host set it.
SECURE_PREFIX = "__Host-"
THEME_COOKIE = "bellwire-theme"
THEMES = ("light", "dark")


def uses_https(request: Request) -> bool:
    """Tell whether people reach this server over https, by its public address: a proxy in front may end TLS."""
    settings: Settings = request.app.state.settings
    return settings.public_url.lower().startswith("https://")


def cookie_name(name: str, *, secure: bool) -> str:
    """Return a cookie's name; browsers refuse the prefix on plain http."""
    return SECURE_PREFIX + name if secure else name


def theme_of(request: Request) -> str | None:
    """Return the colours that this browser chose."""
    chosen = request.cookies.get(cookie_name(THEME_COOKIE, secure=uses_https(request)))
    return chosen if chosen in THEMES else None
