"""System: the file of diagnostics, and the try-out of addresses. What the page shows of health is in test_overview."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

PAGE = "/dashboard/system"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_diagnostics_are_for_admins(role: str, browse_as: BrowseAs) -> None:
    """Others see no button, and the file is refused; nor do they try addresses."""
    browser = await browse_as(role)

    page = (await browser.get(PAGE, params={"target": "http://10.0.0.1/"})).text
    assert f"{PAGE}/diagnostics" not in page
    assert "refused</span>" not in page
    answer = await browser.get(f"{PAGE}/diagnostics")
    assert answer.status_code == 403
    assert "BELLWIRE_" not in answer.text


async def test_diagnostics_hold_what_is_asked_for_first_and_no_secret(app: FastAPI, owner: Browser) -> None:
    """A file of JSON: version, health, tables, and each setting with where its value comes from."""
    answer = await owner.get(f"{PAGE}/diagnostics")

    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith('attachment; filename="bellwire-diagnostics-')
    found = answer.json()
    assert found["checks"]["migrations"]["state"] == "ok"
    assert found["postgres"]
    assert {"deliveries", "audit_log"} <= {table["name"] for table in found["tables"]}
    assert set(found["settings"]["BELLWIRE_RETENTION_DAYS"]) == {"value", "source"}
    settings = app.state.settings
    for secret in (
        settings.bootstrap_key,
        settings.instance_key,
        settings.encryption_keys[0],
        settings.database_url,
    ):
        assert len(secret.get_secret_value()) > 8
        assert secret.get_secret_value() not in answer.text


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://10.0.0.1/hooks", '<span class="pill bad">refused</span>'),
        ("ftp://shop.example.com", '<span class="pill bad">refused</span>'),
        (EVIL, '<span class="pill bad">refused</span>'),
        ("https://shop.example.com/webhooks", '<span class="pill ok">allowed</span>'),
    ],
)
async def test_an_address_is_tried_against_the_egress_policy(target: str, said: str, owner: Browser) -> None:
    """With the sentence that who saves it would read; nothing is looked up, so nothing is told of the network."""
    page = (await owner.get(PAGE, params={"target": target})).text

    assert said in page
    assert EVIL not in page
    assert page.count('<span class="pill bad">refused</span>') + page.count("allowed</span>") == 1
