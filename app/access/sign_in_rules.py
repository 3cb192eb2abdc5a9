"""How often somebody may fail to sign in: token buckets, refilled by time. Pure.

A lock would let a stranger keep the owner out. So a bucket only slows down, and a browser in which the person has
signed in before (it has a device cookie) draws from a bucket of its own, which no stranger can empty.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

# IPv6 is handed out by the /64: one customer has all addresses of it.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many failures at once, and then one more every so many seconds."""

    name: str
    burst: int
    seconds_each: float


# Mistyping one's own password a few times in a row costs no wait.
PAIR = Allowance("pair", burst=5, seconds_each=20)
# A whole office behind one address; a list of accounts tried from one machine.
ADDRESS = Allowance("address", burst=30, seconds_each=5)
# Many machines against one account: 4,400 guesses a day, whatever they are.
ACCOUNT = Allowance("account", burst=50, seconds_each=20)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left at some time."""

    tokens: float
    at: datetime


def left_now(bucket: Bucket | None, allowance: Allowance, *, now: datetime) -> float:
    """Return how many tokens there are now; a bucket that is not known is full."""
    if bucket is None:
        return float(allowance.burst)
    passed = max(0.0, (now - bucket.at).total_seconds())
    return min(float(allowance.burst), bucket.tokens + passed / allowance.seconds_each)


def seconds_to_wait(tokens: float, allowance: Allowance) -> int:
    """Return how long until there is a whole token: 0 if there is one."""
    return 0 if tokens >= 1 else max(1, math.ceil((1 - tokens) * allowance.seconds_each))


def network_of(address: str | None) -> str:
    """Return what counts as one place that requests come from."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return address or "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), _IPV6_PREFIX), strict=False))
    return str(found)


def bucket_key(allowance: Allowance, *parts: str) -> bytes:
    """Return the key of a bucket: a digest, for what people type for an address may be a password."""
    return hashlib.sha256("\x00".join((allowance.name, *parts)).encode("utf-8", "surrogatepass")).digest()
