"""The Dockerfile, and what ends up in the image."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

from app.core.settings import Settings

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BUILD, FINAL = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
# What the processes of production load, with the client of each broker.
LOADED = (
    "app.cli.serve",
    "app.main",
    "workers.celery_app",
    "workers.alive",
    "workers.selftest",
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.apps.beat",
    "kombu.transport.redis",
    "kombu.transport.pyamqp",
)


def instructions(stage: str) -> list[tuple[str, str]]:
    """The instructions of a stage: name and the rest."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", stage))
    return [
        (name, rest) for line in joined.splitlines()[1:] for name, _, rest in [line.partition(" ")] if name
    ]


def locked() -> set[str]:
    """The names in requirements.lock."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE))


def without_servers() -> set[str]:
    """The packages that the image leaves out."""
    return set(re.search(r"uv pip uninstall .*/bin/python (.+)$", BUILD, re.MULTILINE)[1].split())


def test_both_stages_are_the_same_pinned_python() -> None:
    """What was compiled in one runs in the other; a tag with a full version."""
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert len(images) == 2
    assert len(set(images)) == 1
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", images[0])
    floor = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert (int(version[1]), int(version[2])) >= tuple(map(int, floor.removeprefix(">=").split(".")))


def test_the_last_stage_is_not_root() -> None:
    """A number, so that orchestrators can see it."""
    users = [rest for name, rest in instructions(FINAL) if name == "USER"]

    assert users == ["10001:10001"]


def test_the_last_stage_installs_and_fetches_nothing() -> None:
    """It copies the finished environment; no package manager, no ADD."""
    runs = " ".join(rest for name, rest in instructions(FINAL) if name == "RUN")

    assert not re.search(r"\b(pip|uv|apt|apt-get|curl|wget)\b", runs)
    assert [rest for name, rest in instructions(FINAL) if name == "COPY"] == [
        "--from=build /opt/bellwire /opt/bellwire"
    ]
    assert not re.search(r"(?m)^ADD ", DOCKERFILE)


def test_dependencies_are_installed_by_hash() -> None:
    """Every installation from an index requires hashes; only our own two packages are without."""
    installs = re.findall(r"pip install[^&\n]*", BUILD)

    assert len(installs) == 3
    assert [("--require-hashes" in line or "--no-deps /build/wheels" in line) for line in installs] == [
        True
    ] * 3
    assert "-e " not in BUILD


def test_settings_of_the_image_exist() -> None:
    """BELLWIRE_ variables in the Dockerfile are settings."""
    named = set(re.findall(r"\bBELLWIRE_[A-Z_]+", DOCKERFILE))

    assert named == {"BELLWIRE_HOST", "BELLWIRE_LOG_FORMAT"}
    assert {name.removeprefix("BELLWIRE_").lower() for name in named} <= set(Settings.model_fields)


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    """.dockerignore lets through exactly what the first stage copies."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for name, rest in instructions(BUILD)
        if name == "COPY"
        for word in rest.split()[:-1]
    }

    assert "*" in ignore
    assert {path.split("/")[0] for path in allowed} == {path.split("/")[0] for path in copied}
    assert all((ROOT / path).exists() for path in allowed)


def test_servers_stay_out_of_the_image() -> None:
    """What is taken out again is in the lock because of `bellwire dev` alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    embedded = {re.split(r"[><=]", name)[0] for name in project["optional-dependencies"]["embedded"]}

    assert without_servers() == embedded - {"psutil"}
    assert without_servers() <= locked()


def test_production_runs_on_the_production_lock() -> None:
    """API, worker, beat and both brokers' clients load without anything that only development installs."""
    ours = {"bellwire", "bellwire-server"}
    installed = {re.sub(r"[._]+", "-", found.metadata["Name"]).lower() for found in distributions()}
    absent = (installed - locked() - ours) | without_servers()
    hidden = [
        package
        for package, owners in packages_distributions().items()
        if {re.sub(r"[._]+", "-", owner).lower() for owner in owners} <= absent
    ]
    assert "pytest" in hidden
    program = f"""
import importlib, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(hidden)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} in production", name=name)
sys.meta_path.insert(0, Hide())
for name in {LOADED!r}:
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PATH": "/usr/bin:/bin",
            "BELLWIRE_DATABASE_URL": "postgresql://127.0.0.1:1/none",
            "BELLWIRE_BROKER_URL": "redis://127.0.0.1:1/0",
            "BELLWIRE_ENCRYPTION_KEYS": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
