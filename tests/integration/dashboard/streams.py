"""Streams of the dashboard, read as a browser reads them: httpx2's transport would wait for their end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from tests.integration.people.conftest import Browser

BOUND_SECONDS = 30.0


@dataclass(slots=True)
class Stream:
    """One stream that is open."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    _messages: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    _text: str = ""

    async def next(self) -> tuple[str, Any] | None:
        """Return the next event (name, data), or None when the stream has ended."""
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                while "\n\n" in self._text:
                    block, _, self._text = self._text.partition("\n\n")
                    fields = dict(
                        line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")
                    )
                    if "event" in fields:
                        return fields["event"], orjson.loads(fields["data"])
                message = await self._messages.get()
                self._text += message.get("body", b"").decode()
                if not message.get("more_body"):
                    return None

    async def start(self) -> None:
        """Wait for the head."""
        async with asyncio.timeout(BOUND_SECONDS):
            message = await self._messages.get()
        self.status = message["status"]
        self.headers = {name.decode(): value.decode() for name, value in message["headers"]}

    async def take(self, message: Any) -> None:
        """Take what the application sends."""
        await self._messages.put(message)


@asynccontextmanager
async def open_stream(
    app: FastAPI, browser: Browser, path: str, *, headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Open a stream with a browser's cookies; at the end the browser goes away."""
    request = browser.build_request("GET", path, headers=headers)
    gone = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    stream = Stream()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("127.0.0.1", 80),
        "client": ("192.0.2.7", 1234),
    }
    answering = asyncio.create_task(app(scope, receive, stream.take))
    try:
        await stream.start()
        yield stream
    finally:
        gone.set()
        async with asyncio.timeout(BOUND_SECONDS):
            await answering
