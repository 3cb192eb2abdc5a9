"""The egress guard at connect time: resolve once, refuse when any address is forbidden, connect to a vetted one."""

from app.core.egress import EgressPolicy
from workers.resolver import Resolver


class EgressGuard:
    """Turns a host and port into addresses that may be connected to."""

    def __init__(self, *, policy: EgressPolicy, resolver: Resolver) -> None: ...

    async def vet(self, host: str, *, port: int, deadline: float) -> list[str]:
        """Return the vetted addresses in the order to try them; raises BlockedAddress, DnsError or EngineSaturated."""
        raise NotImplementedError
