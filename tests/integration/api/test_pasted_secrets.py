"""A secret that somebody pasted where an id belongs is in no answer: answers are copied into tickets and logs."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from app.core.crypto import new_api_key
from tests.integration.api.conftest import INSTANCE_KEY
from tests.integration.api.walls.operations import operations_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

_PARAMETER = re.compile(r"\{\w+\}")
SECRETS = {
    "api key": new_api_key().text,
    "bootstrap key": "bw_bootstrap~key.of-another+installation",
    "signing secret": "whsec_" + b64encode(bytes(range(200, 232))).decode(),
    "ed25519 secret": "whsk_" + b64encode(bytes(range(32))).decode(),
}


@pytest.mark.parametrize("kind", SECRETS)
async def test_no_route_repeats_a_secret_in_its_path_or_query(
    app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str], kind: str
) -> None:
    """Every parameter of every route is given the secret, and no answer shows it, whatever it says."""
    secret, asked = SECRETS[kind], 0
    for operation in operations_of(app):
        # The routes of workspaces take the instance key only.
        key = {"Authorization": f"Bearer {INSTANCE_KEY}"} if "/workspaces" in operation.path else admin
        path = _PARAMETER.sub(quote(secret, safe=""), operation.path)
        for name in ("", *(place.name for place in operation.places_in("query"))):
            if not name and path == operation.path:
                continue
            query = {name: secret} if name else {}
            answer = await client.request(
                operation.method, path, params=query, json=operation.body, headers=key
            )
            assert answer.status_code not in {401, 403}, f"{operation}: {answer.text}"
            assert secret not in answer.text, f"{operation} {name}"
            assert quote(secret, safe="") not in answer.text, f"{operation} {name}"
            asked += 1
    assert asked > 50


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/api-keys", {"name": "k", "role": "viewer", "application": "SECRET"}),
        ("/v1/api-keys", {"name": "k", "role": "SECRET"}),
        ("/v1/api-keys", {"name": "k", "role": "viewer", "SECRET": 1}),
        ("/v1/events", {"application": "SECRET", "type": "a", "data": 1}),
        ("/v1/events", {"type": "SECRET", "data": 1, "SECRET": 1}),
        ("/v1/events/batch", {"events": [{"application": "SECRET", "type": "a", "data": 1}]}),
        ("/v1/endpoints", {"url": "https://example.com/", "application": "SECRET"}),
        ("/v1/endpoints", {"url": "https://example.com/", "signature": "SECRET"}),
        ("/v1/users", {"email": "SECRET", "role": "viewer"}),
    ],
)
async def test_no_problem_repeats_a_secret_of_the_body(
    client: httpx2.AsyncClient, admin: dict[str, str], kind: str, path: str, fields: dict[str, object]
) -> None:
    """Whether it stands for a name that is not there, a value that is not allowed, or a field that does not exist."""

    def put(value: object) -> object:
        if isinstance(value, dict):
            return {put(name): put(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [put(inner) for inner in value]
        return SECRETS[kind] if value == "SECRET" else value

    answer = await client.post(path, json=put(fields), headers=admin)
    assert "problems/" in answer.text
    assert SECRETS[kind] not in answer.text


@pytest.mark.parametrize("path", ["/SECRET", "/v1/SECRET", "/problems/SECRET", "/v1/applications/SECRET/x"])
@pytest.mark.parametrize("kind", SECRETS)
async def test_no_path_without_a_route_repeats_a_secret(
    client: httpx2.AsyncClient, admin: dict[str, str], kind: str, path: str
) -> None:
    """404 with the secret hidden in `instance`."""
    answer = await client.get(path.replace("SECRET", quote(SECRETS[kind], safe="")), headers=admin)
    assert answer.status_code == 404
    assert SECRETS[kind] not in answer.text
    assert "***" in answer.json()["instance"]


async def test_a_key_that_was_given_for_its_id_is_called_what_it_is(
    client: httpx2.AsyncClient, admin: dict[str, str]
) -> None:
    """Whoever wants to revoke a key has the key at hand, so the answer says what is needed instead."""
    answer = await client.delete(f"/v1/api-keys/{SECRETS['api key']}", headers=admin)
    assert answer.status_code == 404
    assert "the key itself" in answer.json()["detail"]
