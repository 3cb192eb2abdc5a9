"""Reads one response after another from bytes, within bounds. No I/O: the connection feeds it.

The parser is llhttp (Node's), by httptools. A response is usable once its status line and header section are good:
what goes wrong after that is a note, because the status line decides. A head that the strict parser refuses is read
once more by a lenient one (folded lines, a length beside chunks, stray control characters), and the connection is
then not used again, so that nothing can be smuggled into the next answer.
"""

import time
from typing import NoReturn

import httptools

from workers.http1.limits import EngineLimits

SWITCHING_PROTOCOLS = 101
FIRST_FINAL_STATUS = 200
FIRST_INTERIM_STATUS = 100
HEADER_OVERHEAD = 4  # ": " and CRLF
RECEIVED_SHOWN = 1_024
# A body that comes a few bytes at a time would take twenty times its size as objects of their own.
MOST_PIECES = 256

_monotonic = time.monotonic


class BrokenHead(Exception):
    """What came is no status line and header section of HTTP/1; the message says why."""


class HeadTooLarge(Exception):
    """The status line or the header section is over its cap; the message says which."""


class ResponseReader:
    """The response to the request that is under way; `reset` it for the next one.

    `began_at` is when its first byte came (0.0 before; interim answers do not count), `keep_alive` whether the
    connection may carry another request once `feed` or `end` has returned True.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._header_bytes_cap = limits.header_bytes
        self._header_count_cap = limits.header_count
        self._body_cap = limits.body_bytes
        self._parser = httptools.HttpResponseParser(self)
        # A single LF ends a line (RFC 9112, 2.2).
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self._lenient = False
        self.reset()

    def reset(self, *, bodiless: bool = False) -> None:
        """Expect a new response; `bodiless` when the request was a HEAD."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.truncated = False
        self.note: str | None = None
        self.keep_alive = False
        self.head_done = False
        self.began_at = 0.0
        self._bodiless = bodiless
        self._complete = False
        self._refused: BrokenHead | HeadTooLarge | None = None
        self._fields = self.headers
        self._head_pieces: list[bytes] = []
        self._header_bytes = self._head_wire_bytes = self._interim_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = self._body_wire_bytes = 0

    @property
    def body(self) -> bytes:
        """What is kept of the body so far."""
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def received(self) -> bytes:
        """The first bytes that came, at most 1 KiB: what is shown when they are no HTTP."""
        return b"".join(self._head_pieces)[:RECEIVED_SHOWN]

    @property
    def http_version(self) -> str:
        """The version in the status line: "1.1" or "1.0"."""
        version: str = self._parser.get_http_version()
        return version

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the response is complete (then do not feed more).

        Raises BrokenHead or HeadTooLarge; `status` and the first `headers` are then as far as they were read.
        """
        if self.head_done:
            self._body_wire_bytes += len(data)
            self._parse(data)
            if not self._complete and self._body_wire_bytes > self._limits.body_wire_bytes:
                self.truncated = self._complete = True
        elif len(data) <= self._header_bytes_cap:
            self._feed_head(data)
        else:
            # In slices, so that a header section is refused before all of a large read is parsed.
            for start in range(0, len(data), self._header_bytes_cap):
                self._feed_head(data[start : start + self._header_bytes_cap])
        return self._complete

    def end(self) -> bool:
        """Take the end of the stream; return whether it was the proper end of the response."""
        if self.head_done and not self._complete and self._ends_with_stream():
            self._complete = True
        return self._complete

    def release(self) -> None:
        """Let go of the parser, which refers back to this reader; nothing can be read afterwards."""
        del self._parser

    # --- Called by the parser

    def on_message_begin(self) -> None:
        """Note the first byte of a response."""
        if self._complete:
            self.keep_alive = False  # Something follows the answer, unasked.
        else:
            self.began_at = _monotonic()

    def on_status(self, reason: bytes) -> None:
        """Count the reason phrase, which may come in pieces."""
        self._header_bytes += len(reason)
        if self._header_bytes > self._limits.status_line_bytes:
            self._refuse(f"The status line is longer than {self._limits.status_line_bytes:,} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or count a trailer."""
        size = self._header_bytes = self._header_bytes + len(name) + len(value) + HEADER_OVERHEAD
        if size > self._header_bytes_cap:
            self._refuse(f"The header section is larger than {self._header_bytes_cap:,} bytes.")
        if len(self._fields) >= self._header_count_cap:
            self._refuse(f"The answer has more than {self._header_count_cap} headers.")
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status: from here on the response is usable."""
        if self._complete:
            return
        self.status = self._parser.get_status_code()
        if self.status < FIRST_INTERIM_STATUS:
            self._refused = BrokenHead(f"The status {self.status:03} is no HTTP status.")
            raise self._refused
        self._fields = []  # Trailers are counted, and dropped.
        self._header_bytes = 0
        self.head_done = True
        if self._bodiless and self.status >= FIRST_FINAL_STATUS:
            self._complete = True

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body, up to its cap."""
        if self._complete:
            return
        room = self._body_cap - self._body_bytes
        if len(data) <= room:
            self._chunks.append(data)
            self._body_bytes += len(data)
            if len(self._chunks) == MOST_PIECES:
                self._chunks = [b"".join(self._chunks)]
        else:
            self._chunks.append(data[:room])
            self.truncated = self._complete = True

    def on_message_complete(self) -> None:
        """Complete the response, or drop an interim one."""
        if self._complete:
            return
        if self.status >= FIRST_FINAL_STATUS:
            self.keep_alive = not self._lenient and self._parser.should_keep_alive()
            self._complete = True
        elif self.status == SWITCHING_PROTOCOLS:
            self._refused = BrokenHead("The receiver switched protocols (101) without being asked to.")
            raise self._refused
        else:
            self._drop_interim()

    # --- Private

    def _drop_interim(self) -> None:
        self._interim_bytes += self._head_wire_bytes
        self.status = 0
        self.headers.clear()
        self._fields = self.headers
        self._header_bytes = self._head_wire_bytes = 0
        self.head_done = False

    def _feed_head(self, data: bytes) -> None:
        self._head_wire_bytes += len(data)
        self._head_pieces.append(data)
        self._parse(data)
        if self.head_done:
            return
        if self._head_wire_bytes > self._header_bytes_cap + self._limits.status_line_bytes:
            self.status = self._parser.get_status_code()
            raise HeadTooLarge(f"The header section is larger than {self._header_bytes_cap:,} bytes.")
        if self._interim_bytes > self._limits.interim_bytes:
            raise BrokenHead(f"More than {self._limits.interim_bytes:,} bytes of interim answers (1xx) came.")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._complete:
                return  # It is about what follows the answer; on_message_begin has seen that.
            if self._refused is not None:
                raise self._refused from None
            if isinstance(error, httptools.HttpParserCallbackError) and self.note is None:
                raise  # A fault of our own.
            if self.head_done:
                self.note = self.note or f"The body was broken: {_in_words(error)}."
                self._complete = True
            elif self._lenient:
                raise BrokenHead(f"The answer was not valid HTTP: {_in_words(error)}.") from None
            else:
                self._read_again_leniently()

    def _read_again_leniently(self) -> None:
        pieces = self._head_pieces
        self.reset(bodiless=self._bodiless)
        self._lenient = True
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_keep_alive=True,
            lenient_version=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        for piece in pieces:
            if not self._complete:
                self.feed(piece)

    def _refuse(self, message: str) -> NoReturn:
        if self.head_done:
            self.note = "The trailers were too large."
        else:
            self.status = self._parser.get_status_code()
            self._refused = HeadTooLarge(message)
        raise HeadTooLarge(message)

    def _ends_with_stream(self) -> bool:
        """Whether neither a length nor chunks mark the end of the body (RFC 9112, 6.3)."""
        coding = b""
        length = False
        for name, value in self.headers:
            lower = name.lower()
            if lower == b"transfer-encoding":
                coding = value
            elif lower == b"content-length":
                length = True
        if coding:
            return not coding.lower().rstrip().endswith(b"chunked")
        return not length


def _in_words(error: Exception) -> str:
    return str(error).rstrip(".") or "it ended the protocol"
