"""Server-Sent Events: the form that FastAPI gives them, for streams that end when the server says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

    from app.dashboard.live.watch import Listener

# Proxies end a connection on which nothing was said for a minute, most often.
HEARTBEAT_SECONDS = 15.0
# How long a browser waits before it asks again after a stream has ended.
RETRY_MS = 3_000
HEADERS = {
    "Cache-Control": "no-store",
    # nginx would gather what is said until a buffer is full.
    "X-Accel-Buffering": "no",
}


class LeavingResponse(EventSourceResponse):
    """A stream that says when it is over, however it ended; also when the browser was gone before it began."""

    def __init__(self, content: AsyncIterator[bytes], *, leave: Callable[[], None]) -> None:
        super().__init__(content, headers=HEADERS)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def say_changes(listener: Listener) -> AsyncIterator[bytes]:
    """Yield which topics have changed, each time some have; `gone` says that nobody is signed in any more."""
    yield event("ready", {"topics": [topic.text for topic in listener.topics]}, retry=RETRY_MS)
    while not listener.over:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                topics = await listener.wait()
        except TimeoutError:
            yield KEEPALIVE_COMMENT
            continue
        if topics and not listener.over:
            yield event("changed", {"topics": topics})
    if listener.signed_out:
        yield event("gone", {})


def event(name: str, data: object, *, retry: int | None = None, place: int | None = None) -> bytes:
    """Return one event as it travels; a browser whose connection broke says the last `place` that it was told."""
    return format_sse_event(
        event=name,
        data_str=orjson.dumps(data).decode(),
        retry=retry,
        id=str(place) if place is not None else None,
    )
