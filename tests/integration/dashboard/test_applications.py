"""The pages of applications: figures, the noisy neighbour, and what admins do with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from app.deliveries.record import Settle
from app.stats.keeping import count_minutes
from app.stats.spans import MINUTE, floor_to

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser


async def test_an_application_of_another_workspace_is_not_there(
    owner: Browser, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """Neither its page nor its name."""
    body = {"name": "Theirs alone", "uid": "theirs"}
    made = (await client.post("/v1/applications", json=body, headers=other_admin)).json()

    for reference in (made["id"], "theirs", "nonsense"):
        answer = await owner.get(f"/dashboard/applications/{reference}")
        assert answer.status_code == 404
    assert "Theirs alone" not in (await owner.get("/dashboard/applications")).text


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_only_admins_change_applications(role: str, browse_as: BrowseAs, traffic: Traffic) -> None:
    """No form on any page, and a form that is sent all the same is refused."""
    made = await traffic.post("/v1/applications", {"name": "Acme", "uid": "acme"}, status=201)
    browser = await browse_as(role)
    path = f"/dashboard/applications/{made['id']}"

    for page in ("/dashboard/applications", path):
        assert 'action="/dashboard/applications' not in (await browser.get(page)).text
    assert (await browser.get("/dashboard/applications/new")).status_code == 403
    for target in ("/dashboard/applications", path, f"{path}/delete"):
        answer = await browser.submit(target, at=path, name="Other", uid="", typed="Acme")
        assert answer.status_code == 403
    assert (await traffic.get("/v1/applications/acme"))["name"] == "Acme"


async def test_faults_stand_at_their_fields(owner: Browser, traffic: Traffic) -> None:
    """An empty name, a uid that is taken or none: said, with what was typed kept."""
    await traffic.post("/v1/applications", {"name": "Acme", "uid": "acme"}, status=201)
    other = await traffic.post("/v1/applications", {"name": "Other", "uid": "other"}, status=201)

    for fields, field in (
        ({"name": "", "uid": "fresh"}, "name"),
        ({"name": "Kept", "uid": "acme"}, "uid"),
        ({"name": "Kept", "uid": "two words"}, "uid"),
        ({"name": "Kept", "uid": other["id"]}, "uid"),
    ):
        for target, at in (
            ("/dashboard/applications", "/dashboard/applications/new"),
            (f"/dashboard/applications/{other['id']}", f"/dashboard/applications/{other['id']}"),
        ):
            answer = await owner.submit(target, at=at, **fields)
            assert answer.status_code == 422, fields
            assert f'id="{field}-fault"' in answer.text
            assert f'value="{fields["name"]}"' in answer.text
    assert (await traffic.get("/v1/applications/other"))["name"] == "Other"


async def test_an_admin_makes_renames_and_deletes(browse_as: BrowseAs, traffic: Traffic) -> None:
    """Deleting needs the name; what is part of every workspace has no such form."""
    admin = await browse_as("admin")

    answer = await admin.submit(
        "/dashboard/applications", at="/dashboard/applications/new", name="Acme <b>", uid="acme"
    )
    where = answer.headers["location"].partition("?")[0]
    page = (await admin.get(answer.headers["location"])).text
    assert "Acme &lt;b&gt;" in page
    answer = await admin.submit(where, name="Acme plc", uid="acme-2")
    assert answer.headers["location"] == f"{where}?done=renamed"
    assert (await traffic.get("/v1/applications/acme-2"))["name"] == "Acme plc"

    assert (await admin.submit(f"{where}/delete", at=where, typed="Acme")).status_code == 422
    answer = await admin.submit(f"{where}/delete", at=where, typed="Acme plc")

    assert answer.headers["location"] == "/dashboard/applications?done=deleted"
    assert (await admin.get(where)).status_code == 404
    default = await traffic.get("/v1/applications/default")
    assert "Delete…" not in (await admin.get(f"/dashboard/applications/{default['id']}")).text


async def test_the_loudest_application_stands_first(app: FastAPI, owner: Browser, traffic: Traffic) -> None:
    """With its share, its success, its endpoints; a filter by name finds the others."""
    for uid in ("loud", "calm"):
        await traffic.post("/v1/applications", {"name": f"The {uid} one", "uid": uid}, status=201)
    loud = await traffic.endpoint(application="loud")
    calm = await traffic.endpoint(application="calm")
    for uid, endpoint, settle in (
        *[("loud", loud, Settle.RETRY)] * 3,
        ("calm", calm, Settle.SUCCEEDED),
    ):
        await traffic.publish(application=uid)
        await traffic.attempt(endpoint, settle)
    now = floor_to(datetime.now(UTC), MINUTE)
    async with app.state.runtime.engine.begin() as connection:
        await count_minutes(connection, [now])

    page = (await owner.get("/dashboard/applications?range=1h")).text

    assert page.index('class="cut">The loud one') < page.index('class="cut">The calm one')
    assert "<strong>The loud one</strong> makes 75.0% of all attempts" in page
    filtered = (await owner.get("/dashboard/applications?q=calm")).text
    assert 'class="cut">The loud one' not in filtered
    assert "No application matches" in (await owner.get("/dashboard/applications?q=nobody")).text


async def test_the_page_of_an_application_says_what_it_uses(
    owner: Browser, client: httpx2.AsyncClient, instance: dict[str, str], traffic: Traffic
) -> None:
    """Endpoints and publishing against the workspace's quotas, in few statements; the portal's place is named."""
    (workspace,) = (await client.get("/v1/workspaces", headers=instance)).json()["data"]
    quotas = {"quotas": {"endpoints": 7, "events_per_second": 50}}
    answer = await client.patch(f"/v1/workspaces/{workspace['id']}", json=quotas, headers=instance)
    assert answer.status_code == 200, answer.text
    made = await traffic.endpoint(url="https://shop.example.com/hooks")
    await traffic.publish()

    answer = await owner.get(f"/dashboard/applications/{made['application']}")

    assert "1 here, 1 in the workspace of 7" in answer.text
    assert "0.0 a second of 50" in answer.text
    assert f'href="/dashboard/endpoints/{made["id"]}"' in answer.text
    assert 'id="portal"' in answer.text
    assert int(answer.headers["server-timing"].partition('desc="')[2].split()[0]) <= 4
