"""Signing in with a password: what is refused, what is slowed down, and what a browser carries afterwards."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from app.access.passwords import Passwords
from tests.integration.people.conftest import CHEAP, CSRF, PASSWORD, sign_in

OWNER = "ada@example.com"


async def query(app, statement, **values):
    async with app.state.runtime.sessions.begin() as session:
        return [tuple(row) for row in (await session.execute(text(statement), values)).all()]


async def change(app, statement):
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text(statement))


class Watched(Passwords):
    """Passwords that remember against what they were compared."""

    def __init__(self):
        super().__init__(CHEAP)
        self.compared = []

    def _check(self, given, stored):
        self.compared.append(stored or self._nobody)
        return super()._check(given, stored)


@pytest.mark.parametrize("page", ["/account", "/account/password", "/account?a=b"])
async def test_pages_for_people_lead_to_the_door_and_back(browser, page):
    """Nobody is signed in: 303 to /login with the way back, and nothing of the page."""
    answer = await browser.get(page)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=/account")
    assert answer.text == ""


async def test_unknown_disabled_passwordless_and_wrong_are_one_answer(app, browser, open_browser, add_person):
    """The page is the same, and each has cost one comparison with a hash."""
    await add_person(OWNER)
    await add_person("off@example.com", "viewer")
    await add_person("new@example.com", "viewer", password=None)
    await change(app, "UPDATE users SET disabled_at = now() WHERE email = 'off@example.com'")
    watched = app.state.passwords = Watched()
    pages = set()
    for email, password in (
        (OWNER, "not my password"),
        ("nobody@example.com", PASSWORD),
        ("off@example.com", PASSWORD),
        ("new@example.com", PASSWORD),
        ("not an address", PASSWORD),
    ):
        answer = await sign_in(await open_browser(), email, password)
        assert answer.status_code == 403
        pages.add(CSRF.sub("", answer.text).replace(email, "ADDRESS"))
    assert len(pages) == 1
    assert len(watched.compared) == 5
    # Each was a whole argon2 comparison: what stands for nobody has the cost of everybody's.
    assert {re.sub(r"p=\d+\$.*", "", found) for found in watched.compared} == {"$argon2id$v=19$m=8,t=1,"}


async def test_dummy_hash_has_the_cost_of_real_ones():
    """With the parameters of production, what stands for nobody is not out of date, and is argon2id."""
    passwords = Passwords()
    verdict = await passwords.check("whatever", None)
    assert passwords._nobody.startswith("$argon2id$")
    assert not passwords._hasher.check_needs_rehash(passwords._nobody)
    assert not verdict.right


async def test_refusal_is_on_record_without_the_password(app, browser, add_person):
    """The audit log names who was tried and from where; the typed text is nowhere in the database."""
    await add_person(OWNER)
    await sign_in(browser, OWNER, "a secret of another site")
    assert await query(
        app, "SELECT actor_kind, action, address FROM audit_log WHERE action LIKE 'user.sign%'"
    ) == [("anonymous", "user.sign_in_refused", "192.0.2.7")]
    dumped = str(await query(app, "SELECT audit_log::text FROM audit_log")) + str(
        await query(app, "SELECT users::text FROM users")
    )
    assert "a secret of another site" not in dumped


async def test_guessing_is_slowed_down_even_with_the_right_password(browser, open_browser, add_person):
    """After five failures the password is not looked at: 429 with Retry-After, from this place for this account."""
    await add_person(OWNER)
    await add_person("bea@example.com")
    failed = [(await sign_in(browser, OWNER, "wrong wrong wrong")).status_code for _ in range(5)]
    slowed = await sign_in(browser, OWNER)
    elsewhere = await sign_in(await open_browser(address="198.51.100.1"), OWNER)
    neighbour = await sign_in(await open_browser(), "bea@example.com")
    assert failed == [403] * 5
    assert (slowed.status_code, 1 <= int(slowed.headers["retry-after"]) <= 20) == (429, True)
    assert f"Wait {slowed.headers['retry-after']} s" in slowed.text
    assert (elsewhere.status_code, neighbour.status_code) == (303, 303)


async def test_many_machines_against_one_account_do_not_keep_its_owner_out(app, open_browser, add_person):
    """The account's bucket is empty for strangers, and the browser that its owner has used gets in."""
    await add_person(OWNER)
    mine = await open_browser()
    await sign_in(mine, OWNER)
    await mine.submit("/logout", at="/account")
    statuses = [
        (await sign_in(await open_browser(address=f"198.51.100.{n}"), OWNER, "wrong")).status_code
        for n in range(51)
    ]
    stranger = await sign_in(await open_browser(address="203.0.113.9"), OWNER)
    owner = await sign_in(mine, OWNER)
    assert statuses == [403] * 50 + [429]
    assert stranger.status_code == 429
    assert owner.status_code == 303


async def test_a_device_cookie_of_somebody_else_is_no_device(app, open_browser, add_person):
    """Who may sign in to an account of their own gets no second bucket for another's."""
    await add_person(OWNER)
    await add_person("mallory@example.com", "viewer")
    mallory = await open_browser()
    await sign_in(mallory, "mallory@example.com")
    await mallory.submit("/logout", at="/account")
    for _ in range(5):
        await sign_in(mallory, OWNER, "wrong")
    assert (await sign_in(mallory, OWNER, "wrong")).status_code == 429


async def test_failures_count_over_processes(make_app, open_browser, browser, add_person):
    """The buckets are in Postgres: a second API process knows what the first has seen."""
    await add_person(OWNER)
    for _ in range(5):
        await sign_in(browser, OWNER, "wrong")
    second = await make_app()
    second.state.passwords = Passwords(CHEAP)
    assert (await sign_in(await open_browser(second), OWNER)).status_code == 429


async def test_attempts_at_the_same_time_are_all_counted(app, open_browser, add_person):
    """Twelve at once are twelve: at most five passwords are compared."""
    import asyncio

    await add_person(OWNER)
    watched = app.state.passwords = Watched()
    browsers = [await open_browser() for _ in range(12)]
    answers = await asyncio.gather(*(sign_in(browser, OWNER, "wrong") for browser in browsers))
    assert sorted(answer.status_code for answer in answers) == [403] * 5 + [429] * 7
    assert len(watched.compared) == 5


async def test_a_success_forgets_earlier_mistakes(browser, open_browser, add_person):
    """Four wrong, one right, and five more may be wrong again."""
    await add_person(OWNER)
    for _ in range(4):
        await sign_in(browser, OWNER, "wrong")
    assert (await sign_in(browser, OWNER)).status_code == 303
    other = await open_browser()
    assert [(await sign_in(other, OWNER, "wrong")).status_code for _ in range(5)] == [403] * 5


async def test_a_hash_of_earlier_parameters_is_renewed(app, browser, add_person):
    """When the parameters were raised, a sign-in stores a hash of today's."""
    await add_person(OWNER)
    app.state.passwords = Passwords(type(CHEAP)(time_cost=2, memory_cost=16, parallelism=1))
    assert (await sign_in(browser, OWNER)).status_code == 303
    ((stored,),) = await query(app, "SELECT password_hash FROM users")
    assert stored.startswith("$argon2id$v=19$m=16,t=2,p=1$")


async def test_the_session_is_a_new_one_and_its_token_is_not_stored(app, browser, add_person):
    """What the browser carried before is not what it carries after; the table holds a digest only."""
    await add_person(OWNER)
    await browser.get("/login")
    before = browser.cookies["bellwire"]
    await sign_in(browser, OWNER)
    after = browser.cookies["bellwire"]
    assert before != after
    ((dumped,),) = await query(app, "SELECT sessions::text FROM sessions")
    assert after not in dumped


async def test_a_planted_session_is_not_taken_over(app, browser, open_browser, add_person):
    """Fixation: a browser that was given a stranger's token gets another one at sign-in, and the planted one ends."""
    await add_person("mallory@example.com", "viewer")
    await add_person(OWNER)
    mallory = await open_browser()
    await sign_in(mallory, "mallory@example.com")
    planted = mallory.cookies["bellwire"]
    browser.cookies.set("bellwire", planted, domain="127.0.0.1")
    loaded = await browser.get("/account")
    csrf = CSRF.search(loaded.text)[1]
    await browser.post("/login", data={"csrf": csrf, "email": OWNER, "password": PASSWORD})
    assert OWNER in (await browser.get("/account")).text
    assert browser.cookies["bellwire"] != planted
    assert (await mallory.get("/account")).status_code == 303


async def test_cookies_on_http_have_a_plain_name(browser, add_person):
    """HttpOnly, SameSite=Lax, Path=/, no Domain; without Secure, which plain http would not send back."""
    await add_person(OWNER)
    answer = await sign_in(browser, OWNER)
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.split("=")[0] for cookie in cookies} == {"bellwire", "bellwire-device"}
    for cookie in cookies:
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/"} <= attributes
        assert not any(part.startswith(("domain", "secure")) for part in attributes)


async def test_cookies_on_https_are_for_this_host_alone(make_app, open_browser, add_person):
    """`__Host-`, Secure, HttpOnly, SameSite=Lax, Path=/, no Domain; a cookie of the plain name opens nothing."""
    await add_person(OWNER)
    app = await make_app(base_url="https://hooks.example.com")
    app.state.passwords = Passwords(CHEAP)
    browser = await open_browser(app)
    answer = await sign_in(browser, OWNER)
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.split("=")[0] for cookie in cookies} == {"__Host-bellwire", "__Host-bellwire-device"}
    for cookie in cookies:
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/", "secure"} <= attributes
        assert not any(part.startswith("domain") for part in attributes)
    plain = await open_browser(app)
    plain.cookies.set("bellwire", browser.cookies["__Host-bellwire"], domain="hooks.example.com")
    assert (await browser.get("/account")).status_code == 200
    assert (await plain.get("/account")).status_code == 303


@pytest.mark.parametrize(
    "evil",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/logout",
    ],
)
async def test_the_way_on_stays_on_this_server(browser, add_person, evil):
    """Whatever stands in `next`, a sign-in leads to a path of ours."""
    await add_person(OWNER)
    answer = await sign_in(browser, OWNER, next=evil)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/")
    shown = await browser.get("/login", params={"next": evil})
    assert shown.headers["location"] == "/dashboard/"


async def test_the_way_on_is_kept(browser, add_person):
    """A path of ours, with its query, is gone on to."""
    await add_person(OWNER)
    answer = await sign_in(browser, OWNER, next="/account/password?x=1")
    assert answer.headers["location"] == "/account/password?x=1"


async def test_sign_in_does_not_look_at_the_case_of_the_address(browser, add_person):
    """Ada@Example.com is ada@example.com."""
    await add_person("Ada@Example.com")
    assert (await sign_in(browser, " ADA@EXAMPLE.COM ")).status_code == 303


async def test_pages_allow_no_script_no_frame_and_no_cache(browser, add_person):
    """The page's policy; and what stands in it needs none: no script, no style attribute, nothing from elsewhere."""
    await add_person(OWNER)
    await sign_in(browser, OWNER)
    for path in ("/login/link/x", "/account", "/account/password"):
        answer = await browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert re.findall(r"<script|style=|\son\w+=|src=|https?://", answer.text) == []


async def test_the_style_may_be_kept(browser):
    """Its address is made from its content."""
    page = await browser.get("/login")
    (address,) = re.findall(r'rel="stylesheet" href="([^"]+)"', page.text)
    answer = await browser.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in answer.headers["cache-control"]


async def test_what_a_person_types_is_escaped(browser):
    """The address comes back into the form as text."""
    answer = await sign_in(browser, '"><script>alert(1)</script>', "x")
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
