"""The page of API keys: for admins, each key once, and what is done with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

KEY = re.compile(r'<code id="shown">(bw_[^<]+)</code>')
FORM = {"name": "Shop backend", "role": "publisher", "application": "", "expires": ""}


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_keys_are_for_admins(role: str, browse_as: BrowseAs, traffic: Traffic) -> None:
    """Others see no page, and their forms are refused."""
    made = await traffic.post("/v1/api-keys", {"name": "Shop", "role": "publisher"}, status=201)
    browser = await browse_as(role)

    assert (await browser.get("/dashboard/keys")).status_code == 403
    assert (await browser.get("/dashboard/keys/new")).status_code == 403
    for target in ("", f"/{made['id']}/rotate", f"/{made['id']}/revoke"):
        answer = await browser.submit(f"/dashboard/keys{target}", at="/dashboard/", **FORM)
        assert answer.status_code == 403
        assert "nothing was done" in answer.text
    assert made["id"] in {key["id"] for key in (await traffic.get("/v1/api-keys"))["data"]}


async def test_a_key_of_another_workspace_is_not_there(
    owner: Browser, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """It is in no list, and nothing can be done with its id."""
    body = {"name": "Theirs alone", "role": "viewer"}
    made = (await client.post("/v1/api-keys", json=body, headers=other_admin)).json()

    assert "Theirs alone" not in (await owner.get("/dashboard/keys")).text
    for what in ("rotate", "revoke"):
        answer = await owner.submit(f"/dashboard/keys/{made['id']}/{what}", at="/dashboard/keys/new")
        assert answer.status_code == 404


async def test_faults_stand_at_their_fields(owner: Browser, traffic: Traffic) -> None:
    """What was typed stays, and no key is made."""
    before = await traffic.get("/v1/api-keys")
    for field, typed in (
        ("name", ""),
        ("role", "owner"),
        ("application", "nobody"),
        ("expires", "tomorrow"),
    ):
        wrong = FORM | {"name": "Kept"} | {field: typed}
        answer = await owner.submit("/dashboard/keys", at="/dashboard/keys/new", **wrong)
        assert answer.status_code == 422, field
        assert f'id="{field}-fault"' in answer.text
        assert f'value="{wrong["name"]}"' in answer.text
    assert await traffic.get("/v1/api-keys") == before


async def test_a_new_key_is_shown_once_with_a_command_that_works(
    browse_as: BrowseAs, client: httpx2.AsyncClient, traffic: Traffic
) -> None:
    """On the page after the form; loaded again it is gone; the list says who made it."""
    admin = await browse_as("admin")

    answer = await admin.submit("/dashboard/keys", at="/dashboard/keys/new", **(FORM | {"expires": "30"}))
    where = answer.headers["location"]
    page = (await admin.get(where)).text

    found = KEY.search(page)
    assert found is not None
    key = found[1]
    assert f"Authorization: Bearer {key}" in page
    headers = {"Authorization": f"Bearer {key}"}
    body = {"type": "order.placed", "data": {}}
    assert (await client.post("/v1/events", json=body, headers=headers)).status_code == 202
    again = (await admin.get(where)).text
    assert key not in again
    assert "Your new key" not in again
    assert f"bw_{key.split('_')[1]}_…" in again
    assert "by admin@example.com" in again
    assert key not in str(await traffic.get("/v1/audit-log"))


async def test_a_rotated_key_works_beside_the_new_one(
    owner: Browser, client: httpx2.AsyncClient, traffic: Traffic
) -> None:
    """Until its overlap ends, which the list shows; an overlap that is not offered rotates nothing."""
    made = await traffic.post("/v1/api-keys", {"name": "Shop", "role": "viewer"}, status=201)
    path = f"/dashboard/keys/{made['id']}/rotate"
    assert (await owner.submit(path, at="/dashboard/keys", overlap="5")).status_code == 422

    answer = await owner.submit(path, at="/dashboard/keys", overlap="3600")
    page = (await owner.get(answer.headers["location"])).text

    found = KEY.search(page)
    assert found is not None
    for key in (found[1], made["key"]):
        read = await client.get("/v1/endpoints", headers={"Authorization": f"Bearer {key}"})
        assert read.status_code == 200
    assert "in 59 min" in page or "in 1 h" in page
    assert page.count("by owner@example.com") == 1


async def test_a_revoked_key_opens_nothing(
    owner: Browser, client: httpx2.AsyncClient, traffic: Traffic
) -> None:
    """From then on; a second time there is none."""
    made = await traffic.post("/v1/api-keys", {"name": "Shop", "role": "viewer"}, status=201)
    path = f"/dashboard/keys/{made['id']}/revoke"

    answer = await owner.submit(path, at="/dashboard/keys")

    assert answer.headers["location"] == "/dashboard/keys?done=revoked"
    read = await client.get("/v1/endpoints", headers={"Authorization": f"Bearer {made['key']}"})
    assert read.status_code == 401
    assert (await owner.submit(path, at="/dashboard/keys")).status_code == 404


async def test_keys_that_nobody_uses_are_pointed_out(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """After 90 days without use, and not before; one that has expired is said to be."""
    for name in ("Old", "Fresh", "Over"):
        await traffic.post("/v1/api-keys", {"name": name, "role": "viewer"}, status=201)
    async with app.state.runtime.sessions.begin() as session:
        for statement in (
            "UPDATE api_keys SET last_used_at = now() - interval '91 days' WHERE name = 'Old'",
            "UPDATE api_keys SET last_used_at = now() - interval '89 days' WHERE name = 'Fresh'",
            "UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE name = 'Over'",
        ):
            await session.execute(text(statement))

    rows = {
        name: row
        for row in (await owner.get("/dashboard/keys")).text.split("<tr id=")
        for name in ("Old", "Fresh", "Over")
        if f">{name}<" in row
    }

    assert "not used for 90 days" in rows["Old"]
    assert "not used for" not in rows["Fresh"]
    assert '<span class="pill bad">expired</span>' in rows["Over"]
