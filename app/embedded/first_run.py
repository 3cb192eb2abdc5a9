"""What a newcomer finds ready: an endpoint for the demo receiver, made through the REST API like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    import httpx2

APPLICATION = "default"
DESCRIPTION = "Demo receiver"
PAGE_SIZE = 250


async def ensure_demo_endpoint(client: httpx2.AsyncClient, *, url: str, secret: str) -> str:
    """See to it that application `default` has an endpoint for the demo receiver; return its id.

    `client` carries the API's address and an admin key. Safe to repeat: a receiver that moved to another port
    takes its endpoint with it, and one whose secret was made anew tells the endpoint. An endpoint that a person
    has paused, disabled or subscribed to other types is left as it is.

    Raises EmbeddedError with what the API said, httpx2.HTTPError if it did not answer.
    """
    endpoint = await _find_endpoint(client, url=url)
    if endpoint is None:
        created = await _ask(
            client,
            "POST",
            "/v1/endpoints",
            {
                "application": APPLICATION,
                "url": url,
                "event_types": ["*"],
                "description": DESCRIPTION,
                "secret": secret,
            },
        )
        return str(created["id"])
    path = f"/v1/endpoints/{endpoint['id']}"
    if endpoint["url"] != url:
        await _ask(client, "PATCH", path, {"url": url})
    if (await _ask(client, "GET", f"{path}/secret"))["secret"] != secret:
        # No grace: the receiver knows the new one only.
        await _ask(client, "POST", f"{path}/secret/rotate", {"secret": secret, "grace_seconds": 0})
    return str(endpoint["id"])


async def _find_endpoint(client: httpx2.AsyncClient, *, url: str) -> dict[str, Any] | None:
    """Return the endpoint with our URL, or else the one that was made for an earlier port."""
    earlier = None
    cursor: str | None = None
    while True:
        page = await _ask(
            client,
            "GET",
            "/v1/endpoints",
            params={"application": APPLICATION, "limit": PAGE_SIZE, **({"cursor": cursor} if cursor else {})},
        )
        for endpoint in page["data"]:
            if endpoint["url"] == url:
                return dict(endpoint)
            if endpoint["description"] == DESCRIPTION:
                earlier = dict(endpoint)
        cursor = page["next_cursor"]
        if cursor is None:
            return earlier


async def _ask(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    params: dict[str, Any] | None = None,
) -> dict[str, Any]:
    response = await client.request(method, path, json=body, params=params)
    if not response.is_success:
        raise EmbeddedError(f"{method} {path} was answered with {response.status_code}: {_detail(response)}")
    return dict(response.json())


def _detail(response: httpx2.Response) -> str:
    """Return what a problem document says, or the beginning of whatever came instead."""
    try:
        problem = response.json()
        errors = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in problem.get("errors", ()))
        return f"{problem['detail']} {errors}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        return response.text[:300]
