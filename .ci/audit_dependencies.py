"""Asks whether a locked dependency has a known vulnerability: `make audit`.

It fails for one that is found, unless `.ci/accepted-vulnerabilities.toml` accepts it with a reason and a day on which that
ends. Where nobody can be asked, because there is no network, it says that nothing was checked and does not fail: a build
must be possible without a network, but it must not look as if it had been checked.
"""  # noqa: INP001 - a program of its own

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-uv.lock")
ACCEPTED = ROOT / ".ci" / "accepted-vulnerabilities.toml"
TIMEOUT_SECONDS = 300
MAX_DAYS = 180
MIN_WORDS = 5

# What pip-audit, and what is below it, say when nobody can be reached.
_NO_NETWORK = re.compile(
    r"ConnectionError|could not connect|connection (refused|reset|aborted)|timed? ?out|max retries exceeded"
    r"|name or service not known|name resolution|network is unreachable|blocking this service|proxyerror|sslerror"
    r"|not redirecting properly",
    re.IGNORECASE,
)


class AuditError(Exception):
    """The audit itself is broken: what it was asked with, or what it answered."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One vulnerability that is passed over, why, and until when."""

    package: str
    id: str
    reason: str
    until: date


@dataclass(slots=True)
class Verdict:
    """What is to be said, and whether the build fails."""

    failed: bool = False
    lines: list[str] = field(default_factory=list)


def read_accepted(text: str, *, today: date) -> list[Acceptance]:
    """Return the accepted vulnerabilities.

    Raises:
        AuditError: an entry lacks its reason or its end, or the end is too far away.

    """
    found = []
    for entry in tomllib.loads(text).get("accepted", []):
        try:
            accepted = Acceptance(**entry)
        except TypeError as error:
            raise AuditError(
                f"An accepted vulnerability has package, id, reason and until: {error}"
            ) from None
        if type(accepted.until) is not date:
            raise AuditError(f"{accepted.id}: `until` is a day, such as 2026-12-31, without quotes.")
        if len(accepted.reason.split()) < MIN_WORDS:
            raise AuditError(f"{accepted.id}: say in a sentence why it cannot be used against Bellwire.")
        if accepted.until > today + timedelta(days=MAX_DAYS):
            raise AuditError(
                f"{accepted.id}: nothing is accepted for longer than {MAX_DAYS} days; look again then."
            )
        found.append(accepted)
    return found


def judge(report: dict[str, Any], accepted: list[Acceptance], *, today: date) -> Verdict:
    """Say what a report of pip-audit means."""
    verdict = Verdict()
    looked_up = [item for item in report["dependencies"] if "skip_reason" not in item]
    skipped = sorted({item["name"] for item in report["dependencies"] if "skip_reason" in item})
    used: list[Acceptance] = []
    for dependency in looked_up:
        for vulnerability in dependency["vulns"]:
            match = _acceptance_of(dependency["name"], vulnerability, accepted)
            if match is not None:
                used.append(match)
            if match is None or match.until < today:
                verdict.failed = True
            verdict.lines.append(_line(dependency, vulnerability, match, today=today))
    if skipped:
        verdict.lines.append(
            f"NOT CHECKED {len(skipped)} packages are not known where vulnerabilities are looked up: "
            + ", ".join(skipped)
        )
    if not looked_up:
        verdict.lines.append("NOT CHECKED Not one package was looked up: nothing is known about this build.")
        return verdict
    verdict.lines += [
        f"out of date {item.package} {item.id} is accepted but not found any more: take the entry out."
        for item in accepted
        if item not in used
    ]
    if not verdict.failed:
        verdict.lines.append(
            f"{len(looked_up)} packages were looked up; no vulnerability that is not accepted."
        )
    return verdict


def _acceptance_of(
    package: str, vulnerability: dict[str, Any], accepted: list[Acceptance]
) -> Acceptance | None:
    names = {vulnerability["id"], *vulnerability.get("aliases", ())}
    return next((item for item in accepted if item.package == package and item.id in names), None)


def _line(
    dependency: dict[str, Any], vulnerability: dict[str, Any], match: Acceptance | None, *, today: date
) -> str:
    names = ", ".join(sorted({vulnerability["id"], *vulnerability.get("aliases", ())}))
    what = f"{dependency['name']} {dependency['version']}: {names}"
    fixed = ", ".join(vulnerability.get("fix_versions", ())) or "nowhere yet"
    if match is None:
        return f"VULNERABLE  {what}; fixed in: {fixed}. Raise it with `make lock`."
    if match.until < today:
        return f"VULNERABLE  {what}; it was accepted until {match.until}; fixed in: {fixed}."
    return f"accepted    {what}, until {match.until}: {match.reason}"


def read_report(output: str, errors: str) -> dict[str, Any] | None:
    """Return pip-audit's report, or None where it could reach nobody.

    Raises:
        AuditError: it failed for another reason.

    """
    try:
        report: dict[str, Any] = json.loads(output)
    except ValueError:
        if _NO_NETWORK.search(errors):
            return None
        raise AuditError(f"pip-audit failed: {errors.strip()[-2_000:] or 'it said nothing'}") from None
    if not isinstance(report.get("dependencies"), list):
        raise AuditError("pip-audit's report has no dependencies; it may have changed its form.")
    return report


def audit(command: list[str], *, timeout: float = TIMEOUT_SECONDS) -> Verdict:
    """Run pip-audit over the lock files and judge what it found."""
    today = datetime.now(UTC).date()
    accepted = read_accepted(ACCEPTED.read_text(encoding="utf-8"), today=today)
    locks = [part for name in LOCKS for part in ("--requirement", str(ROOT / name))]
    options = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json"]
    try:
        done = subprocess.run(  # noqa: S603 - our own command line, no shell
            [*command, *options, *locks], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        report = None
    else:
        report = read_report(done.stdout, done.stderr)
    if report is None:
        return Verdict(lines=["NOT CHECKED Nobody could be asked about vulnerabilities: no network."])
    return judge(report, accepted, today=today)


def main() -> int:
    """Print the verdict; return 1 if the build fails, 2 if the audit is broken."""
    try:
        verdict = audit([sys.executable, "-m", "pip_audit"])
    except AuditError as error:
        sys.stderr.write(f"audit: {error}\n")
        return 2
    sys.stdout.write("".join(f"audit: {line}\n" for line in verdict.lines))
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(main())
