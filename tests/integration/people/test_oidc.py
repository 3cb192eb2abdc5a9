"""Signing in through an OpenID provider that runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.access.oidc_provider import OidcProvider, is_fit_address
from app.access.passwords import Passwords
from tests.integration.people.conftest import CHEAP, sign_in
from tests.integration.people.provider import CLIENT_ID, CLIENT_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

ADA = "ada@example.com"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The provider's address."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("provider.py"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"},
        text=True,
    )
    with process:
        yield process.stdout.readline().removeprefix("serving ").strip()
        process.terminate()


@pytest.fixture
def tell(issuer):
    """Tells the provider what to get wrong from now on; returns how often each path was asked for."""

    def tell(**told):
        return httpx2.post(f"{issuer}/control", json=told).json()

    tell()
    return tell


@pytest.fixture
def start(make_app, issuer):
    """Starts an application that knows the provider."""

    async def make(**changes):
        made = await make_app(
            oidc_issuer=issuer,
            oidc_client_id=CLIENT_ID,
            oidc_client_secret=SecretStr(CLIENT_SECRET),
            **changes,
        )
        made.state.passwords = Passwords(CHEAP)
        return made

    return make


@pytest.fixture
async def app(start):
    """The application: it knows the provider, and takes in nobody unknown."""
    return await start()


async def ask(browser, next_path=None, **more):
    """Go to the provider and let it sign in whoever it is told; return the address that it leads back to."""
    query = ({"next": next_path} if next_path else {}) | more
    began = await browser.get("/login/oidc", params=query)
    assert began.status_code == 303, began.text
    async with httpx2.AsyncClient() as outside:
        answer = await outside.get(began.headers["location"])
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


async def through(browser, next_path=None):
    """The whole way: to the provider, back, and the answer to that."""
    return await browser.get(await ask(browser, next_path))


async def people(app):
    async with app.state.runtime.sessions() as session:
        rows = await session.execute(
            text(
                "SELECT email, role, oidc_subject, (SELECT count(*) FROM sessions) FROM users ORDER BY email"
            )
        )
        return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    "told",
    [
        {"unsigned": True},
        {"hmac": True},
        {"foreign_key": True},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"iss": None}},
        {"claims": {"aud": "another-client"}},
        {"claims": {"aud": None}},
        {"claims": {"aud": []}},
        {"claims": {"aud": ["bellwire", "another"], "azp": "another"}},
        {"claims": {"aud": ["bellwire", "another"]}},
        {"claims": {"exp": 1_000_000_000}},
        {"claims": {"exp": None}},
        {"claims": {"exp": "soon"}},
        {"claims": {"iat": 1_000_000_000}},
        {"claims": {"iat": 4_000_000_000, "exp": 4_000_000_300}},
        {"claims": {"nbf": 4_000_000_000}},
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        {"claims": {"sub": None}},
        {"claims": {"sub": ""}},
        {"claims": {"sub": 7}},
        {"claims": {"sub": "x" * 256}},
        {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
    ],
    ids=str,
)
async def test_an_id_token_that_is_not_true_lets_nobody_in(app, browser, add_person, tell, told):
    """Signature, algorithm, issuer, audience, times, nonce, subject, access token: each alone stops it."""
    await add_person(ADA)
    tell(**told)
    answer = await through(browser)
    assert answer.status_code == 403
    assert "could not be verified" in answer.text
    assert await people(app) == [(ADA, "owner", None, 0)]


@pytest.mark.parametrize(
    ("told", "status", "words"),
    [
        ({"denies": True}, 403, "did not sign you in"),
        ({"token_status": 400}, 403, "did not confirm"),
        ({"token_status": 500}, 502, "cannot be reached"),
        ({"floods": True}, 502, "cannot be reached"),
    ],
)
async def test_a_provider_that_refuses_or_breaks(browser, add_person, tell, told, status, words):
    """The sign-in page, with a sentence, and the password as the way that is left."""
    await add_person(ADA)
    tell(**told)
    answer = await through(browser)
    assert answer.status_code == status
    assert words in answer.text
    assert 'name="password"' in answer.text


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"token_endpoint": "ftp://evil.example"},
        {"jwks_uri": None},
    ],
    ids=str,
)
async def test_a_description_that_must_not_be_followed(browser, tell, description):
    """Another issuer, or addresses without TLS: nobody is sent anywhere."""
    tell(description=description)
    answer = await browser.get("/login/oidc")
    assert answer.status_code == 502


async def test_a_provider_that_is_away(make_app, open_browser):
    """502 as the sign-in page; the password still works."""
    app = await make_app(oidc_issuer="http://127.0.0.1:9", oidc_client_id=CLIENT_ID)
    browser = await open_browser(app)
    answer = await browser.get("/login/oidc")
    assert (answer.status_code, "cannot be reached" in answer.text) == (502, True)


async def test_an_answer_belongs_to_the_browser_that_asked(app, browser, open_browser, add_person, tell):
    """Without its cookie, with another's, with another state, and a second time: 403, and nobody is signed in."""
    await add_person(ADA)
    answers = [await ask(browser) for _ in range(3)]
    stranger = await open_browser()
    without = await stranger.get(answers[2])
    await stranger.get("/login/oidc")
    with_another = await stranger.get(answers[2])
    assert (without.status_code, with_another.status_code) == (403, 403)
    # The browser's cookie is of its third attempt: the answer to the first is not taken, and ends the attempt.
    assert (await browser.get(answers[0])).status_code == 403
    assert (await browser.get(answers[2])).status_code == 403
    assert await people(app) == [(ADA, "owner", None, 0)]
    last = await ask(browser)
    assert (await browser.get(last)).status_code == 303
    assert (await browser.get(last)).status_code == 403


async def test_a_code_that_was_stolen_is_of_no_use(app, browser, open_browser, add_person, tell):
    """PKCE: another browser's verifier does not fit the code, though its state is right."""
    await add_person(ADA)
    stolen = parse_qs(urlsplit(await ask(browser)).query)["code"][0]
    thief = await open_browser()
    state = parse_qs(urlsplit(await ask(thief)).query)["state"][0]
    answer = await thief.get("/login/oidc/callback", params={"code": stolen, "state": state})
    assert answer.status_code == 403
    assert "did not confirm" in answer.text


async def test_an_answer_of_another_provider_is_not_ours(browser, add_person, tell):
    """RFC 9207: a wrong `iss` beside the code is refused before the code is shown to anybody."""
    await add_person(ADA)
    address = await ask(browser)
    before = tell().get("/token", 0)
    answer = await browser.get(f"{address}&iss=https%3A%2F%2Fevil.example")
    assert answer.status_code == 403
    assert tell().get("/token", 0) == before


async def test_a_tampered_cookie_is_no_attempt(browser, add_person, tell):
    """It is sealed: whoever changes a byte of it has begun nothing."""
    await add_person(ADA)
    address = await ask(browser)
    cookie = browser.cookies["bellwire-oidc"]
    # Not the last letter, some bits of which say nothing.
    middle = len(cookie) // 2
    changed = cookie[:middle] + ("A" if cookie[middle] != "A" else "B") + cookie[middle + 1 :]
    answer = await browser.get(address, headers={"cookie": f"bellwire-oidc={changed}"})
    assert answer.status_code == 403
    assert "has not begun" in answer.text


@pytest.mark.parametrize(
    "person",
    [
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": "stranger@example.com"},
        {"email": "\u0430da@example.com"},
        {"email": ["ada@example.com"]},
        {"email": None},
    ],
    ids=str,
)
async def test_only_a_verified_address_of_somebody_here_lets_in(app, browser, add_person, tell, person):
    """Not verified, not known, a letter that only looks the same: 403, and nobody is added or bound."""
    await add_person(ADA)
    tell(person=person)
    answer = await through(browser)
    assert answer.status_code == 403
    assert "nobody" in answer.text
    assert await people(app) == [(ADA, "owner", None, 0)]


async def test_who_is_disabled_stays_out(app, browser, add_person, tell):
    """The provider does not know of it; we do. The identity is not bound either."""
    await add_person(ADA)
    async with app.state.runtime.sessions.begin() as session:
        await session.execute(text("UPDATE users SET disabled_at = now()"))
    assert (await through(browser)).status_code == 403
    assert await people(app) == [(ADA, "owner", None, 0)]


async def test_a_bound_person_is_not_taken_over(app, browser, open_browser, add_person, tell):
    """Somebody else who gets the same address at the provider later is refused; the first one still gets in."""
    await add_person(ADA)
    assert (await through(browser)).status_code == 303
    tell(person={"sub": "person-2"})
    assert (await through(await open_browser())).status_code == 403
    tell(person={"sub": "person-1", "email": "ada.king@example.com"})
    assert (await through(await open_browser())).status_code == 303
    assert await people(app) == [(ADA, "owner", "person-1", 2)]


async def test_the_whole_way(app, browser, add_person, tell):
    """From the button to the page that was asked for; the session is a new one, and is on record."""
    await add_person("Ada@Example.com")
    button = await browser.get("/login", params={"next": "/account/password"})
    before = browser.cookies["bellwire"]
    assert 'href="/login/oidc?next=/account/password"' in button.text
    answer = await through(browser, "/account/password")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account/password")
    assert browser.cookies["bellwire"] != before
    assert "bellwire-oidc" not in browser.cookies
    assert "identity provider" in (await browser.get("/account")).text
    async with app.state.runtime.sessions() as session:
        actions = (await session.scalars(text("SELECT action FROM audit_log ORDER BY action"))).all()
    assert {"user.identity_bound", "user.signed_in"} <= set(actions)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_both_ways_to_show_the_secret(browser, add_person, tell, method):
    """A secret with signs in it arrives whole, in the header or in the form."""
    await add_person(ADA)
    tell(auth_methods=[method])
    assert (await through(browser)).status_code == 303


async def test_a_new_key_of_the_provider_is_found(app, browser, open_browser, add_person, tell):
    """When the provider signs with a key that is not known yet, its keys are asked for again; and not each time."""
    await add_person(ADA)
    now = [0.0]
    app.state.oidc._monotonic = lambda: now[0]
    assert (await through(browser)).status_code == 303
    tell(new_key="second")
    now[0] += 31
    asked = tell().get("/jwks", 0)
    for _ in range(2):
        assert (await through(await open_browser())).status_code == 303
    assert tell()["/jwks"] == asked + 1


@pytest.mark.parametrize("next_path", ["//evil.example", "https://evil.example"])
async def test_the_way_on_stays_on_this_server(browser, add_person, tell, next_path):
    """As with passwords."""
    await add_person(ADA)
    assert (await through(browser, next_path)).headers["location"] == "/dashboard/"


async def test_new_people_come_in_from_named_domains_only(start, open_browser, tell):
    """With BELLWIRE_OIDC_DOMAINS: from there as viewers, from a domain that only ends like it not at all."""
    app = await start(oidc_domains=("example.com",))
    for number, (email, status) in enumerate(
        [
            ("new@example.com", 303),
            ("a@evil-example.com", 403),
            ("a@sub.example.com", 403),
            ("a@example.com.evil", 403),
        ]
    ):
        tell(person={"sub": f"new-{number}", "email": email})
        assert (await through(await open_browser(app))).status_code == status
    assert await people(app) == [("new@example.com", "viewer", "new-0", 1)]


async def test_named_domains_bound_who_is_known_as_well(start, open_browser, add_person, tell):
    """A person of another domain who was added signs in with a password, not through the provider."""
    app = await start(oidc_domains=("example.org",))
    await add_person(ADA)
    browser = await open_browser(app)
    assert (await through(browser)).status_code == 403
    assert (await sign_in(browser, ADA)).status_code == 303


async def test_new_people_need_a_workspace(start, open_browser, instance, tell):
    """With two workspaces one must be named; a name that is none lets nobody in."""
    app = await start(oidc_domains=("example.com",), oidc_role="operator")
    browser = await open_browser(app)
    made = await browser.post("/v1/workspaces", json={"name": "Second"}, headers=instance)
    unnamed = await through(browser)
    wrong = await start(oidc_domains=("example.com",), oidc_workspace="wsp_nonsense")
    misnamed = await through(await open_browser(wrong))
    named = await start(oidc_domains=("example.com",), oidc_workspace=made.json()["id"], oidc_role="operator")
    into = await open_browser(named)
    answer = await through(into)
    assert (unnamed.status_code, misnamed.status_code, answer.status_code) == (403, 403, 303)
    assert "Second" in (await into.get("/account")).text
    assert await people(named) == [(ADA, "operator", "person-1", 1)]


async def test_without_a_provider_there_is_no_such_door(make_app, open_browser):
    """Off by default: no button, and 404."""
    app = await make_app()
    browser = await open_browser(app)
    assert "/login/oidc" not in (await browser.get("/login")).text
    assert (await browser.get("/login/oidc")).status_code == 404
    assert (await browser.get("/login/oidc/callback?code=x&state=y")).status_code == 404


@pytest.mark.parametrize(
    ("address", "fit"),
    [
        ("https://accounts.example.com/token", True),
        ("http://127.0.0.1:9000/token", True),
        ("http://accounts.example.com/token", False),
        ("https:///token", False),
        ("javascript:alert(1)", False),
        (None, False),
        (7, False),
    ],
)
def test_where_codes_and_secrets_may_go(address, fit):
    """Over TLS, or to this machine."""
    assert is_fit_address(address) is fit


async def test_redirects_of_the_provider_are_not_followed():
    """A secret goes to the address that the description names, and nowhere else."""
    from app.access.oidc_provider import ProviderAway
    from app.access.oidc_rules import Flow
    from app.core.settings import Settings

    asked = []

    def answer(sent):
        asked.append(str(sent.url))
        return httpx2.Response(302, headers={"location": "https://evil.example/"}, json={})

    settings = Settings.model_construct(oidc_issuer="https://accounts.example.com", oidc_client_id="x")
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    provider = OidcProvider(settings, client=client)
    flow = Flow.begin(next_path="/", now=0)
    with pytest.raises(ProviderAway):
        await provider.authorization_url(flow, redirect_uri="https://hooks.example.com/login/oidc/callback")
    await provider.close()
    assert asked == ["https://accounts.example.com/.well-known/openid-configuration"]


async def test_who_confirms_is_asked_anew_by_the_provider(browser, tell):
    """It is told to ask, and to say when it did; an ordinary sign-in is not bothered so."""
    for query, expected in (({"again": "1"}, ("login", "0")), ({}, (None, None))):
        began = await browser.get("/login/oidc", params=query)
        asked = parse_qs(urlsplit(began.headers["location"]).query)
        assert tuple(asked.get(name, [None])[0] for name in ("prompt", "max_age")) == expected


@pytest.mark.parametrize(
    ("auth_time", "again", "status"),
    [
        (1_700_000_000, {"again": "1"}, 403),
        (1_700_000_000, {}, 303),
        (None, {"again": "1"}, 303),
        ("yesterday", {}, 403),
        (True, {}, 403),
    ],
)
async def test_being_signed_in_at_the_provider_confirms_nothing(
    app, browser, add_person, tell, auth_time, again, status
):
    """A provider that says that it asked nobody is not believed; one that does not say is."""
    await add_person(ADA)
    tell(claims={"auth_time": auth_time})
    answer = await browser.get(await ask(browser, **again))
    assert answer.status_code == status


async def test_a_provider_that_asked_confirms(app, browser, add_person, tell):
    """Its own clock says so, and the person is led back."""
    await add_person(ADA)
    answer = await browser.get(await ask(browser, "/secret", again="1"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/secret")
