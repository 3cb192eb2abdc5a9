"""Forms that another site, or another sign-in, has sent."""

from __future__ import annotations

import pytest

from tests.integration.people.conftest import CSRF, PASSWORD, sign_in

OWNER = "ada@example.com"


async def token_of(browser, path="/account"):
    return CSRF.search((await browser.get(path)).text)[1]


@pytest.fixture
async def signed_in(browser, add_person):
    """A browser in which the owner is signed in."""
    await add_person(OWNER)
    await sign_in(browser, OWNER)
    return browser


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/logout", {}),
        (
            "/account/password",
            {"current": PASSWORD, "wanted": "another four words", "again": "another four words"},
        ),
        ("/account/confirm", {"current": PASSWORD}),
        ("/account/sessions/end-others", {}),
        ("/account/sessions/ses_x/end", {}),
    ],
)
@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "é"])
async def test_no_form_works_without_its_token(signed_in, path, fields, csrf):
    """403 as a page, and the person is signed in as before."""
    data = fields if csrf is None else {**fields, "csrf": csrf}
    answer = await signed_in.post(path, data=data)
    assert answer.status_code == 403
    assert "nothing was done" in answer.text
    assert (await signed_in.get("/account")).status_code == 200


async def test_sign_in_needs_its_token_too(browser, add_person):
    """Nobody can be signed in to an account of a stranger's choice from outside."""
    await add_person(OWNER)
    answer = await browser.post("/login", data={"email": OWNER, "password": PASSWORD})
    assert answer.status_code == 403
    assert (await browser.get("/account")).status_code == 303


async def test_a_token_of_another_session_is_refused(signed_in, open_browser, add_person):
    """What a stranger reads in their own pages fits no form of anybody else."""
    await add_person("mallory@example.com", "viewer")
    mallory = await open_browser()
    await sign_in(mallory, "mallory@example.com")
    answer = await signed_in.post("/logout", data={"csrf": await token_of(mallory)})
    assert answer.status_code == 403


async def test_a_token_from_before_sign_in_is_used_up(browser, add_person):
    """Sign-in makes a new one: replaying the old one does nothing."""
    await add_person(OWNER)
    before = await token_of(browser, "/login")
    await browser.post("/login", data={"csrf": before, "email": OWNER, "password": PASSWORD})
    assert (await browser.post("/logout", data={"csrf": before})).status_code == 403


async def test_a_token_from_an_ended_session_is_used_up(signed_in):
    """After signing out and in again the old page's form is refused."""
    old = await token_of(signed_in)
    await signed_in.post("/logout", data={"csrf": old})
    await sign_in(signed_in, OWNER)
    assert (await signed_in.post("/logout", data={"csrf": old})).status_code == 403


async def test_the_token_in_a_page_does_not_tell_the_session(signed_in):
    """It is a digest: the cookie's value is in no page."""
    assert signed_in.cookies["bellwire"] not in (await signed_in.get("/account")).text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "nonsense"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8400.evil.example"}, 403),
        ({"origin": "https://127.0.0.1:8400"}, 403),
        ({"origin": "http://evil.example", "host": "127.0.0.1:8400"}, 403),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"origin": "http://127.0.0.1:8400"}, 303),
        ({"origin": "http://localhost:8400", "host": "localhost:8400"}, 303),
        ({}, 303),
    ],
)
async def test_a_form_from_another_site_is_refused_even_with_the_token(signed_in, headers, status):
    """What the browser says of where a form came from counts besides the token."""
    csrf = await token_of(signed_in)
    answer = await signed_in.post("/account/sessions/end-others", data={"csrf": csrf}, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"csrf": "x"}', "application/json", 415),
        (b"csrf=x", "text/plain", 415),
        (b"csrf=%ff", "application/x-www-form-urlencoded", 422),
        (b"\xff", "application/x-www-form-urlencoded", 422),
        (b"&".join(b"a=1" for _ in range(101)), "application/x-www-form-urlencoded", 422),
        (b"a=%00", "application/x-www-form-urlencoded", 422),
        (b"a=" + b"x" * 65_536, "application/x-www-form-urlencoded", 413),
        (b"", "", 403),
    ],
)
async def test_what_is_no_form_is_refused_as_a_page(browser, content, kind, status):
    """Bodies that a browser would not send are told apart, and answered with a page."""
    await browser.get("/login")
    answer = await browser.post("/login", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "request <code>" in answer.text


async def test_a_form_sent_after_the_session_ended_leads_to_the_door(signed_in, app):
    """303 to /login, without the form's path: it takes no GET."""
    from sqlalchemy import text

    csrf = await token_of(signed_in)
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text("DELETE FROM sessions"))
    answer = await signed_in.post("/account/sessions/end-others", data={"csrf": csrf})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


async def test_sessions_open_no_route_of_the_api(signed_in):
    """`/v1/` takes keys only, so no form of another site can reach it with a person's cookie."""
    answer = await signed_in.get("/v1/applications")
    assert answer.status_code == 401
