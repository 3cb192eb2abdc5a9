"""Makes endpoints, events and results for tests of the API: through the API and the workers' own statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from app.core import ids
from app.deliveries.claim import claim
from app.deliveries.record import TRIGGERS, Finished, Settle, record

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2
    from fastapi import FastAPI

    from app.deliveries.claim import Claimed

URL = "https://shop.example.com/webhooks"


@dataclass(frozen=True, slots=True)
class Traffic:
    """The application under test, seen from its callers and from a worker."""

    app: FastAPI
    client: httpx2.AsyncClient
    headers: dict[str, str]

    async def endpoint(self, **fields: Any) -> dict[str, Any]:
        """Make an endpoint."""
        return await self.post("/v1/endpoints", {"url": URL} | fields, status=201)

    async def publish(self, event_type: str = "order.placed", **fields: Any) -> dict[str, Any]:
        """Publish an event."""
        return await self.post("/v1/events", {"type": event_type, "data": {"n": 1}} | fields, status=202)

    async def get(self, path: str, *, status: int = 200) -> Any:
        """GET, and check the status."""
        answer = await self.client.get(path, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, *, status: int) -> Any:
        """POST, and check the status."""
        answer = await self.client.post(path, json=body, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def delivery_of(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the one delivery of an event."""
        (found,) = (await self.get(f"/v1/events/{event['id']}/deliveries"))["data"]
        return found

    async def claim(self, endpoint: dict[str, Any], *, most: int = 10) -> list[Claimed]:
        """Lease what an endpoint has, as a worker does."""
        async with self.app.state.runtime.engine.begin() as connection:
            claimed, _ = await claim(
                connection, [(uuid_of(endpoint), most)], margin_seconds=10, worker="worker-1:1"
            )
        return claimed

    async def finish(self, claimed: Claimed, settle: Settle = Settle.SUCCEEDED, **fields: Any) -> None:
        """Record a result, as a worker does."""
        await self.finish_all([claimed], settle, **fields)

    async def finish_all(
        self, claimed: list[Claimed], settle: Settle = Settle.SUCCEEDED, **fields: Any
    ) -> None:
        """Record results in one transaction."""
        finished = [self._finished(each, settle, **fields) for each in claimed]
        async with self.app.state.runtime.engine.begin() as connection:
            await record(connection, finished)

    def _finished(self, claimed: Claimed, settle: Settle, **fields: Any) -> Finished:
        runtime = self.app.state.runtime
        succeeded = settle is Settle.SUCCEEDED
        defaults: dict[str, Any] = {
            "outcome": "succeeded" if succeeded else "failed",
            "response_status": 200 if succeeded else 503,
            "error_class": None if succeeded else "http_5xx",
            "error_message": None if succeeded else "The receiver failed while it handled the request.",
            "delay_seconds": 60.0 if settle is Settle.RETRY else None,
            "duration_ms": 12.5,
            "event_type": "order.placed",
            "request_url": URL,
            "request_headers": orjson.dumps([["webhook-id", "evt_x"], ["authorization", "***"]]),
        }
        return Finished(
            id=claimed.id,
            token=claimed.token,
            settle=settle,
            endpoint_id=claimed.endpoint_id,
            workspace_id=claimed.workspace_id,
            application_id=claimed.application_id,
            event_id=claimed.event_id,
            attempt_id=ids.uuid7(runtime.clock.unix_ms()),
            number=claimed.attempt_count + 1,
            trigger=TRIGGERS[claimed.trigger],
            test=claimed.trigger == TRIGGERS.index("test"),
            counts=claimed.trigger != TRIGGERS.index("test"),
            started_at=runtime.clock.now(),
            worker="worker-1:1",
            **(defaults | fields),
        )

    async def attempt(
        self, endpoint: dict[str, Any], settle: Settle = Settle.SUCCEEDED, **fields: Any
    ) -> None:
        """Claim one delivery of an endpoint and record its result."""
        (claimed,) = await self.claim(endpoint, most=1)
        await self.finish(claimed, settle, **fields)


def uuid_of(shown: dict[str, Any]) -> UUID:
    """Return the UUID of an object that the API showed."""
    prefix = shown["id"].partition("_")[0]
    found = ids.from_text(prefix, shown["id"])
    assert found is not None
    return found
