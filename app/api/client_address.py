"""Where a request comes from: the peer, or what the reverse proxies in front of the API say of it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from app.core.settings import Network


def address_of(request: Request) -> str | None:
    """Return the address that the request came from, for the record and for limits."""
    peer = request.client.host if request.client else None
    trusted: Collection[Network] = request.app.state.settings.trusted_proxies
    if not trusted or peer is None:
        return peer
    return believed_address(peer, request.headers.getlist("x-forwarded-for"), trusted=trusted)


def believed_address(peer: str, forwarded: list[str], *, trusted: Collection[Network]) -> str:
    """Return the last address that was not written by a proxy of ours.

    Each proxy appends whom it heard from, so only what stands to the right of the first stranger is true.
    """
    believed = peer
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
    while hops and _is_in(believed, trusted):
        following = _plain(hops.pop())
        if following is None:
            break
        believed = following
    return believed


def _is_in(address: str, networks: Collection[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def _plain(text: str) -> str | None:
    """Return an address of X-Forwarded-For without brackets and port, or None if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
