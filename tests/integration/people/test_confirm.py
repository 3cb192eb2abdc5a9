"""Before a secret is shown, a person who signed in some time ago proves anew who they are."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import APIRouter
from sqlalchemy import text
from starlette.responses import PlainTextResponse

from app.api.browser import PageRoute, RecentVisit
from app.api.redirects import DEFAULT
from tests.integration.people.conftest import CSRF, PASSWORD, sign_in

OWNER = "ada@example.com"
CONFIRM = "/account/confirm?next=/secret%3Fid%3D1"

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/secret")
async def get_secret(visit: RecentVisit):
    return PlainTextResponse(f"whsec_ of {visit.caller.actor_id}")


@router.post("/secret")
async def post_secret(visit: RecentVisit):
    return PlainTextResponse(f"whsec_ of {visit.caller.actor_id}")


async def count(app, statement):
    async with app.state.runtime.sessions() as session:
        return await session.scalar(text(statement))


async def grow_old(app, minutes=11):
    """Let the only session have begun some time ago."""
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(
            text("UPDATE sessions SET created_at = now() - make_interval(mins => :minutes)"),
            {"minutes": minutes},
        )


@pytest.fixture
async def signed_in(app, browser, add_person):
    """A browser in which the owner is signed in, and a page that shows a secret."""
    app.router.routes.extend(router.routes)
    await add_person(OWNER)
    await sign_in(browser, OWNER)
    return browser


async def test_within_ten_minutes_nobody_is_asked(app, signed_in):
    """Who has just signed in sees the secret; the page that asks leads on at once."""
    await grow_old(app, minutes=9)
    assert (await signed_in.get("/secret")).text.startswith("whsec_")
    led_on = await signed_in.get(CONFIRM)
    assert (led_on.status_code, led_on.headers["location"]) == (303, "/secret?id=1")


async def test_after_ten_minutes_the_password_is_asked_for(app, signed_in):
    """The way there and back, with a new session in the place of the old one, which opens nothing any more."""
    await grow_old(app)
    asked = await signed_in.get("/secret?id=1")
    before = signed_in.cookies["bellwire"]
    back = await signed_in.submit(CONFIRM, current=PASSWORD, next="/secret?id=1")
    after = signed_in.cookies["bellwire"]
    assert (asked.status_code, asked.headers["location"]) == (303, CONFIRM)
    assert (back.status_code, back.headers["location"]) == (303, "/secret?id=1")
    assert before != after
    assert (await signed_in.get("/secret?id=1")).text.startswith("whsec_")
    assert await count(app, "SELECT count(*) FROM sessions") == 1
    assert await count(app, "SELECT count(*) FROM audit_log WHERE action = 'session.confirmed'") == 1


async def test_a_form_leads_back_to_the_page_it_stood_on(app, signed_in):
    """What it would have shown is not shown, and a page of another server is never led to."""
    await grow_old(app)
    csrf = CSRF.search((await signed_in.get("/account")).text)[1]
    for referer, following in (
        ("http://127.0.0.1:8400/endpoints/ep_1?tab=secret", "/endpoints/ep_1%3Ftab%3Dsecret"),
        ("https://evil.example//evil.example", DEFAULT),
        ("", DEFAULT),
    ):
        answer = await signed_in.post("/secret", data={"csrf": csrf}, headers={"referer": referer})
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/account/confirm?next={following}"


async def test_a_form_of_another_site_learns_nothing_of_when_somebody_signed_in(app, signed_in):
    """It is refused as everywhere, before anything else is looked at."""
    await grow_old(app)
    assert (await signed_in.post("/secret", data={})).status_code == 403


async def test_a_wrong_password_confirms_nobody(app, signed_in):
    """422, the session stays what it was, and after five of them the password is not looked at."""
    await grow_old(app)
    answers = [await signed_in.submit(CONFIRM, current=f"wrong {n}") for n in range(6)]
    right = await signed_in.submit(CONFIRM, current=PASSWORD)
    assert [answer.status_code for answer in (*answers, right)] == [422] * 7
    assert "not your present password" in answers[0].text
    assert "Wait" in right.text
    assert (await signed_in.get("/secret")).status_code == 303
    assert (await signed_in.get("/account")).status_code == 200


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", ""])
async def test_it_leads_to_paths_of_this_server_only(app, signed_in, following):
    """As after signing in."""
    await grow_old(app)
    back = await signed_in.submit("/account/confirm", current=PASSWORD, next=following)
    assert back.headers["location"] == DEFAULT


async def test_who_is_not_signed_in_is_led_to_the_door(app, signed_in, open_browser):
    """To /login, and afterwards to the secret: a sign-in is proof enough."""
    stranger = await open_browser()
    for path in ("/secret", "/account/confirm"):
        answer = await stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path}")


async def test_who_has_no_password_is_told_what_to_do(app, browser, add_person):
    """No field that could never be filled in right, and a password given all the same is wrong."""
    await browser.submit(f"/login/link/{await add_person(OWNER, password=None)}")
    await grow_old(app)
    shown = await browser.get("/account/confirm")
    assert "login link" in shown.text
    assert 'name="current"' not in shown.text
    answer = await browser.submit("/account/confirm", at="/account", current="")
    assert answer.status_code == 422


async def test_a_password_that_was_just_set_is_proof(app, browser, add_person):
    """It begins a session, as signing in does."""
    await browser.submit(f"/login/link/{await add_person(OWNER, password=None)}")
    await grow_old(app)
    assert (await browser.submit("/account/password", wanted=PASSWORD, again=PASSWORD)).status_code == 303
    assert (await browser.get(CONFIRM)).status_code == 303


async def test_the_provider_is_the_other_way(make_app, open_browser, add_person):
    """Where one is set up the page leads there, and back to what was asked for."""
    await add_person(OWNER)
    app = await make_app(oidc_issuer="http://127.0.0.1:9", oidc_client_id="bellwire", oidc_name="Acme")
    browser = await open_browser(app)
    await browser.submit(f"/login/link/{await add_person('bea@example.com', password=None)}")
    await grow_old(app)
    shown = await browser.get(CONFIRM)
    found = urlsplit(shown.text.partition('href="/login/oidc')[2].partition('"')[0].replace("&amp;", "&"))
    assert "Acme" in shown.text
    assert parse_qs(found.query) == {"again": ["1"], "next": ["/secret?id=1"]}
