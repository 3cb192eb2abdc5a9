"""Where a request comes from when proxies stand in front."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from app.api.client_address import believed_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # A stranger's word about itself is worth nothing.
        ("203.0.113.9", ["192.0.2.1"], "203.0.113.9"),
        ("203.0.113.9", [], "203.0.113.9"),
        # Our proxy appends whom it heard from; what stands before that is the caller's own writing.
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["10.9.9.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["1.1.1.1", "192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("2001:db8::1", ["192.0.2.1"], "192.0.2.1"),
        ("unix", ["192.0.2.1"], "unix"),
    ],
)
def test_only_what_our_proxies_wrote_is_believed(peer: str, forwarded: list[str], expected: str) -> None:
    """From the right, as far as the addresses are those of trusted proxies."""
    assert believed_address(peer, forwarded, trusted=TRUSTED) == expected
