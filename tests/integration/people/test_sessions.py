"""How sessions end: by time, by hand, with the password, and with the person."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from tests.integration.people.conftest import CSRF, PASSWORD, sign_in

OWNER = "ada@example.com"
NEW = "eight other words that I chose"


async def change(app, statement):
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text(statement))


async def count(app):
    async with app.state.runtime.sessions() as session:
        return await session.scalar(text("SELECT count(*) FROM sessions"))


@pytest.fixture
async def signed_in(browser, add_person):
    """A browser in which the owner is signed in."""
    await add_person(OWNER)
    await sign_in(browser, OWNER)
    return browser


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET expires_at = now() - interval '1 s'",
        "UPDATE sessions SET last_seen_at = now() - interval '12 h 1 s'",
        "DELETE FROM sessions",
        "UPDATE users SET disabled_at = now()",
        "DELETE FROM users",
    ],
)
async def test_a_session_is_over_at_once(app, signed_in, statement):
    """Its end, 12 hours without use, revoked, its person disabled or deleted: the next page leads to the door."""
    assert (await signed_in.get("/account")).status_code == 200
    await change(app, statement)
    assert (await signed_in.get("/account")).status_code == 303


async def test_use_keeps_a_session_awake_but_not_for_ever(app, signed_in):
    """Its last use is noted to the minute, and its end stays where it was."""
    await change(app, "UPDATE sessions SET last_seen_at = now() - interval '11 h'")
    await signed_in.get("/account")
    async with app.state.runtime.sessions() as session:
        age, lasts = (
            await session.execute(
                text("SELECT now() - last_seen_at < interval '1 min', expires_at - created_at FROM sessions")
            )
        ).one()
    assert age
    assert abs(lasts.total_seconds() - 7 * 86_400) < 60


@pytest.mark.parametrize("token", ["x", "", "A" * 43, "é" * 43, "A" * 10_000])
async def test_what_is_no_session_is_nobody(browser, token):
    """Tokens of any other form are not even looked up, and unknown ones open nothing."""
    answer = await browser.get("/account", headers={"cookie": f"bellwire={token}".encode()})
    assert answer.status_code == 303


async def test_signing_out_ends_the_session_and_not_only_the_cookie(app, signed_in):
    """A copy of the cookie opens nothing afterwards."""
    copy = signed_in.cookies["bellwire"]
    answer = await signed_in.submit("/logout", at="/account")
    assert answer.headers["location"] == "/login?out=1"
    assert "signed out" in (await signed_in.get("/login?out=1")).text
    assert await count(app) == 0
    stolen = await signed_in.get("/account", headers={"cookie": f"bellwire={copy}"})
    assert stolen.status_code == 303


async def test_own_sessions_are_listed_and_can_be_ended(signed_in, open_browser):
    """Each with its browser and address; ending one signs out there and not here."""
    other = await open_browser(
        address="198.51.100.4",
        headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
    )
    await sign_in(other, OWNER)
    page = (await signed_in.get("/account")).text
    assert "Firefox on Linux" in page
    assert "198.51.100.4" in page
    assert page.count("this browser") == 1
    (path,) = re.findall(r"Firefox on Linux</p>.*?action=\"([^\"]+)\"", page, re.DOTALL)
    await signed_in.submit(path, at="/account")
    assert (await other.get("/account")).status_code == 303
    assert (await signed_in.get("/account")).status_code == 200


async def test_ending_all_others_keeps_this_one(app, signed_in, open_browser):
    """One button for a lost telephone."""
    for _ in range(2):
        await sign_in(await open_browser(), OWNER)
    await signed_in.submit("/account/sessions/end-others", at="/account")
    assert await count(app) == 1
    assert (await signed_in.get("/account")).status_code == 200


async def test_nobody_ends_the_session_of_another_person(app, signed_in, open_browser, add_person):
    """Not of the same workspace either: 404, and the session works."""
    await add_person("mallory@example.com", "admin")
    mallory = await open_browser()
    await sign_in(mallory, "mallory@example.com")
    (path,) = set(re.findall(r"/account/sessions/ses_\w+/end", (await signed_in.get("/account")).text))
    answer = await mallory.submit(path, at="/account")
    assert answer.status_code == 404
    assert (await signed_in.get("/account")).status_code == 200


async def test_old_sessions_make_room(app, open_browser, add_person):
    """A person has at most 20; the one that was used longest ago goes."""
    await add_person(OWNER)
    first = await open_browser()
    await sign_in(first, OWNER)
    await change(app, "UPDATE sessions SET last_seen_at = now() - interval '1 h'")
    for _ in range(20):
        await sign_in(await open_browser(), OWNER)
    assert await count(app) == 20
    assert (await first.get("/account")).status_code == 303


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"current": "wrong", "wanted": NEW, "again": NEW}, "not your present password"),
        ({"wanted": NEW, "again": NEW}, "not your present password"),
        ({"current": PASSWORD, "wanted": NEW, "again": NEW + "x"}, "differ"),
        ({"current": PASSWORD, "wanted": "short", "again": "short"}, "at least 12 characters"),
        ({"current": PASSWORD, "wanted": OWNER + "1", "again": OWNER + "1"}, "little more than your address"),
    ],
)
async def test_a_password_is_not_changed_for_nothing(signed_in, open_browser, fields, words):
    """Without the present one, or to one that is not taken: a sentence, and the old one works."""
    answer = await signed_in.submit("/account/password", **fields)
    assert answer.status_code == 422
    assert words in answer.text
    assert (await sign_in(await open_browser(), OWNER)).status_code == 303


async def test_the_present_password_cannot_be_guessed_with_a_stolen_session(signed_in):
    """After five wrong ones it is not compared any more, not even the right one."""
    fields = {"wanted": NEW, "again": NEW}
    for _ in range(5):
        await signed_in.submit("/account/password", current="wrong", **fields)
    answer = await signed_in.submit("/account/password", current=PASSWORD, **fields)
    assert answer.status_code == 422
    assert "Too many" in answer.text


async def test_a_new_password_signs_out_everywhere_else(app, signed_in, open_browser):
    """This browser goes on with a new token; all other sessions are over, and the old password with them."""
    other = await open_browser()
    await sign_in(other, OWNER)
    before = signed_in.cookies["bellwire"]
    csrf = CSRF.search((await signed_in.get("/account")).text)[1]
    answer = await signed_in.submit("/account/password", current=PASSWORD, wanted=NEW, again=NEW)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?done=password")
    assert signed_in.cookies["bellwire"] != before
    assert (await signed_in.get("/account")).status_code == 200
    assert (await other.get("/account")).status_code == 303
    assert (await signed_in.post("/logout", data={"csrf": csrf})).status_code == 403
    assert (await sign_in(await open_browser(), OWNER)).status_code == 403
    assert (await sign_in(await open_browser(), OWNER, NEW)).status_code == 303


async def test_what_people_do_with_their_account_is_on_record(app, signed_in):
    """Sign-in, password and sign-out are in the audit log, by whom and from where, without a secret."""
    await signed_in.submit("/account/password", current=PASSWORD, wanted=NEW, again=NEW)
    await signed_in.submit("/logout", at="/account")
    async with app.state.runtime.sessions() as session:
        rows = (
            await session.execute(
                text(
                    "SELECT action, actor_kind, address, audit_log::text FROM audit_log"
                    " WHERE actor_kind = 'user' ORDER BY action"
                )
            )
        ).all()
    assert [row.action for row in rows] == [
        "session.ended",
        "session.renewed",
        "user.password_changed",
        "user.signed_in",
    ]
    assert {row.address for row in rows} == {"192.0.2.7"}
    assert not any(secret in str(rows) for secret in (PASSWORD, NEW, "$argon2"))


async def test_a_new_password_ends_the_login_links(client, admin, browser, open_browser, add_person):
    """A link that somebody else may have seen does not outlive the password that was set because of it."""
    await add_person("bea@example.com", "viewer")
    made = await client.post("/v1/users/bea@example.com/login-link", headers=admin)
    await sign_in(browser, "bea@example.com")
    saved = await browser.submit("/account/password", current=PASSWORD, wanted=NEW, again=NEW)
    assert saved.headers["location"] == "/account?done=password"
    assert (await (await open_browser()).get(made.json()["url"])).status_code == 404
