"""The bytes of a request head: header lines are checked here, so that nothing can add a line of its own."""

import re
from collections.abc import Iterable

from workers.http1.target import Target

# RFC 9110: a name is a token; a value has no control character but tab, and no space at its ends.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")


def encode_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    r"""Return the header lines, each with its CRLF; ValueError names the first header that is not legal.

    The result may be kept and joined with others: `static + encode_headers(...)`.
    """
    lines = []
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(
                f"The header {name!r} is not legal: a token as its name, no control characters in it."
            )
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def encode_head(method: bytes, *, target: Target, lines: bytes, body_length: int) -> bytes:
    """Return the whole head of a request; ValueError when the method is no token."""
    if not _NAME.fullmatch(method):
        raise ValueError(f"The method {method!r} is not legal.")
    return b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%bcontent-length: %d\r\n\r\n" % (
        method,
        target.path,
        target.host_header,
        lines,
        body_length,
    )
