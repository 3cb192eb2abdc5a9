"""Login links: what uses one up, what does not, and what comes after it."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from tests.integration.people.conftest import CSRF, PASSWORD, sign_in

OWNER = "ada@example.com"
NEW = "eight other words that I chose"


async def change(app, statement):
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text(statement))


async def test_looking_at_a_link_does_not_use_it_up(browser, open_browser, add_person):
    """Programs that load every link of a mail leave it whole; the page asks first, and leads to the overview."""
    token = await add_person(OWNER, password=None)
    path = f"/login/link/{token}"
    looked = [await (await open_browser()).get(path) for _ in range(3)]
    answer = await browser.submit(path)
    assert [page.status_code for page in looked] == [200] * 3
    assert all(OWNER in page.text and 'method="post"' in page.text for page in looked)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/")
    overview = (await browser.get(answer.headers["location"])).text
    assert OWNER in overview
    assert "You have no password yet" in overview


async def test_a_link_works_once(browser, open_browser, add_person):
    """The second time, and in another browser: a page that says what to do, and nobody is signed in."""
    path = f"/login/link/{await add_person(OWNER, password=None)}"
    stranger = await open_browser()
    csrf = CSRF.search((await stranger.get(path)).text)[1]
    await browser.submit(path)
    replayed = await stranger.post(path, data={"csrf": csrf})
    assert replayed.status_code == 404
    assert "bellwire users link" in replayed.text
    assert (await stranger.get("/account")).status_code == 303


async def test_of_two_at_the_same_time_one_gets_in(app, open_browser, add_person):
    """The database decides."""
    path = f"/login/link/{await add_person(OWNER, password=None)}"
    answers = await asyncio.gather(*[(await open_browser()).submit(path) for _ in range(4)])
    async with app.state.runtime.sessions() as session:
        sessions = await session.scalar(text("SELECT count(*) FROM sessions"))
    assert sorted(answer.status_code for answer in answers) == [303, 404, 404, 404]
    assert sessions == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE login_links SET expires_at = now() - interval '1 s'",
        "UPDATE users SET disabled_at = now()",
        "DELETE FROM users",
    ],
)
async def test_a_link_that_must_not_work(app, browser, add_person, statement):
    """Too old, or of a person who is disabled or gone: also between looking at it and using it."""
    path = f"/login/link/{await add_person(OWNER, password=None)}"
    csrf = CSRF.search((await browser.get(path)).text)[1]
    await change(app, statement)
    assert (await browser.post(path, data={"csrf": csrf})).status_code == 404
    assert (await browser.get(path)).status_code == 404
    assert (await browser.get("/account")).status_code == 303


@pytest.mark.parametrize("token", ["x", "A" * 43, "é", "%00", "a/b"])
async def test_what_is_no_link(browser, token):
    """404, and never a fault."""
    assert (await browser.get(f"/login/link/{token}")).status_code == 404


async def test_a_link_needs_a_form_of_the_same_browser(browser, add_person):
    """A page of another site cannot sign a browser in with a link of its choice."""
    path = f"/login/link/{await add_person(OWNER, password=None)}"
    assert (await browser.post(path, data={})).status_code == 403
    assert (await browser.submit(path)).status_code == 303


async def test_a_newer_link_ends_the_earlier_one(app, browser, client, admin, add_person):
    """Of several that were made for a person the last one works."""
    first = await add_person("bea@example.com", "viewer", password=None)
    made = await client.post("/v1/users/bea@example.com/login-link", headers=admin)
    assert made.status_code == 201, made.text
    assert (await browser.get(f"/login/link/{first}")).status_code == 404
    assert (await browser.get(made.json()["url"])).status_code == 200


async def test_the_token_is_stored_as_a_digest_and_not_logged(app, browser, add_person, caplog):
    """Neither the tables nor the log lines of the visit hold it."""
    token = await add_person(OWNER, password=None)
    await browser.submit(f"/login/link/{token}")
    await browser.get(f"/login/link/{token}")
    async with app.state.runtime.sessions() as session:
        dumped = [
            str((await session.execute(text(statement))).all())
            for statement in (
                "SELECT login_links::text FROM login_links",
                "SELECT audit_log::text FROM audit_log",
            )
        ]
    assert not any(token in place for place in (*dumped, caplog.text))


async def test_after_a_link_a_password_is_set_without_the_old_one(app, browser, open_browser, add_person):
    """Who has forgotten it is told where the form is; afterwards the new one works and the old one does not."""
    token = await add_person(OWNER)
    answer = await browser.submit(f"/login/link/{token}")
    assert 'href="/account/password"' in (await browser.get(answer.headers["location"])).text
    assert 'name="current"' not in (await browser.get("/account/password")).text
    saved = await browser.submit("/account/password", wanted=NEW, again=NEW)
    assert saved.headers["location"] == "/account?done=password"
    assert (await sign_in(await open_browser(), OWNER, PASSWORD)).status_code == 403
    assert (await sign_in(await open_browser(), OWNER, NEW)).status_code == 303
    # The session that set it is one by password now: a second time asks for it.
    assert 'name="current"' in (await browser.get("/account/password")).text


async def test_half_an_hour_after_a_link_the_password_is_asked_for(app, browser, add_person):
    """A session that was left open does not change the password."""
    await browser.submit(f"/login/link/{await add_person(OWNER)}")
    await change(app, "UPDATE sessions SET created_at = now() - interval '31 min'")
    answer = await browser.submit("/account/password", wanted=NEW, again=NEW)
    assert answer.status_code == 422
    assert "not your present password" in answer.text
