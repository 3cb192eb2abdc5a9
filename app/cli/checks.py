"""The checks of `bellwire doctor`: each looks at one thing and says what is the matter and what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.cli.outcome import CommandError
from app.core.errors import BellwireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from app.core.settings import Settings

API_TIMEOUT_SECONDS = 3.0
SELF_TEST_TIMEOUT_SECONDS = 30.0
# Upkeep makes a week; fewer than this left means that it has not run for days.
MIN_DAYS_AHEAD = 2
# Workers whose clocks are wrong, by name; more are only counted.
MOST_NAMED = 5
SELF_TEST = "workers.selftest"

# Never to be reached by a delivery, whatever else an operator opens: the credentials of clouds live there.
METADATA_ADDRESSES = ("169.254.169.254", "168.63.129.16", "100.100.100.200")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `ok` is None where it could not be looked at; `advice` is empty when all is well."""

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def run_checks(settings: Settings | BellwireError, *, api_url: str) -> Iterator[Check]:
    """Yield the checks one by one, as they are done. A database that is away leaves those on it unanswered."""
    if isinstance(settings, BellwireError):
        yield _failed("settings", settings)
        return
    yield Check("settings", ok=True, detail=f"{settings.environment}; every value can be used")
    yield from _database(settings)
    yield _guarded("broker", lambda: broker(settings))
    yield addresses(settings)
    yield egress(settings)
    yield egress_guard()
    yield _guarded("api", lambda: api(api_url))


def _database(settings: Settings) -> Iterator[Check]:
    from app.cli.database import connect, place, require_version

    with ExitStack() as stack:
        try:
            connection = stack.enter_context(connect(settings))
            version = require_version(connection)
        except CommandError as error:
            yield _failed("database", error)
            for name in ("migrations", "partitions", "secrets", "clock", "workers"):
                yield Check(name, ok=None, detail="not looked at, because the database cannot be used")
            return
        yield Check("database", ok=True, detail=f"Postgres {version} at {place(settings)}")
        schema = migrations(connection)
        yield schema
        yield clock(connection)
        if not schema.ok:
            for name in ("partitions", "secrets", "workers"):
                yield Check(name, ok=None, detail="not looked at, because the schema is not up to date")
            return
        yield partitions(connection)
        yield secrets(connection, settings)
        yield workers(connection)


def migrations(connection: Connection) -> Check:
    """Compare the schema with the newest migration."""
    from app.core.migrate import state_of

    state = state_of(connection)
    if state.up_to_date:
        return Check("migrations", ok=True, detail=f"up to date (revision {state.current})")
    return _of_sentence("migrations", state.sentence())


def partitions(connection: Connection) -> Check:
    """See that tomorrow's rows have a place."""
    from app.core.partitions import ahead

    days = ahead(connection)
    if days >= MIN_DAYS_AHEAD:
        return Check("partitions", ok=True, detail=f"made for {days} days ahead")
    return Check(
        "partitions",
        ok=False,
        detail=f"made for {days} days ahead; without them events cannot be stored",
        advice="Start a worker and beat, whose upkeep makes them, or run `bellwire migrate` now.",
    )


def clock(connection: Connection) -> Check:
    """Compare this machine's clock with the database's; receivers refuse timestamps that are minutes off."""
    from sqlalchemy import text

    from app.core.clock import SKEW_WORTH_REPORTING_SECONDS, DatabaseClock

    asked = time.monotonic()
    unix = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
    measured = DatabaseClock()
    measured.adjust(database_unix=unix, asked_at=asked, answered_at=time.monotonic())
    skew = measured.skew_seconds()
    if abs(skew) <= SKEW_WORTH_REPORTING_SECONDS:
        return Check("clock", ok=True, detail=f"{abs(skew):.2f} s from the database's")
    return Check(
        "clock",
        ok=False,
        detail=f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the database's",
        advice="Run an NTP client (chrony, systemd-timesyncd) on both machines.",
    )


def secrets(connection: Connection, settings: Settings) -> Check:
    """See that every stored secret names a key that is at hand."""
    from app.access import encryption
    from app.core.crypto import Keyring

    if not settings.encryption_keys:
        return Check(
            "secrets",
            ok=False,
            detail="there is no encryption key, so endpoint secrets can be neither stored nor read",
            advice="Set BELLWIRE_ENCRYPTION_KEYS as for the API and the workers (a new one: openssl rand -base64 32).",
        )
    ring = Keyring(key.get_secret_value() for key in settings.encryption_keys)
    uses = encryption.uses_of_keys(connection, ring)
    missing = [use for use in uses if use.place is None]
    if missing:
        values = sum(use.values for use in missing)
        columns = ", ".join(sorted({column for use in missing for column in use.by_column}))
        return Check(
            "secrets",
            ok=False,
            detail=f"{values:,} stored values ({columns}) need a key that is not in BELLWIRE_ENCRYPTION_KEYS",
            advice="Add the earlier key after the newest one, for the API and the workers, and start them again.",
        )
    left = sum(use.values for use in uses if use.place != 1)
    older = f"; {left:,} need an older key (`bellwire secrets reencrypt`)" if left else ""
    return Check("secrets", ok=True, detail="every stored secret can be opened" + older)


def workers(connection: Connection) -> Check:
    """Look for signs of life of the workers, and at what they say of their clocks."""
    from datetime import timedelta

    from sqlalchemy import func, select

    from app.core.clock import SKEW_WORTH_REPORTING_SECONDS
    from app.health.checks import WORKER_SILENT_SECONDS
    from app.models import WorkerHeartbeat

    is_alive = WorkerHeartbeat.beat_at > func.now() - timedelta(seconds=WORKER_SILENT_SECONDS)
    alive, newest, now = connection.execute(
        select(func.count().filter(is_alive), func.max(WorkerHeartbeat.beat_at), func.now())
    ).one()
    wrong = connection.execute(
        select(WorkerHeartbeat.name, WorkerHeartbeat.skew_seconds)
        .where(is_alive, func.abs(WorkerHeartbeat.skew_seconds) > SKEW_WORTH_REPORTING_SECONDS)
        .order_by(func.abs(WorkerHeartbeat.skew_seconds).desc(), WorkerHeartbeat.name)
    ).all()
    if wrong:
        clocks = ", ".join(f"{name} by {skew:+.0f} s" for name, skew in wrong[:MOST_NAMED])
        return Check(
            "workers",
            ok=False,
            detail=f"{_processes_claim(alive)}, but the clocks of {len(wrong)} differ from the database's: {clocks}",
            advice="Run an NTP client (chrony, systemd-timesyncd) on their machines and on the database's.",
        )
    if alive:
        return Check("workers", ok=True, detail=_processes_claim(alive))
    seen = (
        f"the last one was seen {(now - newest).total_seconds():.0f} s ago"
        if newest
        else "none was ever seen"
    )
    return Check(
        "workers",
        ok=False,
        detail=f"no worker claims deliveries; {seen}",
        advice="Start one with `bellwire worker`; if one runs, its log says why it cannot claim.",
    )


def broker(settings: Settings) -> Check:
    """Connect to the broker. Deliveries go on without it, but later."""
    from sqlalchemy.engine import make_url

    from app.core.queue import check_broker

    if not settings.broker_url.get_secret_value():
        return Check(
            "broker",
            ok=False,
            detail="BELLWIRE_BROKER_URL is not set: workers cannot start, and nothing wakes them",
            advice="Set it to redis://host:6379/0 or amqp://user:password@host:5672/.",
        )
    fault = check_broker(settings)
    if fault is not None:
        return _of_sentence("broker", fault)
    url = make_url(settings.broker_url.get_secret_value())
    port = f":{url.port}" if url.port else ""
    return Check("broker", ok=True, detail=f"{url.drivername} at {url.host or 'localhost'}{port}")


def addresses(settings: Settings) -> Check:
    """See that callers are told apart by where they come from, and that people are reached by https.

    The API speaks no TLS itself, so where its public address is https there is a proxy in front of it.
    """
    from urllib.parse import urlsplit

    from app.core.outbound import is_loopback

    public, trusted = settings.public_url, settings.trusted_proxies
    if any(not network.prefixlen for network in trusted):
        return Check(
            "addresses",
            ok=False,
            detail="BELLWIRE_TRUSTED_PROXIES holds every address, so any caller can say to be at any other",
            advice="Name only the addresses of the proxies in front of the API.",
        )
    if public.startswith("https://"):
        if trusted:
            shown = ", ".join(str(network) for network in trusted)
            return Check("addresses", ok=True, detail=f"{public}, through proxies in {shown}")
        return Check(
            "addresses",
            ok=False,
            detail=f"{public} is reached through a proxy, but BELLWIRE_TRUSTED_PROXIES names none: to the API every caller "
            "is at the proxy's address, in the audit log and for the limits on failed sign-ins",
            advice="Set it to the ranges of the proxies in front of the API, such as 10.0.0.0/8.",
        )
    if settings.environment == "production" and not is_loopback(urlsplit(public).hostname or ""):
        return Check(
            "addresses",
            ok=False,
            detail=f"{public} is not https: keys, passwords and sessions cross the network in clear",
            advice="Put a reverse proxy with TLS in front of the API and set BELLWIRE_BASE_URL to its https:// address.",
        )
    return Check("addresses", ok=True, detail=f"{public}, for this machine")


def egress(settings: Settings) -> Check:
    """Ask the policy about addresses that it must refuse, with the ranges that the operator opened."""
    from app.core.egress import EgressDenied
    from app.core.outbound import policy_of

    policy = policy_of(settings)
    reachable = []
    for address in METADATA_ADDRESSES:
        try:
            policy.check_address(address)
        except EgressDenied:
            continue
        reachable.append(address)
    opened = ", ".join(str(network) for network in settings.egress_allow)
    if reachable:
        return Check(
            "egress policy",
            ok=False,
            detail=f"BELLWIRE_EGRESS_ALLOW ({opened}) opens {', '.join(reachable)}, where clouds keep credentials",
            advice="Name only the ranges in which receivers are.",
        )
    return Check(
        "egress policy",
        ok=True,
        detail=(f"private addresses are refused, but {opened}" if opened else "private addresses are refused")
        + _through(settings.egress_proxy.get_secret_value()),
    )


def egress_guard() -> Check:
    """Let the workers' own code prove that what they send through refuses forbidden addresses.

    `app` never imports `workers`, so it runs in a process of its own.
    """
    command = [sys.executable, "-m", SELF_TEST]
    from app.cli.surroundings import environment

    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, no shell
            command,
            env=environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SELF_TEST_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"the self-test did not end within {SELF_TEST_TIMEOUT_SECONDS:.0f} s"
    else:
        last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
        said = last[0] if last else f"the self-test ended with {done.returncode}"
        if done.returncode == 0:
            return Check("egress guard", ok=True, detail=said)
    return Check(
        "egress guard",
        ok=False,
        detail=said,
        advice=f"Do not start workers. `python -m {SELF_TEST}` shows all of it; report it as a bug.",
    )


def api(url: str) -> Check:
    """Ask the API whether it is ready."""
    import httpx2

    try:
        answer = httpx2.get(f"{url}/readyz", timeout=API_TIMEOUT_SECONDS, trust_env=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Check(
            "api",
            ok=False,
            detail=f"{url} cannot be reached ({error})",
            advice="Start it with `bellwire api`, or name its address with BELLWIRE_URL.",
        )
    if answer.is_success:
        return Check("api", ok=True, detail=f"ready at {url}")
    return Check(
        "api",
        ok=False,
        detail=f"{url}/readyz answers {answer.status_code}",
        advice=f"See what it says about itself: curl {url}/readyz",
    )


def _through(proxy: str) -> str:
    """Name the egress proxy without its credentials."""
    from urllib.parse import urlsplit

    parts = urlsplit(proxy)
    return f"; all goes through the proxy {parts.hostname}:{parts.port or 80}" if proxy else ""


def _processes_claim(number: int) -> str:
    return f"{number} {'process claims' if number == 1 else 'processes claim'}"


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except BellwireError as error:
        return _failed(name, error)


def _failed(name: str, error: BellwireError) -> Check:
    return _of_sentence(name, str(error))


def _of_sentence(name: str, text: str) -> Check:
    """Divide an error's message into what is the matter and what to do: they are sentences in that order."""
    detail, _, advice = text.partition(". ")
    return Check(name, ok=False, detail=detail.removesuffix("."), advice=advice)
