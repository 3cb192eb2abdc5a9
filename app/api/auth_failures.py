"""How often one address may fail to authenticate: a 429 instead of a 401, where BELLWIRE_AUTH_FAILURES_PER_MINUTE is set.

Only failures count, and only failures are answered so: a valid key is never refused because others at its address (a
NAT, a proxy) guess or have a wrong one. The count lives in the process's memory; with n API processes an address may
fail n times as often.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from app.api.client_address import address_of
from app.api.problems import RateLimited
from app.core.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

# Addresses seen least recently are forgotten.
MAX_ADDRESSES = 10_000
# Whoever has one IPv6 address has all of its network.
IPV6_NETWORK_BITS = 64
_SECONDS = 60.0


class AuthFailures:
    """Counts failures by address. A limit of 0 limits nothing."""

    def __init__(self, *, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._monotonic = monotonic
        # What is left to each address, and since when.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def judge(self, error: Exception, request: Request) -> Exception:
        """Return the error that the caller is to see: `error` itself, or RateLimited for one failure too many.

        A request without the header is no guess, and is not counted.
        """
        if not isinstance(error, Unauthenticated) or self._per_minute <= 0 or not _has_key(request):
            return error
        address = _network_of(address_of(request) or "")
        now = self._monotonic()
        left, at = self._left.pop(address, (float(self._per_minute), now))
        rate = self._per_minute / _SECONDS
        left = min(float(self._per_minute), left + (now - at) * rate)
        refused = left < 1
        self._left[address] = (left if refused else left - 1, now)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        if not refused:
            return error
        wait = max(1, math.ceil((1 - left) / rate))
        return RateLimited(
            f"Too many requests from this address carried a key that is not valid. {error.detail} Wait {wait} s before "
            "the next try.",
            retry_after_seconds=wait,
            headers={},
        )


def _has_key(request: Request) -> bool:
    return any(name == b"authorization" for name, _ in request.scope["headers"])


def _network_of(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS))
    return text
