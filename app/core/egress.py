"""Where a delivery may go: the address rules, pure. The same rules hold when a URL is saved and at connect."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


class EgressDenied(ValueError):
    """The policy forbids this target; `reason` is a sentence for the person who gave it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EgressPolicy:
    """The rules with the ranges that the operator opened."""

    def __init__(
        self, *, allow: Iterable[IPv4Network | IPv6Network] = (), own_hosts: Iterable[str] = ()
    ) -> None: ...

    def check_url(self, url: str) -> str:
        """Return the URL in the form that is stored and sent; raises EgressDenied."""
        raise NotImplementedError

    def check_address(self, address: str | IPv4Address | IPv6Address) -> None:
        """Raise EgressDenied unless the address may be connected to."""
        raise NotImplementedError

    def check_port(self, port: int) -> None:
        """Raise EgressDenied for a port that no webhook receiver has."""
        raise NotImplementedError

    def check_name(self, name: str) -> None:
        """Raise EgressDenied for a host name that is local by its form."""
        raise NotImplementedError
