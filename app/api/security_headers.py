"""Headers that every answer carries: what a browser may do with it, which is nothing at all unless a page says otherwise.

An answer that has one of these headers already keeps its own; docs/reference/headers.md lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Header = tuple[bytes, bytes]

# A year. Without includeSubDomains: other names of the domain are not ours to decide on.
_HSTS_SECONDS = 31_536_000
# What Bellwire's pages never ask for, and what nothing that is slipped into one may ask for either.
_FEATURES = (
    "accelerometer",
    "autoplay",
    "camera",
    "display-capture",
    "encrypted-media",
    "fullscreen",
    "geolocation",
    "gyroscope",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "picture-in-picture",
    "publickey-credentials-get",
    "screen-wake-lock",
    "usb",
    "xr-spatial-tracking",
)
_ALWAYS: tuple[Header, ...] = (
    # A page sets its own policy; all else is data and may load nothing.
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", ", ".join(f"{name}=()" for name in _FEATURES).encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # Answers hold what only this caller may see, and some hold a secret that is shown once.
    (b"cache-control", b"no-store"),
)
_OVER_TLS: Header = (b"strict-transport-security", f"max-age={_HSTS_SECONDS}".encode())


class SecurityHeaders:
    """The headers of one installation: `over_tls` where people reach it by https."""

    def __init__(self, *, over_tls: bool) -> None:
        self._defaults = (*_ALWAYS, _OVER_TLS) if over_tls else _ALWAYS
        self._names = frozenset(name for name, _ in self._defaults)

    def completed(self, headers: Iterable[Header]) -> list[Header]:
        """Return an answer's headers with those that it lacks."""
        given = list(headers)
        names = {name for name, _ in given}
        if names.isdisjoint(self._names):
            given.extend(self._defaults)
        else:
            given.extend(header for header in self._defaults if header[0] not in names)
        return given
