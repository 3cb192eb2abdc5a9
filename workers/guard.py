"""The egress guard at connect: resolve once, refuse when any address is forbidden, connect to a vetted one.

The rules are `app.core.egress`; they were applied when the URL was saved, and are applied again here because DNS
answers change (rebinding). What is refused opens no socket.
"""

from ipaddress import ip_address
from itertools import zip_longest

from app.core.egress import EgressDenied, EgressPolicy, parse_literal
from workers.http1.errors import BlockedAddress
from workers.resolver import Resolver

# What no policy may let through unless the operator opened that very range; one or two of every kind.
FORBIDDEN_ADDRESSES = (
    "127.0.0.1",
    "10.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "168.63.129.16",
    "0.0.0.0",  # noqa: S104 - to be refused, not to be bound
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
)
FORBIDDEN_TARGETS = (
    ("metadata.google.internal", 80),
    ("hidden.onion", 443),
    ("printer.local", 80),
    ("2130706433", 80),
    ("0x7f.1", 80),
    ("8.8.8.8", 22),
    ("8.8.8.8", 5432),
)


class EgressGuard:
    """Turns a host and a port into addresses that may be connected to."""

    def __init__(self, *, policy: EgressPolicy, resolver: Resolver) -> None:
        self.policy = policy
        self.resolver = resolver

    async def vet(self, host: str, *, port: int, deadline: float) -> list[str]:
        """Return the vetted addresses of `host` in the order to try them, families in turn.

        Raises BlockedAddress when the host, the port or any of its addresses is forbidden (the message says nothing
        of what is behind a name), DnsError, or EngineSaturated.
        """
        try:
            self.policy.check_target(host, port)
        except EgressDenied as denied:
            raise BlockedAddress(denied.reason) from None
        if parse_literal(host) is not None:
            return [host]
        addresses = await self.resolver.resolve(host, deadline=deadline)
        for address in addresses:
            try:
                self.policy.check_answer(address, port)
            except EgressDenied:
                raise BlockedAddress(
                    f"The host name {host} leads to an address that the egress policy forbids."
                ) from None
        return _families_in_turn(addresses)

    def probes(self) -> "list[tuple[EgressGuard, str, int]]":
        """Return what the start-up self-test must see refused: (guard, host, port).

        The addresses come twice: as literals, and behind a name whose look-up was made to answer them. Those in the
        ranges that the operator opened are left out; some targets no setting opens, so the list is never empty.
        """
        targets = [(self, host, port) for host, port in FORBIDDEN_TARGETS]
        for address in FORBIDDEN_ADDRESSES:
            if self.policy.is_opened(address):
                continue
            targets.append((self, address, 80))
            rebound = EgressGuard(policy=self.policy, resolver=_FixedResolver("93.184.216.34", address))
            targets.append((rebound, "rebinding.example.com", 443))
        return targets


class _FixedResolver:
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, *, deadline: float) -> list[str]:  # noqa: ARG002 - the protocol's shape
        return list(self._addresses)


def _families_in_turn(addresses: list[str]) -> list[str]:
    """Keep the resolver's order within a family, and let a broken family cost one try, not all of them."""
    first_version = ip_address(addresses[0]).version
    same = [address for address in addresses if ip_address(address).version == first_version]
    other = [address for address in addresses if ip_address(address).version != first_version]
    return [address for pair in zip_longest(same, other) for address in pair if address is not None]
