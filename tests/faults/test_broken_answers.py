"""Row 17 of the fault tests: connections that break, answers that are none, and TLS that cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import trustme

from tests.faults.harness.delivery_log import Verdict, attempts_to, verdict
from tests.faults.harness.misbehaving import Step, close, half_close, reset, send, stay
from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.faults

HOST = "127.0.0.1"
EVENTS = 2
BROKEN_TIMES = 2
BOUND_SECONDS = 60.0
PROTOCOL_ERROR = ("failed", "protocol_error")
SUCCEEDED = ("succeeded", None)
HEAD = b"HTTP/1.1 200 OK\r\n"


@dataclass(frozen=True)
class Broken:
    """What the receiver does, what that makes an attempt (its message holds `words`), and whether it is retried."""

    name: str
    script: tuple[Step, ...]
    words: str
    is_attempt: Verdict = PROTOCOL_ERROR
    status: int | None = None


BROKEN = [
    Broken("reset", (reset(),), "was reset before an answer came"),
    Broken("close", (close(),), "was closed before an answer came"),
    Broken("half-close", (half_close(),), "was closed before an answer came"),
    Broken("reset in the head", (send(HEAD + b"Content-Le"), half_close()), "in the middle of the header section"),
    Broken("garbage", (send(bytes(range(256)) * 4), close()), "not valid HTTP"),
    Broken("no HTTP", (send(b"SSH-2.0-OpenSSH_9.2\r\n"), stay()), "not valid HTTP"),
    Broken("lengths that differ", (send(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), stay()), "not valid HTTP"),
    Broken("a failure with a length too long", (send(b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nok"), close()), "500", ("failed", "http_5xx"), 500),
]  # fmt: skip

# The status line decides: these are no failures, so that the receiver does not get the event twice.
USABLE = [
    Broken("length too short", (send(HEAD + b"Content-Length: 1\r\n\r\nok"), stay()), "", SUCCEEDED, 200),
    Broken("length too long, then close", (send(HEAD + b"Content-Length: 9\r\n\r\nok"), close()), "was closed before the end of the body", SUCCEEDED, 200),
    Broken("length too long, then half-close", (send(HEAD + b"Content-Length: 9\r\n\r\nok"), half_close()), "was closed before the end of the body", SUCCEEDED, 200),
    Broken("length too long, then silence", (send(HEAD + b"Content-Length: 9\r\n\r\nok"), stay()), "did not end within", SUCCEEDED, 200),
]  # fmt: skip


class Certificates:
    """Certificates of an authority that the workers trust, and others, as files with their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trusted = trustme.CA()
        self.authority = folder / "authority.pem"
        self._trusted.cert_pem.write_to_path(self.authority)

    def good(self) -> Path:
        """What a well receiver has."""
        return self._write("good", self._trusted.issue_cert(HOST))

    def expired(self) -> Path:
        """Out of date since yesterday."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        return self._write("expired", self._trusted.issue_cert(HOST, not_after=yesterday))

    def for_another_name(self) -> Path:
        """Trusted, but somebody else's."""
        return self._write("another", self._trusted.issue_cert("another.test"))

    def of_a_stranger(self) -> Path:
        """From an authority that nobody here knows."""
        return self._write("stranger", trustme.CA().issue_cert(HOST))

    def self_signed(self) -> Path:
        """Signed with its own key."""
        path = self._folder / "self-signed.pem"
        itself = trustme.CA()
        path.write_bytes(itself.private_key_pem.bytes() + itself.cert_pem.bytes())
        return path

    def _write(self, name: str, certificate: trustme.LeafCert) -> Path:
        path = self._folder / f"{name}.pem"
        path.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
        return path


# What is wrong, the certificate that has it (None: no TLS at all), and what the attempt says.
BAD_TLS: list[tuple[str, Callable[[Certificates], Path] | None, str]] = [
    ("expired", Certificates.expired, "The certificate has expired"),
    ("wrong-name", Certificates.for_another_name, "The certificate is not for this IP address"),
    ("self-signed", Certificates.self_signed, "The certificate is self-signed"),
    ("stranger", Certificates.of_a_stranger, "The certificate's issuer is not known"),
    ("garbage", None, "The TLS handshake with 127.0.0.1 failed"),
]
Log: TypeAlias = "dict[str, list[list[dict[str, Any]]]]"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of this module."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
async def scene(certificates: Certificates) -> AsyncIterator[Scene]:
    """The workers trust the test's authority in the place of the system's, through OpenSSL's own variable."""
    async with open_scene(settings={"SSL_CERT_FILE": str(certificates.authority)}) as scene:
        yield scene


@pytest.fixture(scope="module")
async def log(scene: Scene) -> Log:
    """All broken answers at once, each to EVENTS deliveries; the attempts of each delivery, by the answer's name."""
    endpoints = {}
    for n, broken in enumerate([*BROKEN, *USABLE]):
        endpoints[broken.name] = await scene.stack.create_endpoint(
            f"/broken-{n}", event_types=[_event_type(broken)], retry_schedule=[0, 0, 0]
        )
        await scene.receiver.behave(
            f"/broken-{n}", script=broken.script, script_times=BROKEN_TIMES, script_status=broken.status
        )
    refused = await scene.publisher.publish_many(EVENTS, event_types=["broken.retried"])
    scene.checker.explain({event.id for event in refused})
    await scene.publisher.publish_many(EVENTS, event_types=["broken.usable"])
    await scene.checker.settle()
    return {name: await attempts_to(scene.stack, endpoint) for name, endpoint in endpoints.items()}


@pytest.fixture(scope="module")
async def tls_log(scene: Scene, certificates: Certificates) -> Log:
    """All bad TLS at once, mended after two attempts at each; the attempts, by what was bad."""
    receiver = scene.receiver
    ports, endpoints = {}, {}
    for name, make, _ in BAD_TLS:
        certificate = None if make is None else make(certificates)
        port = ports[name] = await receiver.listen(certificate=certificate)
        endpoints[name] = await scene.stack.create_endpoint(
            f"/tls-{name}",
            url=f"https://{HOST}:{port}/tls-{name}",
            event_types=["tls.*"],
            retry_schedule=[1] * 20,
        )
    await scene.publisher.publish("tls.bad")

    async def all_refused() -> bool:
        logs = [await attempts_to(scene.stack, endpoint) for endpoint in endpoints.values()]
        return all(len(attempts) > 1 for log in logs for attempts in log or [[]])

    await receiver.wait_for(all_refused, seconds=BOUND_SECONDS, what="two attempts each were refused")
    receiver.refresh()
    assert [receipt for receipt in receiver.receipts if receipt.path.startswith("/tls-")] == []
    for port in ports.values():
        await receiver.listen(port=port, certificate=certificates.good())
    await scene.checker.settle()
    return {name: await attempts_to(scene.stack, endpoint) for name, endpoint in endpoints.items()}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_answer_is_retried(log: Log, broken: Broken) -> None:
    """Each broken answer is on record with its class and what happened, and the next good one ends the retries."""
    histories = [[verdict(attempt) for attempt in attempts] for attempts in log[broken.name]]
    assert histories == [[broken.is_attempt] * BROKEN_TIMES + [SUCCEEDED]] * EVENTS
    failures = [attempt for attempts in log[broken.name] for attempt in attempts[:-1]]
    assert _without(broken.words, [attempt["error"]["message"] for attempt in failures]) == []
    assert {attempt["response"] and attempt["response"]["status"] for attempt in failures} == {broken.status}


@pytest.mark.parametrize("broken", USABLE, ids=lambda broken: broken.name)
def test_a_broken_body_behind_a_good_status_is_a_success(log: Log, broken: Broken) -> None:
    """A body that is not as long as was said is noted on the attempt, and the event is not sent again."""
    attempts = [attempt for attempts in log[broken.name] for attempt in attempts]
    assert [verdict(attempt) for attempt in attempts] == [SUCCEEDED] * EVENTS
    assert _without(broken.words, [attempt["note"] or "" for attempt in attempts]) == []
    assert {attempt["response"]["body"] for attempt in attempts} <= {"ok", "o"}


@pytest.mark.parametrize(("name", "make", "words"), BAD_TLS, ids=[name for name, _, _ in BAD_TLS])
def test_bad_tls_is_refused_until_it_is_mended(tls_log: Log, name: str, make: object, words: str) -> None:
    """Behind bad TLS no request is sent, and the log says what is wrong with it; once it is mended the event arrives."""
    ((*failures, success),) = tls_log[name]
    assert {verdict(attempt) for attempt in failures} == {("failed", "tls_error")}
    assert _without(words, [attempt["error"]["message"] for attempt in failures]) == []
    assert [attempt["response"] for attempt in failures if attempt["response"] is not None] == []
    assert verdict(success) == SUCCEEDED
    assert success["connection"]["tls_version"] == "TLSv1.3"
    assert success["connection"]["certificate_expires_at"] is not None


async def test_broken_answers_keep_the_invariants(scene: Scene, log: Log, tls_log: Log) -> None:
    """Every event arrives; those behind bad TLS, and those whose status line was good, arrive once."""
    await scene.checker.check()

    once = [f"/broken-{n}" for n in range(len(BROKEN), len(BROKEN) + len(USABLE))]
    assert {path: len(scene.receiver.on(path)) for path in once} == dict.fromkeys(once, EVENTS)
    assert {name: len(scene.receiver.on(f"/tls-{name}")) for name in tls_log} == dict.fromkeys(tls_log, 1)
    assert {len(log[broken.name]) for broken in BROKEN} == {EVENTS}


def _event_type(broken: Broken) -> str:
    return "broken.usable" if broken.is_attempt == SUCCEEDED else "broken.retried"


def _without(words: str, sentences: list[str]) -> list[str]:
    return [sentence for sentence in sentences if words not in sentence]
