"""Where a request goes: an endpoint's URL, parsed once and kept as the bytes that are sent."""

import httpx2
import msgspec

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535


class Target(msgspec.Struct, kw_only=True, frozen=True):
    """A parsed URL; make it with `from_url` and keep it with the endpoint's settings.

    `host` is in ASCII without brackets (IDNA names in their `xn--` form), `path` is the request target with its
    query, `origin` is the key of the connection pool, `host_header` is the value of `Host`, `post_head` is the start
    of a POST: request line, `host` and `accept-encoding`.
    """

    scheme: str
    host: str
    port: int
    path: bytes
    origin: str
    host_header: bytes
    post_head: bytes

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @classmethod
    def from_url(cls, url: str | httpx2.URL) -> "Target":
        """Parse an http or https URL; ValueError when it is none (egress rules are checked at connect, not here)."""
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"The URL cannot be parsed: {error}") from error
        if parsed.scheme not in DEFAULT_PORTS or not parsed.raw_host:
            raise ValueError("The URL is not an http or https URL with a host.")
        if parsed.port is not None and not 0 < parsed.port <= MAX_PORT:
            # httpcore2 takes 0 for the scheme's own port.
            raise ValueError("The URL's port is not between 1 and 65535.")
        return cls.from_parts(
            scheme=parsed.scheme,
            host=parsed.raw_host.decode("ascii").removesuffix("."),
            port=parsed.port,
            path=parsed.raw_path,
        )

    @classmethod
    def from_parts(cls, *, scheme: str, host: str, port: int | None = None, path: bytes = b"/") -> "Target":
        """Make a target from parts that are already in their sent form; the port defaults to the scheme's."""
        actual_port = port if port is not None else DEFAULT_PORTS[scheme]
        bracketed = f"[{host}]" if ":" in host else host
        host_header = (
            bracketed if actual_port == DEFAULT_PORTS[scheme] else f"{bracketed}:{actual_port}"
        ).encode()
        return cls(
            scheme=scheme,
            host=host,
            port=actual_port,
            path=path,
            origin=f"{scheme}://{bracketed}:{actual_port}",
            host_header=host_header,
            post_head=b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % (path, host_header),
        )
