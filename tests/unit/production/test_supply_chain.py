"""What comes from elsewhere: locked by hash, asked about vulnerabilities, written down as a bill of materials."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
TODAY = datetime(2026, 6, 1, tzinfo=UTC).date()
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load_audit() -> Any:
    """The program behind `make audit`."""
    spec = importlib.util.spec_from_file_location(
        "audit_dependencies", ROOT / ".ci" / "audit_dependencies.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


audit = load_audit()


def entries_of(lock: str) -> dict[str, list[tuple[str, list[str]]]]:
    """By name: each version of a lock file with its hashes."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            name, version = re.match(r"([\w.\[\]-]+)==([^ ;]+)", line).groups()
            hashes = re.findall(r"--hash=(\S+)", line)
            found.setdefault(canonicalize_name(name.partition("[")[0]), []).append((version, hashes))
    return found


# --- Locks


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_is_locked_by_hash(lock: str) -> None:
    """Each line names one version and SHA-256 hashes; nothing comes from a URL, a path or an index of its own."""
    entries = entries_of(lock)

    assert entries
    for name, versions in entries.items():
        for version, hashes in versions:
            assert hashes, (lock, name, version)
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), (lock, name)
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(
        r"^(-e|--index-url|--extra-index-url|--find-links|--trusted-host)| @ ", text, re.MULTILINE
    )


def test_the_locks_are_those_that_make_writes_and_audits() -> None:
    """No lock file is forgotten by `make lock`, by the installation or by the audit."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert set(LOCKS) == set(audit.LOCKS)
    for lock in LOCKS:
        assert re.search(rf"-o {re.escape(lock)}\b", makefile), lock
    for line in re.findall(r"^.*pip install.*-r requirements.*$", makefile, re.MULTILINE):
        assert "--require-hashes" in line


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["embedded"]]),
        ("requirements-dev.lock", PROJECT["optional-dependencies"]["dev"]),
    ],
)
def test_the_lock_fits_the_project(lock: str, wanted: list[str]) -> None:
    """Whoever changes pyproject.toml runs `make lock`: each requirement is locked at a version that it allows."""
    entries = entries_of(lock)
    for text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == "bellwire":
            continue
        versions = [version for version, _ in entries[name]]
        assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), text


def test_development_and_production_have_the_same_versions() -> None:
    """What is tested is what runs."""
    production, development = entries_of("requirements.lock"), entries_of("requirements-dev.lock")

    for name, versions in production.items():
        assert {version for version, _ in versions} == {version for version, _ in development[name]}, name


# --- Audit


def found(*vulnerabilities: dict[str, Any]) -> dict[str, Any]:
    """A report with one sound package and one with these vulnerabilities."""
    return {
        "dependencies": [
            {"name": "sound", "version": "1.0", "vulns": []},
            {"name": "broken", "version": "2.0", "vulns": list(vulnerabilities)},
        ]
    }


VULNERABILITY = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"], "description": "Bad."}


def accepted(**changes: Any) -> Any:
    """An acceptance of that vulnerability."""
    values = {
        "package": "broken",
        "id": "CVE-2026-1",
        "reason": "The broken function is never called here.",
        "until": TODAY,
    }
    return audit.Acceptance(**(values | changes))


def test_a_vulnerability_fails_the_build() -> None:
    """Its names, and where it is fixed."""
    verdict = audit.judge(found(VULNERABILITY), [], today=TODAY)

    assert verdict.failed
    assert "broken 2.0: CVE-2026-1, PYSEC-1; fixed in: 2.1" in verdict.lines[0]


@pytest.mark.parametrize("name", ["CVE-2026-1", "PYSEC-1"])
def test_an_accepted_one_passes_until_its_day(name: str) -> None:
    """By any of its names, on the last day too; the day after, it fails."""
    report = found(VULNERABILITY)
    entry = accepted(id=name)

    assert not audit.judge(report, [entry], today=TODAY).failed
    assert audit.judge(report, [entry], today=TODAY + timedelta(days=1)).failed


@pytest.mark.parametrize("changes", [{"package": "sound"}, {"id": "CVE-2026-2"}])
def test_an_acceptance_is_for_one_vulnerability_of_one_package(changes: dict[str, str]) -> None:
    """Another one, or the same in another package, fails; the entry is told as out of date."""
    verdict = audit.judge(found(VULNERABILITY), [accepted(**changes)], today=TODAY)

    assert verdict.failed
    assert any(line.startswith("out of date") for line in verdict.lines)


def test_packages_that_nobody_knows_are_told() -> None:
    """They are not taken for sound: the line says that they were not checked, and which they are."""
    report = found()
    report["dependencies"].append({"name": "private", "skip_reason": "not found"})

    verdict = audit.judge(report, [], today=TODAY)

    assert not verdict.failed
    assert any("NOT CHECKED" in line and "private" in line for line in verdict.lines)


def test_a_report_in_which_all_is_skipped_is_no_clean_bill() -> None:
    """Nothing was looked up: it says so, and never that there is no vulnerability."""
    verdict = audit.judge({"dependencies": [{"name": "a", "skip_reason": "x"}]}, [], today=TODAY)

    assert "NOT CHECKED" in verdict.lines[-1]
    assert not any("no vulnerability" in line for line in verdict.lines)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('package = "a"\nid = "b"\nreason = "one two three four five"', "until"),
        ('package = "a"\nid = "b"\nuntil = 2026-07-01', "reason"),
        ('package = "a"\nid = "b"\nreason = "not used"\nuntil = 2026-07-01', "sentence"),
        ('package = "a"\nid = "b"\nreason = "one two three four five"\nuntil = 2027-07-01', "180 days"),
        ('package = "a"\nid = "b"\nreason = "one two three four five"\nuntil = "2026-07-01"', "day"),
        ('package = "a"\nid = "b"\nreason = "one two three four five"\nuntil = 2026-07-01\nx = 1', "x"),
    ],
)
def test_an_acceptance_needs_a_reason_and_an_end(entry: str, words: str) -> None:
    """An entry without them breaks the audit instead of being passed over."""
    with pytest.raises(audit.AuditError, match=words):
        audit.read_accepted(f"[[accepted]]\n{entry}\n", today=TODAY)


def test_the_entries_of_the_repository_can_be_read() -> None:
    """Today's file is in order."""
    text = audit.ACCEPTED.read_text(encoding="utf-8")

    assert all(
        isinstance(entry.until, date) for entry in audit.read_accepted(text, today=datetime.now(UTC).date())
    )


def pretend(folder: Path, program: str) -> list[str]:
    """A command that stands in for pip-audit."""
    path = folder / "pip_audit_stand_in.py"
    path.write_text(program, encoding="utf-8")
    return [sys.executable, str(path)]


@pytest.mark.parametrize(
    "said",
    [
        "ERROR:pip_audit._cli:Tip: your network may be blocking this service.",
        "requests.exceptions.ConnectionError: Max retries exceeded with url",
        "socket.gaierror: [Errno -2] Name or service not known",
        "ReadTimeoutError: Read timed out.",
    ],
)
def test_without_a_network_the_build_goes_on_and_says_so(tmp_path: Path, said: str) -> None:
    """Nobody could be asked: not failed, and not called clean."""
    verdict = audit.audit(pretend(tmp_path, f"import sys; sys.exit({said!r})"))

    assert (verdict.failed, len(verdict.lines)) == (False, 1)
    assert verdict.lines[0].startswith("NOT CHECKED")


def test_a_service_that_hangs_is_no_network(tmp_path: Path) -> None:
    """There is a deadline."""
    verdict = audit.audit(pretend(tmp_path, "import threading; threading.Event().wait()"), timeout=0.5)

    assert verdict.lines[0].startswith("NOT CHECKED")


@pytest.mark.parametrize("program", ["import sys; sys.exit('unrecognized arguments')", "", "print('{}')"])
def test_a_broken_audit_is_not_taken_for_no_network(tmp_path: Path, program: str) -> None:
    """Wrong usage, silence, a report of another form: the audit is broken, and says so."""
    with pytest.raises(audit.AuditError):
        audit.audit(pretend(tmp_path, program))


def test_all_locks_are_asked_about_by_hash(tmp_path: Path) -> None:
    """pip-audit is given every lock file, and resolves nothing by itself."""
    program = (
        "import json, sys\n"
        "print(json.dumps({'dependencies': [{'name': part, 'version': '1', 'vulns': []} for part in sys.argv]}))\n"
    )
    command = pretend(
        tmp_path, program + f"open({str(tmp_path / 'argv')!r}, 'w').write('\\n'.join(sys.argv))"
    )

    assert not audit.audit(command).failed

    given = (tmp_path / "argv").read_text(encoding="utf-8").splitlines()
    assert {Path(part).name for part in given if part.endswith(".lock")} == set(LOCKS)
    assert {"--require-hashes", "--disable-pip"} <= set(given)


def test_the_real_pip_audit_takes_our_options() -> None:
    """The command line is one that the installed version understands."""
    usage = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--help"], capture_output=True, text=True, check=True
    ).stdout

    for option in ("--require-hashes", "--disable-pip", "--progress-spinner", "--format", "--requirement"):
        assert option in usage


# --- Bill of materials


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `make sbom` writes."""
    path = tmp_path_factory.mktemp("sbom") / "bom.json"
    recipe = re.search(r"cyclonedx-py (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[
        1
    ]
    words = [str(path) if word == "$(SBOM)" else word for word in recipe.split()]
    subprocess.run(
        [str(Path(sys.executable).parent / "cyclonedx-py"), *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        check=True,
    )
    return path.read_text(encoding="utf-8")


def test_the_bill_is_valid_cyclonedx(bill: str) -> None:
    """It holds to the schema of CycloneDX 1.6, strictly."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert json.loads(bill)["specVersion"] == "1.6"


def test_the_bill_lists_all_that_runs_in_production(bill: str) -> None:
    """Every package of the production lock with its version and hashes, and nothing else; it names what it is for."""
    document = json.loads(bill)
    listed: dict[str, list[tuple[str, list[str]]]] = {}
    for component in document["components"]:
        hashes = [
            f"sha256:{value['content']}"
            for reference in component["externalReferences"]
            for value in reference.get("hashes", ())
        ]
        listed.setdefault(component["name"], []).append((component["version"], hashes))

    locked = entries_of("requirements.lock")
    assert listed.keys() == locked.keys()
    for name, versions in locked.items():
        assert {(version, frozenset(hashes)) for version, hashes in versions} == {
            (version, frozenset(hashes)) for version, hashes in listed[name]
        }, name
    root = document["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == (
        PROJECT["name"],
        PROJECT["version"],
        "application",
    )
