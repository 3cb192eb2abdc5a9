"""The README is true: its snippets run, and its table names every reason."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import django
import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.urls import path
from fastapi.testclient import TestClient

from bellwire import Reason, Webhook, generate_keypair, generate_secret

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"<!-- (\w+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))
BODY = b'{"type":"order.placed","timestamp":"2026-01-02T03:04:05.678Z","data":{"number":7}}'


@pytest.fixture
def secret(monkeypatch):
    """The secret that the snippets read from the environment."""
    secret = generate_secret()
    monkeypatch.setenv("BELLWIRE_SECRET", secret)
    return secret


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a snippet, unchanged, as a module of its own."""

    def run(name):
        module = ModuleType(f"readme_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(SNIPPETS[name], f"README.md: {name}", "exec"), module.__dict__)  # noqa: S102 - our own README.
        return module

    return run


def post_fastapi(module, body, headers):
    answer = TestClient(module.app).post("/webhooks", content=body, headers=headers)
    return answer.status_code, answer.json()


def post_flask(module, body, headers):
    answer = module.app.test_client().post("/webhooks", data=body, headers=headers)
    return answer.status_code, answer.get_json()


def post_django(module, body, headers):
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["testserver"],
            MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
            SECRET_KEY="only for this test",
        )
        django.setup()
    module.urlpatterns = [path("webhooks", module.receive)]
    with override_settings(ROOT_URLCONF=module.__name__):
        client = Client(enforce_csrf_checks=True)
        answer = client.post("/webhooks", data=body, content_type="application/json", headers=headers)
    return answer.status_code, answer.json()


FRAMEWORKS = {"fastapi": post_fastapi, "flask": post_flask, "django": post_django}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_snippet_accepts_a_genuine_request(framework, run, secret):
    """A signed request reaches the handler."""
    module = run(framework)

    answer = FRAMEWORKS[framework](module, BODY, Webhook(secret).signed_headers("evt_1", BODY))

    assert answer == (200, {"received": "evt_1", "type": "order.placed"})


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_snippet_refuses_a_changed_body(framework, run, secret):
    """A body that was not signed is a 400 that says why."""
    module = run(framework)

    status, answer = FRAMEWORKS[framework](module, BODY + b" ", Webhook(secret).signed_headers("evt_1", BODY))

    assert (status, answer["reason"]) == (400, "signature_mismatch")
    assert answer["message"].startswith("No signature fits")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.usefixtures("secret")
def test_the_snippet_refuses_an_unsigned_request(framework, run):
    """A request without the headers is a 400."""
    module = run(framework)

    status, answer = FRAMEWORKS[framework](module, BODY, {})

    assert (status, answer["reason"]) == (400, "missing_header")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_snippet_refuses_a_genuine_body_of_another_shape(framework, run, secret):
    """What the handler cannot read is a 400 as well, not a crash."""
    module = run(framework)

    status, answer = FRAMEWORKS[framework](module, b"\xff", Webhook(secret).signed_headers("evt_1", b"\xff"))

    assert (status, answer["reason"]) == (400, "unexpected_payload")


def test_the_quickstart_prints_the_message(run, secret, capsys):
    """The first snippet verifies and reads a message."""
    module = run("quickstart")

    module.receive(BODY, Webhook(secret).signed_headers("evt_1", BODY))

    assert capsys.readouterr().out == "evt_1 order.placed {'number': 7}\n"


def test_the_idempotency_snippet_works_once_per_id(run, secret):
    """The same message, delivered twice, is handled once."""
    webhook = Webhook(secret)
    message = webhook.verify(BODY, webhook.signed_headers("evt_1", BODY))
    handle_once = run("once").handle_once
    database = sqlite3.connect(":memory:")
    database.executescript(
        "CREATE TABLE seen_webhooks (id TEXT PRIMARY KEY); CREATE TABLE orders (number INTEGER)"
    )

    handled = [handle_once(database, message), handle_once(database, message)]

    orders = database.execute("SELECT number FROM orders").fetchall()
    database.close()
    assert (handled, orders) == ([True, False], [(7,)])


def test_the_rotation_snippet_accepts_both_secrets(run, secret, monkeypatch):
    """Old and new secret verify side by side."""
    old = generate_secret()
    monkeypatch.setenv("BELLWIRE_OLD_SECRET", old)
    webhook = run("rotation").webhook

    messages = [webhook.verify(BODY, Webhook(one).signed_headers("evt_1", BODY)) for one in (secret, old)]

    assert [message.id for message in messages] == ["evt_1", "evt_1"]


def test_the_ed25519_snippet_verifies_with_a_public_key(run, monkeypatch):
    """A public key is all that the receiver holds."""
    private, public = generate_keypair()
    monkeypatch.setenv("BELLWIRE_PUBLIC_KEY", public)
    webhook = run("ed25519").webhook

    message = webhook.verify(BODY, Webhook(private).signed_headers("evt_1", BODY))

    assert message.type == "order.placed"


def test_the_testing_snippet_makes_a_genuine_request(run):
    """What it signs, a receiver accepts."""
    module = run("testing")

    message = Webhook(module.secret).verify(module.body, module.headers)

    assert message.data == {"number": 7}


def test_every_snippet_has_a_test():
    """A python block that no test runs is not allowed."""
    blocks = README.count("```python")

    assert blocks == len(SNIPPETS)
    assert set(SNIPPETS) == {*FRAMEWORKS, "quickstart", "once", "rotation", "ed25519", "testing"}


def test_the_table_names_every_reason():
    """Readers find each `reason` that the code can give."""
    section = README.split("## When it refuses")[1].split("## ")[0]

    named = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)

    assert sorted(named) == sorted(get_args(Reason))
