"""docker-compose.yml keeps its promises: least privilege, health checks, nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from app import __version__
from app.core.settings import Settings
from tests.unit.docs.command_lines import fault_of

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OURS = {
    name: service for name, service in SERVICES.items() if service["image"].startswith("${BELLWIRE_IMAGE")
}
# One-shot: it runs to its end, so there is nothing to look at.
ONE_SHOT = {name for name, service in SERVICES.items() if service["restart"] == "no"}
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

each_service = pytest.mark.parametrize(("name", "service"), SERVICES.items(), ids=SERVICES)
each_of_ours = pytest.mark.parametrize(("name", "service"), OURS.items(), ids=OURS)


def seconds_of(text: str) -> int:
    """Seconds of a duration such as 75s."""
    return int(re.fullmatch(r"(\d+)s", text)[1])


def image_of(service: dict) -> str:
    """The image that is used if .env does not say otherwise."""
    return re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", service["image"])


def test_the_services_are_those_of_production() -> None:
    """Servers, the migration, and the three processes."""
    assert set(SERVICES) == {"postgres", "rabbitmq", "migrate", "api", "worker", "beat"}
    assert set(OURS) == {"migrate", "api", "worker", "beat"}
    assert {"migrate"} == ONE_SHOT


@each_service
def test_no_service_has_more_rights_than_it_needs(name: str, service: dict) -> None:
    """Not root, no capabilities, no new privileges, a file system that it cannot write to."""
    user, _, group = service["user"].partition(":")

    assert int(user) > 0, name
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {
        "privileged",
        "cap_add",
        "devices",
        "pid",
        "ipc",
        "network_mode",
        "userns_mode",
    }


@each_service
def test_only_data_and_temporary_files_are_written(name: str, service: dict) -> None:
    """Volumes are named ones of servers; nothing of the host is mounted; temporary files have a bound."""
    volumes = [volume.split(":")[0] for volume in service.get("volumes", [])]

    assert set(volumes) <= COMPOSE["volumes"].keys()
    assert not volumes or name not in OURS
    assert all("size=" in mount for mount in service["tmpfs"])


@each_service
def test_images_are_pinned(name: str, service: dict) -> None:
    """A tag with a full version, never `latest`."""
    _, _, tag = image_of(service).partition(":")

    assert re.match(r"\d+\.\d+", tag), name
    assert "latest" not in tag


@each_of_ours
def test_our_image_is_of_this_version(name: str, service: dict) -> None:
    """The tag and the code agree, here and in .env.example."""
    assert image_of(service) == f"bellwire-server:{__version__}", name
    assert f"BELLWIRE_IMAGE=bellwire-server:{__version__}\n" in EXAMPLE


@each_service
def test_every_service_that_stays_has_a_health_check(name: str, service: dict) -> None:
    """It runs a program, without a shell, within bounds."""
    check = service.get("healthcheck")

    assert (check is None) == (name in ONE_SHOT)
    if check is not None:
        assert check["test"][0] == "CMD"
        assert check.keys() >= {"interval", "timeout", "retries", "start_period"}
        assert seconds_of(check["timeout"]) <= seconds_of(check["interval"])


@each_service
def test_services_wait_for_what_they_need(name: str, service: dict) -> None:
    """A server is waited for until it is healthy, a one-shot until it has succeeded."""
    for other, wait in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert wait["condition"] == wanted, (name, other)


def test_only_the_api_is_published_and_on_this_machine_only() -> None:
    """TLS is the business of the proxy in front."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"api": ["127.0.0.1:8400:8400"]}


def test_servers_have_no_way_out() -> None:
    """Postgres and RabbitMQ are on an internal network; only API and workers are on the other."""
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {
        "api",
        "worker",
    }
    assert all("inside" in service["networks"] for service in SERVICES.values())


@each_of_ours
def test_commands_exist(name: str, service: dict) -> None:
    """The command line accepts what the container runs."""
    assert fault_of("bellwire " + " ".join(service["command"])) is None
    assert service["command"] == [name]


@each_of_ours
def test_settings_exist(name: str, service: dict) -> None:
    """Every variable of a Bellwire process is a setting of Bellwire."""
    settings = {f"BELLWIRE_{field.upper()}" for field in Settings.model_fields}

    assert set(service["environment"]) <= settings, name
    assert "BELLWIRE_ENVIRONMENT" not in service["environment"]


def test_each_process_is_told_what_it_needs_and_no_more() -> None:
    """The migration opens no secret, and the first key is the API's alone."""
    assert set(SERVICES["migrate"]["environment"]) == {"BELLWIRE_DATABASE_URL"}
    assert [name for name in OURS if "BELLWIRE_BOOTSTRAP_KEY" in OURS[name]["environment"]] == ["api"]
    for name in ("api", "worker", "beat"):
        assert SERVICES[name]["environment"].keys() >= {
            "BELLWIRE_DATABASE_URL",
            "BELLWIRE_BROKER_URL",
            "BELLWIRE_ENCRYPTION_KEYS",
        }


def test_bellwire_is_no_superuser() -> None:
    """The addresses name the role that the first start makes, which owns its database and nothing else."""
    (script,) = (config["content"] for config in COMPOSE["configs"].values())
    address = SERVICES["api"]["environment"]["BELLWIRE_DATABASE_URL"]

    assert re.match(r"postgresql://bellwire:\$\{DATABASE_PASSWORD:\?[^}]+\}@postgres:5432/bellwire$", address)
    assert "CREATE ROLE bellwire LOGIN PASSWORD :'password';" in script
    assert "CREATE DATABASE bellwire OWNER bellwire;" in script
    assert "SUPERUSER" not in script.upper()
    assert "POSTGRES_USER" not in SERVICES["postgres"]["environment"]


def test_the_worker_has_time_to_stop() -> None:
    """Its grace ends well before Docker kills it; so do a longest publish and the API."""
    settings = Settings.model_construct()

    assert seconds_of(SERVICES["worker"]["stop_grace_period"]) == 75
    assert settings.worker_grace_seconds + 25 <= 75
    assert seconds_of(SERVICES["api"]["stop_grace_period"]) > 35


def test_the_example_holds_every_variable_and_no_secret() -> None:
    """.env.example names what the compose file asks for; secrets are left to be filled in."""
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))

    assert given.keys() == asked
    assert all(given[name] == "" for name in required)
    assert required == {
        "POSTGRES_PASSWORD",
        "DATABASE_PASSWORD",
        "RABBITMQ_PASSWORD",
        "BELLWIRE_ENCRYPTION_KEYS",
    }


def test_no_secret_stands_in_the_file() -> None:
    """Passwords come from .env alone."""
    for name, service in SERVICES.items():
        for variable, value in service["environment"].items():
            if re.search(r"PASS|KEY|URL", variable) and "BASE_URL" not in variable:
                assert "${" in value, (name, variable)
