"""Where a delivery may go: the egress policy, pure (no look-ups, no sockets).

The same rules hold twice: for the person who saves a URL, and at connect for every resolved address, because DNS
answers change. The lists are our own: `ipaddress.is_global` of Python 3.11 calls 64:ff9b::7f00:1 (127.0.0.1 behind
NAT64), 2002:7f00:1::1, ::7f00:1, fec0::1 and 224.0.0.1 global.
"""

import re
import unicodedata
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx2

MAX_URL_LENGTH = 2_048
MAX_NAME_LENGTH = 253
MAX_PORT = 65_535
FIRST_UNPRIVILEGED_PORT = 1_024

DENIED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
ALLOWED_IPV6 = IPv6Network("2000::/3")
DENIED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
NAT64 = IPv6Network("64:ff9b::/96")
# The upper half of an ISATAP interface id, for a private and for a global IPv4 address behind it (RFC 5214).
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
IPV4_LOOPBACK = IPv4Address("127.0.0.1")
IPV6_LOOPBACK = IPv6Address("::1")

DENIED_SUFFIXES = ("localhost", "internal", "local", "onion")
# Unprivileged ports of databases, brokers, caches and cluster control planes.
DENIED_PORTS = frozenset(
    {
        *(1433, 1434),  # SQL Server
        *(1521, 1522),  # Oracle
        *(1883, 8883),  # MQTT
        2049,  # NFS
        *(2181, 2888, 3888),  # ZooKeeper
        *(2375, 2376, 2377),  # Docker
        *(2379, 2380),  # etcd
        *(3306, 33060),  # MySQL
        *(3389, 5900),  # remote desktops
        4222,  # NATS
        *(4369, 25672),  # Erlang distribution, RabbitMQ
        *(5432, 5433, 6432),  # Postgres, PgBouncer
        *(5671, 5672, 15671, 15672, 61613, 61614, 61616),  # RabbitMQ, ActiveMQ
        5984,  # CouchDB
        *(6379, 6380, 16379, 26379),  # Redis, Valkey
        *(6443, 10250, 10255),  # Kubernetes
        *(7000, 7001, 7199, 9042, 9160),  # Cassandra
        *(8086, 8088),  # InfluxDB
        *(8300, 8301, 8302, 8500, 8501),  # Consul
        *(9092, 9093, 9094),  # Kafka
        *(9200, 9300),  # Elasticsearch
        11211,  # memcached
        *(27017, 27018, 27019),  # MongoDB
    }
)

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What getaddrinfo and browsers read as an IPv4 address although it is not in dotted-decimal form.
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AUTHORITY = re.compile(r"[^:/?#]*://([^/?#]*)")
# What follows the host; `int` would also take a sign, spaces, and digits of other scripts.
_PORT = re.compile(r":(?!\d{0,5}$)[^:\]]*$", re.ASCII)
_PUNYCODE = "xn--"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOCALHOST = "localhost"
_FORBIDDEN = "The address is private, reserved or forbidden."
_OURSELVES = "The host is this service itself: a delivery to it would be a loop."

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class EgressDenied(ValueError):
    """The policy forbids this target; `reason` is a sentence for the person who gave it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EgressPolicy:
    """The rules, with the ranges that the operator opened and closed; `app.core.outbound` makes it from the settings.

    `allow` are the ranges of `BELLWIRE_EGRESS_ALLOW`: an address inside one may be connected to although the lists
    deny it; ports and names stay as they are, but that `localhost` is no longer denied once 127.0.0.1 is allowed.
    `deny` are the ranges of `BELLWIRE_EGRESS_DENY`, which win over all else.
    `own` are the hosts and ports under which this service is reached: a delivery to ourselves is a loop. A name is
    denied on every port, an address on that port only, because others may live on it too.
    """

    def __init__(
        self,
        *,
        allow: Iterable[Network] = (),
        deny: Iterable[Network] = (),
        own: Iterable[tuple[str, int]] = (),
    ) -> None:
        self._allow_ipv4, self._allow_ipv6 = _by_version(allow)
        self._deny_ipv4, self._deny_ipv6 = _by_version(deny)
        names, addresses = set(), set()
        for host, port in own:
            literal = parse_literal(host)
            if literal is not None:
                addresses.add((literal, port))
            elif host != _LOCALHOST:
                names.add(host.lower().rstrip("."))
            else:
                # Everybody's name: only our port on it is ours.
                addresses |= {(IPV4_LOOPBACK, port), (IPV6_LOOPBACK, port)}
        self._own_names = frozenset(names)
        self._own_addresses = frozenset(addresses)
        self._localhost_allowed = any(IPV4_LOOPBACK in network for network in self._allow_ipv4)

    def check_url(self, url: str) -> str:
        """Return the URL in the form that is stored and sent; checking that form again returns it unchanged.

        It is parsed by the parser that sends (httpx2). Raises EgressDenied, whose reason says what to change.
        """
        if len(url) > MAX_URL_LENGTH:
            raise EgressDenied(f"The URL is longer than {MAX_URL_LENGTH:,} characters.")
        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise EgressDenied("This is not a URL; it must look like https://example.com/path.") from error
        if parsed.scheme not in _DEFAULT_PORTS:
            raise EgressDenied("The URL must begin with http:// or https://.")
        authority = _AUTHORITY.match(url)
        if authority is not None and "@" in authority[1]:
            raise EgressDenied("The URL may not hold a user name or password; use the endpoint's headers.")
        if "#" in url:
            raise EgressDenied("The URL may not have a fragment (#...): it would not be sent.")
        host = parsed.raw_host.decode("ascii")
        if not host:
            raise EgressDenied("The URL has no host name.")
        if authority is not None and _PORT.search(authority[1]):
            raise EgressDenied(f"The port must be a number between 1 and {MAX_PORT}.")
        self.check_target(host, _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port)
        normal = str(parsed)
        if len(normal) > MAX_URL_LENGTH:
            raise EgressDenied(f"The URL is longer than {MAX_URL_LENGTH:,} characters once it is encoded.")
        return normal

    def check_target(self, host: str, port: int) -> None:
        """Raise EgressDenied unless `host`, an address without brackets or a name, may be a target on this port."""
        self.check_port(port)
        literal = parse_literal(host)
        if literal is not None:
            self.check_answer(literal, port)
            return
        self.check_name(host)
        if host.lower().removesuffix(".") == _LOCALHOST and (IPV4_LOOPBACK, port) in self._own_addresses:
            raise EgressDenied(_OURSELVES)

    def check_answer(self, address: str | Address, port: int) -> None:
        """Raise EgressDenied unless the address, a literal or what a name led to, may be connected to on this port."""
        self.check_address(address)
        literal = parse_literal(address) if isinstance(address, str) else address
        if isinstance(literal, IPv6Address):
            literal = literal.ipv4_mapped or _nat64_inner(literal) or literal
        if (literal, port) in self._own_addresses:
            raise EgressDenied(_OURSELVES)

    def check_address(self, address: str | Address) -> None:
        """Raise EgressDenied unless the address may be connected to; text that is no address is denied too."""
        literal = parse_literal(address) if isinstance(address, str) else address
        if literal is None:
            raise EgressDenied("This is not an IP address.")
        if isinstance(literal, IPv6Address):
            self._check_ipv6(literal)
        elif _within(literal, self._deny_ipv4) or (
            not _within(literal, self._allow_ipv4) and _within(literal, DENIED_IPV4)
        ):
            raise EgressDenied(_FORBIDDEN)

    def check_port(self, port: int) -> None:
        """Raise EgressDenied for a port that no webhook receiver has."""
        if not 0 < port <= MAX_PORT:
            raise EgressDenied(f"The port must be between 1 and {MAX_PORT}.")
        if (port < FIRST_UNPRIVILEGED_PORT and port not in _DEFAULT_PORTS.values()) or port in DENIED_PORTS:
            raise EgressDenied(f"Port {port} is forbidden: it belongs to another kind of service.")

    def check_name(self, name: str) -> None:
        """Raise EgressDenied for a host name that is malformed, local by its form, or our own."""
        plain = name.lower().removesuffix(".")
        labels = plain.split(".")
        if len(plain) > MAX_NAME_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
            raise EgressDenied("The host name is not a legal DNS name.")
        if any(_is_dressed_up(label) for label in labels):
            raise EgressDenied("The host name hides plain letters behind xn--; write them as they are.")
        if _NUMERIC.fullmatch(labels[-1]):
            raise EgressDenied("The host looks like an IP address but is not one in its usual form.")
        if labels[-1] in DENIED_SUFFIXES and not (labels[-1] == _LOCALHOST and self._localhost_allowed):
            raise EgressDenied(f"Names that end in `{labels[-1]}` are local and are forbidden.")
        if plain in self._own_names:
            raise EgressDenied(_OURSELVES)

    def is_opened(self, address: str) -> bool:
        """Return whether the operator's ranges hold the address (for v4-mapped and NAT64, the IPv4 inside)."""
        literal = parse_literal(address)
        if isinstance(literal, IPv6Address):
            inner = literal.ipv4_mapped or _nat64_inner(literal)
            if inner is None:
                return _within(literal, self._allow_ipv6)
            literal = inner
        return isinstance(literal, IPv4Address) and _within(literal, self._allow_ipv4)

    def _check_ipv6(self, address: IPv6Address) -> None:
        if address.scope_id is not None:
            raise EgressDenied("An address with a scope id (%) is forbidden.")
        if _within(address, self._deny_ipv6):
            raise EgressDenied(_FORBIDDEN)
        inner = address.ipv4_mapped or _nat64_inner(address)
        if inner is not None:
            self.check_address(inner)
            return
        if _within(address, self._allow_ipv6):
            return
        if address not in ALLOWED_IPV6 or _within(address, DENIED_IPV6):
            raise EgressDenied(_FORBIDDEN)
        if (int(address) >> 32) & 0xFFFF_FFFF in ISATAP:
            self.check_address(IPv4Address(int(address) & 0xFFFF_FFFF))


def parse_literal(host: str) -> Address | None:
    """Return the address that `host` (without brackets) is, or None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_dressed_up(label: str) -> bool:
    """Return whether a punycode label stands for plain ASCII in other clothes (circled or full-width letters)."""
    if not label.startswith(_PUNYCODE):
        return False
    try:
        shown = label.removeprefix(_PUNYCODE).encode("ascii").decode("punycode")
    except (ValueError, OverflowError):
        return True
    return unicodedata.normalize("NFKC", shown).isascii()


def _by_version(networks: Iterable[Network]) -> tuple[tuple[IPv4Network, ...], tuple[IPv6Network, ...]]:
    found = tuple(networks)
    return (
        tuple(network for network in found if isinstance(network, IPv4Network)),
        tuple(network for network in found if isinstance(network, IPv6Network)),
    )


def _nat64_inner(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else None


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
