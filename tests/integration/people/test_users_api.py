"""`/v1/users`: who may do what to whom, and the owner who always stays."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, text

from app.access.users import change_user, delete_user, give_link, invite_user
from app.core import ids
from app.core.context import Caller, Person
from app.core.errors import Conflict, Forbidden
from app.core.roles import PersonRole
from app.models import Workspace
from tests.integration.api.conftest import headers as key_headers
from tests.integration.people.conftest import sign_in

ADA, BEA, CY = "ada@example.com", "bea@example.com", "cy@example.com"


async def invite(client, admin, email=CY, role="operator", **fields):
    return await client.post("/v1/users", json={"email": email, "role": role, **fields}, headers=admin)


@pytest.fixture
async def as_person(app):
    """Returns a person of the first workspace as a caller, by role."""
    async with app.state.runtime.sessions() as session:
        workspace = (await session.scalars(select(Workspace))).one()

    def make(role):
        user_id = ids.uuid7(1)
        return Caller(
            workspace_id=workspace.id,
            role=PersonRole(role).as_role,
            actor_kind="user",
            actor_id=ids.to_text(ids.USER, user_id),
            person=Person(user_id=user_id, session_id=user_id, role=PersonRole(role)),
        )

    return make


async def test_an_admin_key_neither_makes_nor_touches_owners(client, admin, add_person):
    """403 for each way, by id and by address: an admin who could make an owner, or enter as one, would be one."""
    await add_person(ADA)
    await add_person(BEA, "admin")
    answers = [
        await invite(client, admin, role="owner"),
        await client.patch(f"/v1/users/{BEA}", json={"role": "owner"}, headers=admin),
        await client.patch(f"/v1/users/{ADA}", json={"role": "viewer"}, headers=admin),
        await client.patch(f"/v1/users/{ADA}", json={"disabled": True}, headers=admin),
        await client.patch(f"/v1/users/{ADA}", json={"name": "Not Ada"}, headers=admin),
        await client.post(f"/v1/users/{ADA}/login-link", headers=admin),
        await client.delete(f"/v1/users/{ADA}/sessions", headers=admin),
        await client.delete(f"/v1/users/{ADA}", headers=admin),
    ]
    assert [answer.status_code for answer in answers] == [403] * 8
    assert (await client.get(f"/v1/users/{ADA}", headers=admin)).json()["role"] == "owner"


@pytest.mark.parametrize(
    ("role", "target", "allowed"),
    [
        ("owner", "owner", True),
        ("owner", "viewer", True),
        ("admin", "owner", False),
        ("admin", "admin", True),
        ("operator", "viewer", False),
        ("viewer", "viewer", False),
    ],
)
async def test_people_manage_people_by_their_role(app, as_person, role, target, allowed):
    """The services themselves decide, whoever calls them: pages to come, and the API."""
    runtime = app.state.runtime
    async with runtime.sessions() as session:
        work = invite_user(session, as_person(role), clock=runtime.clock, email=CY, role=PersonRole(target))
        if allowed:
            assert (await work).row.role == target
        else:
            with pytest.raises(Forbidden):
                await work


async def test_the_last_owner_stays(app, as_person, add_person):
    """Removing, disabling and demoting the only enabled owner is a conflict, also by an owner, also by oneself."""
    await add_person(ADA)
    await add_person(BEA)
    owner = as_person("owner")
    runtime = app.state.runtime
    async with runtime.sessions.begin() as session:
        await change_user(session, owner, BEA, changes={"disabled": True})
    for work in (
        lambda session: delete_user(session, owner, ADA),
        lambda session: change_user(session, owner, ADA, changes={"disabled": True}),
        lambda session: change_user(session, owner, ADA, changes={"role": "admin"}),
    ):
        with pytest.raises(Conflict, match="last owner"):
            async with runtime.sessions.begin() as session:
                await work(session)
    async with runtime.sessions.begin() as session:
        await delete_user(session, owner, BEA)


async def test_two_owners_cannot_remove_each_other_at_the_same_time(app, as_person, add_person):
    """One of the two changes is made, the other is a conflict; ten times."""
    await add_person(ADA)
    await add_person(BEA)
    runtime = app.state.runtime

    async def demote(email):
        async with runtime.sessions.begin() as session:
            await change_user(session, as_person("owner"), email, changes={"role": "admin"})

    for _ in range(10):
        results = await asyncio.gather(demote(ADA), demote(BEA), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]
        async with runtime.sessions.begin() as session:
            await session.execute(text("UPDATE users SET role = 'owner'"))


async def test_one_address_is_one_person(client, admin, other_admin):
    """In any case of its letters, and in another workspace too: 409, and nothing about whose it is."""
    assert (await invite(client, admin, "Cy@Example.com")).status_code == 201
    again = await invite(client, admin, CY)
    elsewhere = await invite(client, other_admin, "CY@EXAMPLE.COM")
    assert (again.status_code, elsewhere.status_code) == (409, 409)
    assert "Default" not in elsewhere.text


@pytest.mark.parametrize(
    "email",
    [
        "",
        "x",
        "@example.com",
        "a@",
        "a b@example.com",
        "a@b@c",
        "ä@example.com",
        "a@exämple.com",
        "a\n@b.c",
        "a" * 251 + "@b.c",
    ],
)
async def test_what_is_no_address(client, admin, email):
    """422 at /email. Letters outside ASCII can look like others, so they are none."""
    answer = await invite(client, admin, email)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/email")


async def test_a_key_of_one_application_knows_nobody(client, admin, make_key):
    """People are the whole workspace's: 403 on every route."""
    await client.post("/v1/applications", json={"name": "1", "uid": "one"}, headers=admin)
    await invite(client, admin)
    bound = key_headers(await make_key("admin", application="one"))
    answers = [
        await client.request(method, path, json=body, headers=bound)
        for method, path, body in (
            ("GET", "/v1/users", None),
            ("POST", "/v1/users", {"email": ADA, "role": "viewer"}),
            ("GET", f"/v1/users/{CY}", None),
            ("PATCH", f"/v1/users/{CY}", {"role": "viewer"}),
            ("DELETE", f"/v1/users/{CY}", None),
            ("POST", f"/v1/users/{CY}/login-link", None),
            ("DELETE", f"/v1/users/{CY}/sessions", None),
        )
    ]
    assert [answer.status_code for answer in answers] == [403] * 7


async def test_people_of_another_workspace_do_not_exist(client, admin, other_admin):
    """404 by id and by address, for every method, and in no list."""
    person = (await invite(client, admin)).json()
    for name in (person["id"], CY):
        answers = [
            await client.request(method, path, json=body, headers=other_admin)
            for method, path, body in (
                ("GET", f"/v1/users/{name}", None),
                ("PATCH", f"/v1/users/{name}", {"role": "viewer"}),
                ("DELETE", f"/v1/users/{name}", None),
                ("POST", f"/v1/users/{name}/login-link", None),
                ("DELETE", f"/v1/users/{name}/sessions", None),
            )
        ]
        assert [answer.status_code for answer in answers] == [404] * 5
    assert (await client.get("/v1/users", headers=other_admin)).json()["data"] == []


async def test_an_invitation_is_shown_once(app, client, admin, browser):
    """The answer's link lets the person in; no list, row or audit entry shows it again."""
    invited = (await invite(client, admin, name="Cy")).json()
    assert (invited["email"], invited["role"], invited["name"]) == (CY, "operator", "Cy")
    assert (invited["has_password"], invited["disabled"]) == (False, False)
    url = invited["login_link"]["url"]
    assert url.startswith(app.state.settings.public_url + "/login/link/")
    listed = await client.get("/v1/users", headers=admin)
    audited = await client.get("/v1/audit-log", headers=admin)
    assert url.rpartition("/")[2] not in listed.text + audited.text
    assert (await browser.submit(url)).status_code == 303


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}])
async def test_a_change_of_rights_ends_the_sessions(client, admin, browser, add_person, change):
    """Another role or being disabled: the person's next page leads to the door."""
    await add_person(CY, "operator")
    await sign_in(browser, CY)
    answer = await client.patch(f"/v1/users/{CY}", json=change, headers=admin)
    assert answer.status_code == 200
    assert (await browser.get("/account")).status_code == 303


async def test_a_link_that_an_admin_made_never_opens_an_owners_account(
    client, admin, browser, app, as_person
):
    """An admin may keep a link of somebody who is an admin; when that person becomes an owner it works no more."""
    made = (await invite(client, admin, BEA, "admin")).json()
    async with app.state.runtime.sessions.begin() as session:
        await change_user(session, as_person("owner"), BEA, changes={"role": "owner"})
    assert (await browser.get(made["login_link"]["url"])).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "change"),
    [
        ("PATCH", "", {"role": "viewer"}),
        ("PATCH", "", {"disabled": True}),
        ("DELETE", "/sessions", None),
    ],
)
async def test_what_ends_the_sessions_ends_the_links(client, admin, browser, method, path, change):
    """Another role, being disabled and enabled again, and signing somebody out everywhere."""
    made = (await invite(client, admin)).json()
    await client.request(method, f"/v1/users/{CY}{path}", json=change, headers=admin)
    await client.patch(f"/v1/users/{CY}", json={"disabled": False}, headers=admin)
    assert (await browser.get(made["login_link"]["url"])).status_code == 404
    again = await client.post(f"/v1/users/{CY}/login-link", headers=admin)
    assert (await browser.submit(again.json()["url"])).status_code == 303


async def test_who_is_enabled_again_has_to_sign_in_again(client, admin, browser, add_person):
    """Being disabled is not only a pause of the sessions."""
    await add_person(CY, "operator")
    await sign_in(browser, CY)
    for disabled in (True, False):
        await client.patch(f"/v1/users/{CY}", json={"disabled": disabled}, headers=admin)
    assert (await browser.get("/account")).status_code == 303
    assert (await sign_in(browser, CY)).status_code == 303
    assert (await browser.get("/account")).status_code == 200


async def test_a_new_name_ends_nothing(client, admin, browser, add_person):
    """What changes no right leaves the sessions alone."""
    await add_person(CY, "operator")
    await sign_in(browser, CY)
    await client.patch(f"/v1/users/{CY}", json={"name": "Cyrus", "role": "operator"}, headers=admin)
    assert "Cyrus" in (await browser.get("/account")).text


async def test_people_are_signed_out_and_removed(client, admin, browser, add_person):
    """DELETE of the sessions lets them come back, DELETE of the person does not."""
    await add_person(CY, "operator")
    await sign_in(browser, CY)
    assert (await client.delete(f"/v1/users/{CY}/sessions", headers=admin)).status_code == 204
    assert (await browser.get("/account")).status_code == 303
    assert (await sign_in(browser, CY)).status_code == 303
    assert (await client.delete(f"/v1/users/{CY}", headers=admin)).status_code == 204
    assert (await client.delete(f"/v1/users/{CY}", headers=admin)).status_code == 404
    assert (await sign_in(browser, CY)).status_code == 403


async def test_no_link_for_a_person_who_is_disabled(app, as_person, add_person):
    """It would not work, so it is a conflict that says so."""
    await add_person(CY, "viewer")
    runtime = app.state.runtime
    async with runtime.sessions.begin() as session:
        await change_user(session, as_person("admin"), CY, changes={"disabled": True})
    async with runtime.sessions() as session:
        with pytest.raises(Conflict, match="disabled"):
            await give_link(session, as_person("admin"), CY, clock=runtime.clock)


async def test_every_change_is_on_record(client, admin):
    """Who did what to whom, before and after, without a secret."""
    person = (await invite(client, admin)).json()
    path = f"/v1/users/{person['id']}"
    await client.patch(path, json={"role": "viewer"}, headers=admin)
    await client.patch(path, json={"role": "viewer"}, headers=admin)
    await client.post(f"{path}/login-link", headers=admin)
    await client.delete(f"{path}/sessions", headers=admin)
    await client.delete(path, headers=admin)
    entries = (await client.get("/v1/audit-log", params={"object": person["id"]}, headers=admin)).json()[
        "data"
    ]
    assert sorted(entry["action"] for entry in entries) == [
        "login_link.created",
        "login_link.created",
        "user.created",
        "user.deleted",
        "user.signed_out_everywhere",
        "user.updated",
    ]
    (updated,) = [entry for entry in entries if entry["action"] == "user.updated"]
    assert (updated["before"]["role"], updated["after"]["role"]) == ("operator", "viewer")
    assert {entry["actor"]["kind"] for entry in entries} == {"api_key"}
