"""`/v1/applications`."""

from __future__ import annotations


async def test_makes_and_shows_an_application(client, admin):
    """What was posted comes back with an id and times, and is found by id and by uid."""
    made = await client.post(
        "/v1/applications", json={"uid": "shop", "name": "Shop", "metadata": {"plan": "pro"}}, headers=admin
    )
    assert made.status_code == 201, made.text
    body = made.json()
    for reference in (body["id"], "shop"):
        shown = await client.get(f"/v1/applications/{reference}", headers=admin)
        assert shown.json() == body
    assert body["metadata"] == {"plan": "pro"}
    assert body["created_at"].endswith("Z")
