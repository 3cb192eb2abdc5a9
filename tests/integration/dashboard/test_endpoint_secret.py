"""The signing secret on its page: who sees it, how often, and what a rotation shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from sqlalchemy import text

import bellwire

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser


async def grow_old(app: FastAPI) -> None:
    """Let everybody have signed in eleven minutes ago."""
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text("UPDATE sessions SET created_at = now() - interval '11 minutes'"))


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_only_admins_see_or_change_a_secret(role: str, browse_as: BrowseAs, traffic: Traffic) -> None:
    """Refused, with nothing on record but the refusal's absence of any change."""
    made = await traffic.endpoint()
    browser = await browse_as(role)
    path = f"/dashboard/endpoints/{made['id']}/secret"

    page = (await browser.get(path)).text
    assert made["secret"] not in page
    assert "Reveal" not in page
    for what in ("reveal", "rotate", "revoke-previous"):
        assert (await browser.submit(f"{path}/{what}", at=path, grace="0")).status_code == 403
    assert (await traffic.get(f"/v1/endpoints/{made['id']}/secret"))["secret"] == made["secret"]
    assert (await traffic.get("/v1/audit-log?action=secret.rotated"))["data"] == []


async def test_revealing_asks_again_who_signed_in_long_ago(
    owner: Browser, app: FastAPI, traffic: Traffic
) -> None:
    """A browser that was left open shows no secret, and nothing is on record."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}/secret"
    await grow_old(app)

    answer = await owner.submit(f"{path}/reveal", at=path)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/account/confirm")
    assert made["secret"] not in (await owner.get(path)).text
    assert (await traffic.get("/v1/audit-log?action=endpoint.secret_revealed"))["data"] == []


async def test_a_revealed_secret_is_shown_once_and_hides_itself(owner: Browser, traffic: Traffic) -> None:
    """With a time after which the script hides it; on record with who looked; gone with the next load."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}/secret"

    answer = await owner.submit(f"{path}/reveal", at=path)
    page = (await owner.get(answer.headers["location"])).text

    assert f'<code id="shown">{made["secret"]}</code>' in page
    assert 'data-hide-after="30"' in page
    assert made["secret"] not in (await owner.get(answer.headers["location"])).text
    (entry,) = (await traffic.get("/v1/audit-log?action=endpoint.secret_revealed"))["data"]
    assert entry["actor"]["id"].startswith("usr_")


async def test_a_secret_on_its_way_is_of_no_use_elsewhere(
    owner: Browser, browse_as: BrowseAs, traffic: Traffic
) -> None:
    """Not to the page of another endpoint, and not to another person who gets hold of the cookie."""
    made, other = await traffic.endpoint(), await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}/secret"
    await owner.submit(f"{path}/reveal", at=path)
    (carried,) = [cookie for cookie in owner.cookies.jar if cookie.name.endswith("bellwire-once")]
    assert made["secret"] not in str(carried.value)

    thief = await browse_as("admin")
    thief.cookies.jar.set_cookie(carried)

    assert made["secret"] not in (await thief.get(path)).text
    assert made["secret"] not in (await owner.get(f"/dashboard/endpoints/{other['id']}/secret")).text


async def test_a_rotation_with_a_fault_keeps_the_secret(owner: Browser, traffic: Traffic) -> None:
    """A secret that is none, or a grace that is not offered: said, and nothing rotated."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}/secret"

    for fields, said in (
        ({"grace": "0", "secret": "hello"}, "begins with whsec_"),
        ({"grace": "5"}, "Choose one of the graces"),
        ({}, "Choose one of the graces"),
    ):
        answer = await owner.submit(f"{path}/rotate", at=path, **fields)
        assert answer.status_code == 422
        assert said in answer.text
    assert (await traffic.get(f"/v1/endpoints/{made['id']}/secret"))["secret"] == made["secret"]


async def test_during_the_grace_both_keys_are_listed(owner: Browser, traffic: Traffic) -> None:
    """The old one with its end, and how many of the last requests both have signed; revoking ends it."""
    made = await traffic.endpoint()
    path = f"/dashboard/endpoints/{made['id']}/secret"
    for tokens in ("v1,YQ== v1,Yg==", "v1,YQ=="):
        await traffic.publish()
        headers = orjson.dumps([["Webhook-Signature", tokens]])
        await traffic.attempt(made, request_headers=headers)

    answer = await owner.submit(f"{path}/rotate", at=path, grace="3600")
    page = (await owner.get(answer.headers["location"])).text

    fresh = (await traffic.get(f"/v1/endpoints/{made['id']}/secret"))["secret"]
    assert fresh != made["secret"]
    assert fresh in page
    assert "data-hide-after" not in page
    assert '<span class="pill warn">earlier</span>' in page
    assert "data-countdown" in page
    assert "1 of the last 2 requests" in page

    answer = await owner.submit(f"{path}/revoke-previous", at=path)
    page = (await owner.get(answer.headers["location"])).text
    assert "earlier</span>" not in page
    assert "sign no more" in page


async def test_an_ed25519_endpoint_shows_its_public_key_to_everybody(
    browse_as: BrowseAs, traffic: Traffic
) -> None:
    """On the page and as a file; an HMAC one has none."""
    made, other = await traffic.endpoint(signature="ed25519"), await traffic.endpoint()
    viewer = await browse_as("viewer")
    public = bellwire.public_key(made["secret"])

    page = (await viewer.get(f"/dashboard/endpoints/{made['id']}/secret")).text
    file = await viewer.get(f"/dashboard/endpoints/{made['id']}/public-key.txt")

    assert public in page
    assert made["secret"] not in page
    assert file.text == public + "\n"
    assert "attachment" in file.headers["content-disposition"]
    assert (await viewer.get(f"/dashboard/endpoints/{other['id']}/public-key.txt")).status_code == 404
