"""The people of a workspace as pages: who sees them, who changes whom, and the login link that is shown once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.integration.people.conftest import sign_in

if TYPE_CHECKING:
    import httpx2

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import AddPerson, Browser, OpenBrowser

LIST = "/dashboard/people"
LINK = re.compile(r'<code id="link">(http[^<]+)</code>')
ACTIONS = ("disable", "enable", "login-link", "sign-out", "remove")
EVIL = "<img src=x onerror=alert(1)>"


async def id_of(traffic: Traffic, email: str) -> str:
    """The id of a person."""
    return str((await traffic.get(f"/v1/users/{email}"))["id"])


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_people_are_for_admins(
    role: str, browse_as: BrowseAs, add_person: AddPerson, traffic: Traffic
) -> None:
    """Others see neither the list nor a person, no tab leads there, and every form is refused."""
    await add_person("cy@example.com", "viewer")
    person = f"{LIST}/{await id_of(traffic, 'cy@example.com')}"
    browser = await browse_as(role)

    for path in (LIST, f"{LIST}/new", person):
        assert (await browser.get(path)).status_code == 403, path
    assert LIST not in (await browser.get("/dashboard/system")).text
    for path in (LIST, person, *(f"{person}/{action}" for action in ACTIONS)):
        answer = await browser.submit(
            path, at="/dashboard/", email="x@example.com", role="admin", typed="cy@example.com"
        )
        assert answer.status_code == 403, path
        assert "nothing was done" in answer.text
    assert (await traffic.get("/v1/users/cy@example.com"))["role"] == "viewer"


async def test_a_person_of_another_workspace_is_not_there(
    owner: Browser, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """In no list, on no page, and nothing can be done with the id."""
    body = {"email": "theirs@example.net", "role": "viewer"}
    made = (await client.post("/v1/users", json=body, headers=other_admin)).json()

    assert "theirs@example.net" not in (await owner.get(LIST)).text
    assert (await owner.get(f"{LIST}/{made['id']}")).status_code == 404
    for action in ("", *(f"/{action}" for action in ACTIONS)):
        path = f"{LIST}/{made['id']}{action}"
        answer = await owner.submit(path, at=LIST, role="viewer", typed="theirs@example.net")
        assert answer.status_code == 404, path
    assert (await client.get("/v1/users/theirs@example.net", headers=other_admin)).status_code == 200


async def test_faults_of_an_invitation_stand_at_their_fields(
    browse_as: BrowseAs, add_person: AddPerson, traffic: Traffic
) -> None:
    """No address, somebody else's, no role, an owner by an admin: nobody is added, and what was typed stays."""
    await add_person("taken@example.com", "viewer")
    admin = await browse_as("admin")
    before = await traffic.get("/v1/users")

    for field, fields in (
        ("email", {"email": "nonsense", "role": "viewer"}),
        ("email", {"email": "Taken@example.com", "role": "viewer"}),
        ("role", {"email": "new@example.com", "role": "king"}),
    ):
        answer = await admin.submit(LIST, at=f"{LIST}/new", name="Kept", **fields)
        assert answer.status_code == 422, fields
        assert f'id="{field}-fault"' in answer.text, fields
        assert 'value="Kept"' in answer.text
    assert 'value="owner"' not in (await admin.get(f"{LIST}/new")).text
    refused = await admin.submit(LIST, at=f"{LIST}/new", email="new@example.com", role="owner", name="")
    assert refused.status_code == 403
    assert await traffic.get("/v1/users") == before


async def test_an_invited_person_comes_in_by_the_link_that_is_shown_once(
    browse_as: BrowseAs, open_browser: OpenBrowser
) -> None:
    """The link opens the door; a page that is loaded again shows none; the list says who has not come in yet."""
    admin = await browse_as("admin")

    answer = await admin.submit(LIST, at=f"{LIST}/new", email="Bea@example.com", role="operator", name=EVIL)
    page = await admin.get(answer.headers["location"])
    again = await admin.get(answer.headers["location"])

    link = LINK.search(page.text)
    assert link is not None
    assert "content-encoding" not in page.headers
    assert LINK.search(again.text) is None
    assert EVIL not in page.text
    assert '<span class="pill info">invited</span>' in (await admin.get(LIST)).text
    path = link[1][link[1].index("/login/") :]
    entered = await (await open_browser()).submit(path)
    assert entered.status_code == 303
    assert entered.headers["location"].startswith("/dashboard/")
    shown = (await admin.get(LIST)).text
    assert "bea@example.com" in shown
    assert '<span class="pill info">invited</span>' not in shown


async def test_an_admin_does_not_touch_owners(
    browse_as: BrowseAs, add_person: AddPerson, traffic: Traffic
) -> None:
    """Their page has no form, and forms that are sent all the same are refused; nor does an admin make one."""
    await add_person("boss@example.com", "owner")
    await add_person("cy@example.com", "viewer")
    boss, cy = [await id_of(traffic, email) for email in ("boss@example.com", "cy@example.com")]
    admin = await browse_as("admin")

    page = (await admin.get(f"{LIST}/{boss}")).text
    assert "Owners are changed by owners only" in page
    assert f'action="{LIST}/{boss}' not in page
    for action in ("", *(f"/{action}" for action in ACTIONS)):
        answer = await admin.submit(
            f"{LIST}/{boss}{action}", at=LIST, role="viewer", typed="boss@example.com"
        )
        assert answer.status_code == 403, action
    assert (await admin.submit(f"{LIST}/{cy}", name="", role="owner")).status_code == 403
    assert (await traffic.get("/v1/users/boss@example.com"))["role"] == "owner"
    assert (await traffic.get("/v1/users/cy@example.com"))["role"] == "viewer"


async def test_the_last_owner_stays(owner: Browser, traffic: Traffic) -> None:
    """Neither another role, nor disabled, nor removed; the reason stands at the field, or on the page."""
    me = f"{LIST}/{await id_of(traffic, 'owner@example.com')}"

    changed = await owner.submit(me, name="", role="viewer")
    disabled = await owner.submit(f"{me}/disable", at=me)
    removed = await owner.submit(f"{me}/remove", at=me, typed="owner@example.com")

    assert (changed.status_code, disabled.status_code, removed.status_code) == (422, 409, 409)
    assert "last owner" in changed.text.partition('id="role-fault"')[2].partition("</p>")[0]
    assert "last owner" in disabled.text
    assert "This is you" in (await owner.get(me)).text


async def test_what_is_changed_takes_effect_at_once_and_is_on_record(
    browse_as: BrowseAs, traffic: Traffic
) -> None:
    """Name and role; disabled, with the sessions gone; enabled; signed out; removed, once the address is typed."""
    admin, viewer = await browse_as("admin"), await browse_as("viewer")
    reference = await id_of(traffic, "viewer@example.com")
    path = f"{LIST}/{reference}"
    assert "1 browser" in (await admin.get(path)).text

    named = await admin.submit(path, name="Vera", role="viewer")
    assert named.headers["location"] == f"{path}?done=saved"
    assert "Vera" in (await admin.get(LIST)).text
    assert (await viewer.get("/dashboard/")).status_code == 200
    await admin.submit(f"{path}/disable", at=path)
    assert (await viewer.get("/dashboard/")).headers["location"].startswith("/login")
    assert '<span class="pill bad">disabled</span>' in (await admin.get(LIST)).text
    assert (await admin.submit(f"{path}/login-link", at=path)).status_code == 409
    await admin.submit(f"{path}/enable", at=path)
    assert (await sign_in(viewer, "viewer@example.com")).status_code == 303
    await admin.submit(f"{path}/sign-out", at=path)
    assert (await viewer.get("/dashboard/")).status_code == 303
    link = await admin.submit(f"{path}/login-link", at=path)
    assert LINK.search((await admin.get(link.headers["location"])).text) is not None

    wrong = await admin.submit(f"{path}/remove", at=path, typed="vera")
    assert wrong.status_code == 422
    assert (await traffic.get("/v1/users/viewer@example.com"))["id"] == reference
    gone = await admin.submit(f"{path}/remove", at=path, typed=" Viewer@example.com")
    assert gone.headers["location"] == f"{LIST}?done=removed"
    assert (await admin.get(path)).status_code == 404
    entries = (await traffic.get(f"/v1/audit-log?object={reference}"))["data"]
    assert [entry["action"] for entry in entries if entry["actor"]["kind"] == "user"] == [
        "user.deleted",
        "login_link.created",
        "user.signed_out_everywhere",
        "user.updated",
        "user.updated",
        "user.updated",
    ]


async def test_the_list_needs_few_statements(owner: Browser) -> None:
    """However many people there are."""
    answer = await owner.get(LIST)
    assert int(answer.headers["server-timing"].partition('desc="')[2].split()[0]) <= 3
