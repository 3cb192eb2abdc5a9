"""DNS look-ups that cannot hold each other up: own threads, a deadline, a cache."""

from typing import Protocol


class Resolver(Protocol):
    """Anything that turns a name into addresses."""

    async def resolve(self, host: str, *, deadline: float) -> list[str]:
        """Return the IPv4 and IPv6 addresses of `host` as text; raises DnsError or EngineSaturated."""


class ThreadResolver:
    """The system's resolver (getaddrinfo) in daemon threads of its own."""

    async def resolve(self, host: str, *, deadline: float) -> list[str]:
        """Return the addresses, from the cache while it is fresh."""
        raise NotImplementedError

    def close(self) -> None:
        """Let the threads end."""
