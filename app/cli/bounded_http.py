"""uvicorn's HTTP protocol, with a bound on the head of a request: neither it nor httptools has one.

Without it anybody, with no key, could send headers for ever and fill the memory of the API.
"""

from __future__ import annotations

from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import MEDIA_TYPE, as_problem
from app.core.errors import RequestError

# Request line and headers; 16 times what a request to this API needs, and what proxies let through.
MAX_HEAD_BYTES = 65_536
# What still comes of a body whose request was answered already, most often with a refusal: the client should see that.
MAX_REST_BYTES = 16_777_216


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 431 and closes when a head is not at its end after MAX_HEAD_BYTES."""

    _head_bytes = 0
    _rest_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; it is one read, so a head is over its bound by one read at most."""
        before = self.cycle
        # Asked before: these bytes may be the last ones of a body.
        in_body = before is not None and before.more_body
        super().data_received(data)
        cycle = self.cycle
        if cycle is not before:
            self._head_bytes = self._rest_bytes = 0
        elif not in_body:
            # No request has begun with these bytes, and they are no body.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse()
        elif cycle is not None and cycle.response_complete:
            self._rest_bytes += len(data)
            if self._rest_bytes > MAX_REST_BYTES:
                self.transport.close()

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        error = RequestError(
            f"The request line and the headers are longer than {MAX_HEAD_BYTES:,} bytes together. Send fewer and "
            "shorter headers.",
            slug="headers-too-large",
        )
        body = orjson.dumps(as_problem(error, instance="", request_id=""))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        if self.cycle is None or self.cycle.response_complete:
            # Else an answer is on its way, and this one would stand in the middle of it.
            self.transport.write(head.encode() + body)
        self.transport.close()
