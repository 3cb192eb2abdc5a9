"""What `bellwire dev` would run, and with which secrets; nothing is started here."""

from __future__ import annotations

import base64
import os
import stat
from typing import TYPE_CHECKING

import pytest

from app.core.settings import Settings
from app.embedded.development import plan_development
from app.embedded.errors import EmbeddedError
from app.embedded.supervisor import Addresses
from bellwire import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.embedded.supervisor import Plan

ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens in these tests
ADDRESSES = Addresses(database_url="postgresql+psycopg://here", broker_url="redis://here")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the person who runs the tests has set stays out of them."""
    for name in list(os.environ):
        if name.startswith("BELLWIRE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def planned(folder: Path, **settings: object) -> Plan:
    return plan_development(Settings.model_validate({"data_dir": str(folder), **settings}))


def environments(plan: Plan) -> dict[str, Mapping[str, str]]:
    return {spec.name: spec.environment for spec in plan.children(ADDRESSES)}


def test_planning_touches_nothing(folder: Path) -> None:
    """Until the folder is locked, nothing is written to it."""
    planned(folder)

    assert not folder.exists()


def test_secrets_are_made_once_for_their_owner_alone(folder: Path) -> None:
    """Key, API key and demo secret have their forms, stay the same, and nobody else can read them."""
    planned(folder).make_secrets()
    first = {path.name: path.read_text() for path in folder.iterdir()}
    planned(folder).make_secrets()

    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(base64.b64decode(first["encryption.key"], validate=True)) == 32
    assert first["api.key"].startswith("bw_dev_")
    assert len(first["api.key"]) >= 32
    assert Webhook(first["demo.secret"])


def test_a_lost_encryption_key_is_not_replaced_in_silence(folder: Path) -> None:
    """With data that was encrypted by it, a new key would only hide the loss."""
    (folder / "postgres" / "data").mkdir(parents=True)

    with pytest.raises(EmbeddedError, match=r"encryption\.key is missing.* Put the file back, or delete"):
        planned(folder).make_secrets()


def test_the_processes_get_what_they_need_and_no_more(folder: Path) -> None:
    """Addresses and keys go to API, worker and beat; the demo receiver knows its own secret only."""
    plan = planned(folder)
    plan.make_secrets()

    found = environments(plan)

    for name in ("api", "worker", "beat"):
        assert found[name]["BELLWIRE_DATABASE_URL"] == ADDRESSES.database_url
        assert found[name]["BELLWIRE_BROKER_URL"] == ADDRESSES.broker_url
        assert found[name]["BELLWIRE_ENCRYPTION_KEYS"] == (folder / "encryption.key").read_text()
        assert found[name]["BELLWIRE_BOOTSTRAP_KEY"] == (folder / "api.key").read_text()
    assert found["demo"] == {"BELLWIRE_DEMO_SECRET": (folder / "demo.secret").read_text()}


def test_what_a_person_has_set_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, a range or a log format of one's own is not replaced by the development default."""
    monkeypatch.setenv("BELLWIRE_EGRESS_ALLOW", "10.0.0.0/8")
    monkeypatch.setenv("BELLWIRE_LOG_FORMAT", "json")

    found = environments(planned(folder))

    assert "BELLWIRE_EGRESS_ALLOW" not in found["worker"]
    assert "BELLWIRE_LOG_FORMAT" not in found["api"]
    assert found["api"]["BELLWIRE_ENVIRONMENT"] == "development"


def test_services_of_ones_own_are_used(folder: Path) -> None:
    """A database and a broker that the settings name take the place of the embedded ones."""
    embedded = planned(folder)
    own = planned(folder, database_url="postgresql://mine", broker_url="amqp://mine")

    assert (embedded.database_url, embedded.broker_url) == (None, None)
    assert (own.database_url, own.broker_url) == ("postgresql://mine", "amqp://mine")


@pytest.mark.parametrize(
    ("host", "asked"),
    [("127.0.0.1", "127.0.0.1"), (ANYWHERE, "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")],
)
def test_readiness_is_asked_where_the_api_can_be_reached(host: str, asked: str, folder: Path) -> None:
    """An API that listens everywhere is asked on this machine."""
    plan = planned(folder, host=host, port=8400)

    (api,) = [spec for spec in plan.children(ADDRESSES) if spec.name == "api"]

    assert api.ready_url == f"http://{asked}:8400/readyz"


def test_workers_may_finish_what_they_have(folder: Path) -> None:
    """The supervisor waits longer than the workers' own grace."""
    plan = planned(folder, worker_grace_seconds=45)

    (worker,) = [spec for spec in plan.children(ADDRESSES) if spec.name == "worker"]

    assert worker.stop_seconds > 45
