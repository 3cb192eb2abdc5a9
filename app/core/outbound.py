"""The egress policy as the settings make it: one for the API, which checks at save, and the workers, at connect."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.core.egress import EgressPolicy, parse_literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.core.settings import Settings

_DEFAULT_PORTS = {"http": 80, "https": 443}


def policy_of(settings: Settings) -> EgressPolicy:
    """Return the policy of this installation."""
    return EgressPolicy(
        allow=settings.egress_allow, deny=settings.egress_deny, own=tuple(_own_places(settings))
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host, a literal or a name, is this machine itself."""
    literal = parse_literal(host)
    return literal.is_loopback if literal is not None else host == "localhost"


def _own_places(settings: Settings) -> Iterator[tuple[str, int]]:
    """Yield the hosts and ports under which this service is reached: its public address, and where it listens."""
    public = urlsplit(settings.public_url)
    if public.hostname:
        yield public.hostname, public.port or _DEFAULT_PORTS.get(public.scheme, 0)
    listens = parse_literal(settings.host)
    if listens is not None and listens.is_unspecified:
        yield "localhost", settings.port
    else:
        yield settings.host, settings.port
