"""`/v1/endpoints`: make, show, list, change, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import bellwire

if TYPE_CHECKING:
    import httpx2

URL = "https://shop.example.com/webhooks"


async def create(client: httpx2.AsyncClient, admin: dict[str, str], **fields: Any) -> dict[str, Any]:
    """Make an endpoint and return the answer."""
    answer = await client.post("/v1/endpoints", json={"url": URL} | fields, headers=admin)
    assert answer.status_code == 201, answer.text
    return answer.json()


def rows(database: str, query: str, *values: Any) -> list[Any]:
    """Read from the database."""
    with psycopg.connect(database.replace("postgresql+psycopg", "postgresql", 1)) as connection:
        return connection.execute(query, values).fetchall()


async def test_defaults_are_filled_in_and_shown(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """A URL is enough; the answer shows what holds."""
    made = await create(client, admin)
    assert made["id"].startswith("ep_")
    assert made["application_uid"] == "default"
    assert bellwire.Webhook(made["secret"])
    expected = {
        "url": URL,
        "description": None,
        "event_types": ["*"],
        "filter": None,
        "headers": {},
        "rate_limit": None,
        "max_in_flight": 10,
        "timeout_seconds": 15,
        "retry_schedule": [5, 30, 120, 600, 1800, 7200, 18000, 36000, 50400, 72000, 86400],
        "ordering": "none",
        "fifo_on_dead": "skip",
        "format": "standard",
        "signature": "hmac-sha256",
        "public_key": None,
        "max_age_seconds": 432_000,
        "enabled": True,
        "disabled_reason": None,
        "paused": False,
        "metadata": {},
        "filter_errors": 0,
        "backlog": 0,
        "backlog_capped": False,
    }
    assert expected.items() <= made.items()
    assert made["health"] == {
        "state": "closed",
        "reason": None,
        "consecutive_failures": 0,
        "opened_at": None,
        "next_probe_at": None,
        "last_success_at": None,
        "last_failure_at": None,
    }


async def test_what_was_given_is_kept(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """GET returns every field as it was posted, the values of headers masked and the secret left out."""
    given = {
        "description": "Orders",
        "event_types": ["order.*", "user.created"],
        "filter": "data.amount > 100",
        "headers": {"Authorization": "Bearer secret-token", "X-Team": "a b"},
        "rate_limit": {"per_second": 2.5, "burst": 7},
        "max_in_flight": 1000,
        "timeout_seconds": 30,
        "retry_schedule": [0, 604_800],
        "ordering": "fifo",
        "fifo_on_dead": "block",
        "format": "cloudevents",
        "max_age_seconds": 3_600,
        "enabled": False,
        "metadata": {"team": "shop"},
    }
    made = await create(client, admin, **given)
    shown = (await client.get(f"/v1/endpoints/{made['id']}", headers=admin)).json()
    assert "secret" not in shown
    assert shown["headers"] == {"Authorization": "***", "X-Team": "***"}
    assert shown["disabled_reason"]
    assert {name: shown[name] for name in given if name != "headers"} == {
        name: value for name, value in given.items() if name != "headers"
    }


async def test_secrets_are_sealed_in_the_database(
    client: httpx2.AsyncClient, admin: dict[str, str], clean_database: str
) -> None:
    """Neither the signing secret nor a header's value is stored in the clear."""
    made = await create(client, admin, headers={"Authorization": "Bearer in-the-clear"})
    (headers,) = rows(clean_database, "SELECT sealed_headers FROM endpoints")[0]
    (secret,) = rows(clean_database, "SELECT sealed_secret FROM endpoint_secrets")[0]
    assert b"in-the-clear" not in headers
    assert made["secret"].encode() not in secret


async def test_claim_settings_are_copied(
    client: httpx2.AsyncClient, admin: dict[str, str], clean_database: str
) -> None:
    """What a claim reads stands on the runtime row from the start."""
    await create(
        client,
        admin,
        ordering="fifo",
        max_in_flight=7,
        timeout_seconds=3,
        rate_limit={"per_second": 2.5},
        enabled=False,
    )
    found = rows(
        clean_database,
        "SELECT open, fifo, max_in_flight, timeout_seconds, rate_per_second, rate_burst, settings_version"
        " FROM endpoint_runtime",
    )
    assert found == [(False, True, 7, 3, 2.5, 3, 1)]


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"url": "ftp://example.com/"}, "/url", "http"),
        ({"url": "https://user:pw@example.com/"}, "/url", "password"),
        ({"url": "https://example.com/#part"}, "/url", "fragment"),
        ({"url": "http://127.0.0.1/"}, "/url", "private"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "/url", "private"),
        ({"url": "http://localhost/"}, "/url", "local"),
        ({"url": "https://example.com:5432/"}, "/url", "5432"),
        ({"url": "https://example.com/" + "a" * 2_048}, "/url", "2"),
        ({"url": 5}, "/url", "text"),
        ({"event_types": []}, "/event_types", "at least one"),
        ({"event_types": ["order.*", "*.placed"]}, "/event_types/1", "*"),
        ({"filter": "data.amount >"}, "/filter", "line 1, column 14"),
        ({"filter": "data.a.all(x, x.all(y, y))"}, "/filter", "nested"),
        ({"headers": {"Host": "a"}}, "/headers/Host", "connection"),
        ({"headers": {"webhook-id": "a"}}, "/headers/webhook-id", "itself"),
        ({"headers": {"Proxy-Authorization": "a"}}, "/headers/Proxy-Authorization", "itself"),
        ({"headers": {"a b": "c"}}, "/headers/a b", "name"),
        ({"headers": {"X": "a\r\nHost: b"}}, "/headers/X", "value"),
        ({"headers": {"X": "ü"}}, "/headers/X", "value"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "/headers/x-a", "twice"),
        ({"secret": "whsec_c2hvcnQ="}, "/secret", "24 to 64"),
        ({"secret": "plain"}, "/secret", "whsec_"),
        ({"secret": "whsk_" + "A" * 43 + "="}, "/secret", "whsec_"),
        ({"max_in_flight": 0}, "/max_in_flight", "1"),
        ({"max_in_flight": 1_001}, "/max_in_flight", "1000"),
        ({"timeout_seconds": 31}, "/timeout_seconds", "30"),
        ({"retry_schedule": []}, "/retry_schedule", "1"),
        ({"retry_schedule": [1] * 21}, "/retry_schedule", "20"),
        ({"retry_schedule": [604_801]}, "/retry_schedule/0", "604800"),
        ({"rate_limit": {"per_second": 0}}, "/rate_limit/per_second", "greater"),
        ({"rate_limit": {"burst": 1}}, "/rate_limit/per_second", "required"),
        ({"max_age_seconds": 30 * 86_400}, "/max_age_seconds", "30 days"),
        ({"ordering": "lifo"}, "/ordering", "fifo"),
        ({"fifo_on_dead": "stop"}, "/fifo_on_dead", "block"),
        ({"unknown": 1}, "/unknown", "no such field"),
        ({"metadata": {"a": 1}}, "/metadata/a", "text"),
        ({"description": "a\u0000b"}, "/description", "NUL"),
    ],
)
async def test_bad_values_are_pointed_at(
    client: httpx2.AsyncClient, admin: dict[str, str], fields: dict[str, Any], pointer: str, words: str
) -> None:
    """Each value that cannot be used is 422 with a pointer and a reason, and nothing is made."""
    answer = await client.post("/v1/endpoints", json={"url": URL} | fields, headers=admin)
    assert answer.status_code == 422, answer.text
    errors = answer.json()["errors"]
    assert [error["pointer"] for error in errors] == [pointer]
    assert words in errors[0]["detail"]
    assert (await client.get("/v1/endpoints", headers=admin)).json()["data"] == []


async def test_ed25519_shows_its_public_key(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """The public key belongs to the secret that was shown once."""
    made = await create(client, admin, signature="ed25519")
    shown = (await client.get(f"/v1/endpoints/{made['id']}", headers=admin)).json()
    assert made["secret"].startswith("whsk_")
    assert shown["public_key"] == bellwire.public_key(made["secret"])


async def test_own_secret_is_kept(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """A secret of the caller's own is used, in its usual form."""
    secret = bellwire.generate_secret(size=25)
    made = await create(client, admin, secret=secret.rstrip("="))
    assert made["secret"] == secret


async def test_unknown_application_is_404(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """An endpoint needs an application that exists."""
    answer = await client.post("/v1/endpoints", json={"url": URL, "application": "none"}, headers=admin)
    assert answer.status_code == 404


async def test_list_filters_and_pages(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """Newest first, by application, enabled and health; pages follow each other."""
    await client.post("/v1/applications", json={"name": "Other", "uid": "other"}, headers=admin)
    made = [await create(client, admin, enabled=number != 1) for number in range(3)]
    elsewhere = await create(client, admin, application="other")

    async def listed(query: str) -> list[str]:
        answer = await client.get(f"/v1/endpoints?{query}", headers=admin)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    all_ids = [elsewhere["id"], *[row["id"] for row in reversed(made)]]
    assert await listed("") == all_ids
    assert await listed("application=other") == [elsewhere["id"]]
    assert await listed("application=default&enabled=false") == [made[1]["id"]]
    assert await listed("health=open") == []
    assert len(await listed("health=closed")) == 4
    first = (await client.get("/v1/endpoints?limit=3", headers=admin)).json()
    second = (await client.get(f"/v1/endpoints?limit=3&cursor={first['next_cursor']}", headers=admin)).json()
    assert [row["id"] for row in (*first["data"], *second["data"])] == all_ids
    assert (await client.get("/v1/endpoints?color=red", headers=admin)).status_code == 422
    assert (await client.get("/v1/endpoints?health=sick", headers=admin)).status_code == 422


async def test_patch_changes_what_is_given(
    client: httpx2.AsyncClient, admin: dict[str, str], clean_database: str
) -> None:
    """Fields that are left out stay; null sets back to the default; workers and publishers are told."""
    made = await create(client, admin, retry_schedule=[1], rate_limit={"per_second": 1}, description="Old")
    version = rows(clean_database, "SELECT routing_version FROM applications WHERE uid = 'default'")[0][0]
    answer = await client.patch(
        f"/v1/endpoints/{made['id']}",
        json={
            "retry_schedule": None,
            "rate_limit": None,
            "max_in_flight": 3,
            "event_types": ["a.*"],
            "filter": "data.x == 1",
        },
        headers=admin,
    )
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["event_types"], shown["filter"], shown["rate_limit"]) == (["a.*"], "data.x == 1", None)
    assert (shown["max_in_flight"], shown["description"], len(shown["retry_schedule"])) == (3, "Old", 11)
    assert shown["updated_at"] > made["updated_at"]
    copied = rows(
        clean_database, "SELECT max_in_flight, rate_per_second, settings_version FROM endpoint_runtime"
    )
    assert copied == [(3, None, 2)]
    assert rows(
        clean_database, "SELECT routing_version > %s FROM applications WHERE uid = 'default'", version
    ) == [(True,)]


async def test_masked_header_keeps_its_value(
    client: httpx2.AsyncClient, admin: dict[str, str], app: Any, clean_database: str
) -> None:
    """What GET shows can be sent back: `***` keeps the stored value, other values replace, the rest goes."""
    made = await create(client, admin, headers={"Authorization": "Bearer 1", "X-A": "1", "X-B": "1"})
    path = f"/v1/endpoints/{made['id']}"
    answer = await client.patch(path, json={"headers": {"Authorization": "***", "X-A": "2"}}, headers=admin)
    assert answer.status_code == 200, answer.text
    sealed, endpoint_id = rows(clean_database, "SELECT sealed_headers, id FROM endpoints")[0]
    opened = app.state.runtime.keyring.open(sealed, row=endpoint_id, column="sealed_headers")
    assert opened == b'{"Authorization":"Bearer 1","X-A":"2"}'
    refused = await client.patch(path, json={"headers": {"X-New": "***"}}, headers=admin)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/headers/X-New"


async def test_patch_of_signature_makes_a_secret_of_that_kind(
    client: httpx2.AsyncClient, admin: dict[str, str]
) -> None:
    """The new kind of secret is current, and the one before signs on for its grace."""
    made = await create(client, admin)
    path = f"/v1/endpoints/{made['id']}"
    shown = (await client.patch(path, json={"signature": "ed25519"}, headers=admin)).json()
    secret = (await client.get(f"{path}/secret", headers=admin)).json()
    assert shown["public_key"] == bellwire.public_key(secret["secret"])
    assert len(secret["previous"]) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"url": "http://10.0.0.1/"}, "/url"),
        ({"url": None}, "/url"),
        ({"event_types": []}, "/event_types"),
        ({"filter": "1 +"}, "/filter"),
        ({"headers": {"Upgrade": "a"}}, "/headers/Upgrade"),
        ({"secret": "whsec_x"}, "/secret"),
        ({"application": "default"}, "/application"),
        ({"max_in_flight": None}, "/max_in_flight"),
    ],
)
async def test_patch_refuses_bad_values(
    client: httpx2.AsyncClient, admin: dict[str, str], changes: dict[str, Any], pointer: str
) -> None:
    """PATCH holds to the rules of POST, and says so before it looks for the endpoint."""
    answer = await client.patch("/v1/endpoints/ep_nobody", json=changes, headers=admin)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_delete_ends_an_endpoint(client: httpx2.AsyncClient, admin: dict[str, str]) -> None:
    """A deleted endpoint is gone for every call, also for a second DELETE."""
    made = await create(client, admin)
    path = f"/v1/endpoints/{made['id']}"
    assert (await client.delete(path, headers=admin)).status_code == 204
    assert (await client.delete(path, headers=admin)).status_code == 404
    assert (await client.get(path, headers=admin)).status_code == 404
    assert (await client.get("/v1/endpoints", headers=admin)).json()["data"] == []


async def test_another_workspace_sees_nothing(
    client: httpx2.AsyncClient, admin: dict[str, str], other_admin: dict[str, str]
) -> None:
    """Every call about another workspace's endpoint is 404."""
    made = await create(client, admin)
    path = f"/v1/endpoints/{made['id']}"
    calls = [
        client.get(path, headers=other_admin),
        client.patch(path, json={"enabled": False}, headers=other_admin),
        client.delete(path, headers=other_admin),
        client.get(f"{path}/secret", headers=other_admin),
        client.post(f"{path}/secret/rotate", headers=other_admin),
        client.post(f"{path}/secret/revoke-previous", headers=other_admin),
        client.post(f"{path}/test", headers=other_admin),
        client.post(f"{path}/pause", headers=other_admin),
        client.get(f"{path}/stats", headers=other_admin),
        client.get(f"{path}/subscriptions", headers=other_admin),
        client.post(f"{path}/subscriptions", json={"event_types": ["*"]}, headers=other_admin),
        client.get(f"/v1/deliveries?endpoint={made['id']}", headers=other_admin),
    ]
    assert [(await call).status_code for call in calls] == [404] * len(calls)


async def test_roles(client: httpx2.AsyncClient, admin: dict[str, str], make_key: Any, headers: Any) -> None:
    """Admins change, operators repair, viewers read without secrets, publishers see nothing."""
    made = await create(client, admin, url=f"{URL}?token=abc")
    path = f"/v1/endpoints/{made['id']}"
    operator, viewer = headers(await make_key("operator")), headers(await make_key("viewer"))
    publisher = headers(await make_key("publisher"))
    assert (await client.get(path, headers=viewer)).json()["url"] == f"{URL}?***"
    assert (await client.get(path, headers=operator)).json()["url"] == f"{URL}?token=abc"
    assert (await client.get(path, headers=publisher)).status_code == 403
    assert (await client.patch(path, json={"enabled": False}, headers=operator)).status_code == 403
    assert (await client.get(f"{path}/secret", headers=operator)).status_code == 403
    assert (await client.post(f"{path}/secret/rotate", headers=operator)).status_code == 403
    assert (await client.post(f"{path}/pause", headers=operator)).status_code == 200
    assert (await client.post(f"{path}/pause", headers=viewer)).status_code == 403
    assert (await client.post(f"{path}/test", headers=viewer)).status_code == 403


async def test_key_bound_to_an_application_sees_only_its_endpoints(
    client: httpx2.AsyncClient, admin: dict[str, str], make_key: Any, headers: Any
) -> None:
    """A bound key makes endpoints in its application, and sees 404 elsewhere."""
    await client.post("/v1/applications", json={"name": "Other", "uid": "other"}, headers=admin)
    elsewhere = await create(client, admin)
    bound = headers(await make_key("admin", application="other"))
    own = await create(client, bound)
    assert own["application_uid"] == "other"
    assert (await client.get(f"/v1/endpoints/{elsewhere['id']}", headers=bound)).status_code == 404
    assert [row["id"] for row in (await client.get("/v1/endpoints", headers=bound)).json()["data"]] == [
        own["id"]
    ]


async def test_same_idempotency_key_makes_one_endpoint(
    client: httpx2.AsyncClient, admin: dict[str, str]
) -> None:
    """A repeated POST returns the first answer, secret included."""
    keyed = admin | {"Idempotency-Key": "endpoint-1"}
    first = await client.post("/v1/endpoints", json={"url": URL}, headers=keyed)
    again = await client.post("/v1/endpoints", json={"url": URL}, headers=keyed)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert len((await client.get("/v1/endpoints", headers=admin)).json()["data"]) == 1


async def test_audit_log_holds_no_secret(
    client: httpx2.AsyncClient, admin: dict[str, str], clean_database: str
) -> None:
    """Changes are on record, without secrets, values of headers, or query strings."""
    made = await create(client, admin, url=f"{URL}?token=abc", headers={"Authorization": "Bearer xyz"})
    path = f"/v1/endpoints/{made['id']}"
    await client.patch(
        path, json={"url": f"{URL}/2?token=abc", "headers": {"X": "Bearer xyz"}}, headers=admin
    )
    await client.post(f"{path}/secret/rotate", headers=admin)
    await client.get(f"{path}/secret", headers=admin)
    await client.delete(path, headers=admin)
    entries = rows(
        clean_database,
        "SELECT action, coalesce(before::text, '') || coalesce(after::text, '') FROM audit_log"
        " WHERE object_kind = 'endpoint' ORDER BY id",
    )
    assert [action for action, _ in entries] == [
        "endpoint.created",
        "endpoint.updated",
        "secret.rotated",
        "endpoint.secret_revealed",
        "endpoint.deleted",
    ]
    assert not any(secret in text for _, text in entries for secret in ("abc", "xyz", "whsec_"))
