"""The kept connections, by origin, and the bound on all of them. Nothing here waits."""

from collections import OrderedDict

from workers.http1.connection import Connection
from workers.http1.errors import EngineSaturated
from workers.http1.limits import EngineLimits


class Origin:
    """What is open towards one scheme, host and port."""

    __slots__ = ("idle", "in_flight", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.in_flight = 0
        self.idle: list[Connection] = []


class ConnectionPool:
    """Takes the connection that was used last, so that those not needed grow old and close."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._origins: dict[str, Origin] = {}
        # All idle connections, the longest idle first.
        self._idle: OrderedDict[Connection, Origin] = OrderedDict()
        self._open: set[Connection] = set()
        self._opening = 0

    def begin(self, key: str) -> Origin:
        """Count a request to the origin; `finish` takes it back."""
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin(key)
        origin.in_flight += 1
        return origin

    def finish(self, origin: Origin) -> None:
        """Take back what `begin` counted."""
        origin.in_flight -= 1
        if not origin.in_flight and not origin.idle:
            self._origins.pop(origin.key, None)

    def take(self, origin: Origin, now: float) -> Connection | None:
        """Return a kept connection that is still good, or None."""
        idle = origin.idle
        while idle:
            connection = idle.pop()
            del self._idle[connection]
            if not connection.is_stale(now):
                return connection
            connection.abort()
        return None

    def put(self, origin: Origin, connection: Connection, now: float) -> None:
        """Keep a connection for the next request, or close one that is over a bound."""
        if len(origin.idle) >= self._limits.max_idle_per_origin:
            connection.abort()
            return
        if len(self._idle) >= self._limits.max_idle:
            self._close_longest_idle()
        origin.idle.append(connection)
        self._idle[connection] = origin
        connection.keep(now)

    def reserve(self) -> None:
        """Make room for a new connection, at the cost of an idle one; raises EngineSaturated when all are busy."""
        if len(self._open) + self._opening >= self._limits.max_connections:
            if not self._idle:
                raise EngineSaturated(
                    f"All {self._limits.max_connections:,} connections of this worker are busy. "
                    "Give it fewer slots, or start another worker."
                )
            self._close_longest_idle()
        self._opening += 1

    def opened(self, connection: Connection | None) -> None:
        """Take back what `reserve` counted, and count the connection if there is one."""
        self._opening -= 1
        if connection is not None and not connection.closed:
            self._open.add(connection)

    def forget(self, connection: Connection) -> None:
        """Strike out a connection that has closed."""
        self._open.discard(connection)
        origin = self._idle.pop(connection, None)
        if origin is not None:
            origin.idle.remove(connection)
            if not origin.in_flight and not origin.idle:
                self._origins.pop(origin.key, None)

    def close(self) -> None:
        """Close all connections, also those in use."""
        for connection in tuple(self._open):
            connection.abort()

    def in_flight(self, key: str) -> int:
        """Return how many requests to the origin are under way."""
        origin = self._origins.get(key)
        return origin.in_flight if origin is not None else 0

    @property
    def total_in_flight(self) -> int:
        """How many requests are under way."""
        return sum(origin.in_flight for origin in self._origins.values())

    @property
    def idle(self) -> int:
        """How many connections are kept."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """How many connections are open or being opened."""
        return len(self._open) + self._opening

    def _close_longest_idle(self) -> None:
        connection, origin = self._idle.popitem(last=False)
        origin.idle.remove(connection)
        connection.abort()
