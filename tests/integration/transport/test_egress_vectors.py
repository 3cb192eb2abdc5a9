"""The table of egress vectors at connect: both senders, real sockets that are recorded and lead to a receiver here."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from app.core.egress import parse_literal
from app.core.outbound import policy_of
from app.core.settings import Settings
from tests.egress.vectors import VECTORS
from tests.integration.transport.raw_receiver import BODY, HEADERS, in_seconds
from workers.guard import EgressGuard
from workers.http1.dial import make_ssl_context
from workers.transport import BlockedAddress, ConnectRefused, Target, TlsError, make_sender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.egress.vectors import Vector
    from tests.integration.transport.raw_receiver import Peer, Receiver
    from workers.transport import Sender

# Made once: it reads all roots of the system.
TLS = make_ssl_context()
TLS_HANDSHAKE = b"\x16"
INTERNET = {socket.AF_INET, socket.AF_INET6}


class TurningResolver:
    """Answers what the vector says, and something else from the second time on where it says so."""

    def __init__(self, vector: Vector) -> None:
        self._answers = [list(vector.answers), list(vector.rebound or vector.answers)]

    async def resolve(self, host: str, *, deadline: float) -> list[str]:  # noqa: ARG002 - the protocol's shape
        """Return the answer of this time."""
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Sockets:
    """What this process opened towards the internet: every socket, and every address that one was connected to."""

    def __init__(self) -> None:
        self.opened = 0
        self.connected: list[str] = []


@pytest.fixture
async def sockets(
    serve: Callable[..., Awaitable[Receiver]], monkeypatch: pytest.MonkeyPatch, vector: Vector
) -> Sockets:
    """Record sockets, and lead IPv4 connections to a receiver on this machine, whatever their address."""

    async def answer(peer: Peer) -> None:
        if await peer.reader.read(1) == TLS_HANDSHAKE:
            return
        await peer.request()
        head = b"HTTP/1.1 200 OK\r\n"
        if vector.redirect:
            head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {vector.redirect}\r\n".encode()
        await peer.send(head + b"Connection: close\r\nContent-Length: 0\r\n\r\n")

    receiver = await serve(answer)
    seen = Sockets()
    make, connect = socket.socket.__init__, socket.socket.connect

    def making(self: socket.socket, family: int = -1, *rest: Any, **options: Any) -> None:
        # With a file descriptor it is a socket that somebody opened before: the receiver's accepted ones.
        if family in INTERNET and options.get("fileno") is None and (len(rest) < 3 or rest[2] is None):
            seen.opened += 1
        make(self, family, *rest, **options)

    def connecting(self: socket.socket, address: tuple[Any, ...]) -> None:
        seen.connected.append(address[0])
        if self.family == socket.AF_INET6:
            raise ConnectionRefusedError(111, "Connection refused")
        connect(self, ("127.0.0.1", receiver.port))

    monkeypatch.setattr(socket.socket, "__init__", making)
    monkeypatch.setattr(socket.socket, "connect", connecting)
    return seen


@pytest.fixture(params=["engine", "stock"])
async def sender(request: pytest.FixtureRequest, vector: Vector) -> Any:
    """A sender as a worker with the vector's settings makes it, but for its name servers."""
    guard = EgressGuard(policy=policy_of(Settings(**vector.settings)), resolver=TurningResolver(vector))
    made = make_sender(request.param, guard=guard, ssl_context=TLS)
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector.refused != "never" and not vector.form and not vector.rebound],
    ids=lambda vector: vector.title,
)
async def test_a_refused_target_opens_no_socket(sender: Sender, sockets: Sockets, vector: Vector) -> None:
    """Whatever was saved, by whatever way: the sender cannot make a target of it, or its guard refuses it."""
    refusals = BlockedAddress if vector.refused == "connect" else (BlockedAddress, ValueError)

    with pytest.raises(refusals):
        await _post(sender, vector.target)

    assert (sockets.opened, sockets.connected) == (0, [])


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.form], ids=lambda vector: vector.title
)
async def test_a_target_of_bad_form_leads_to_its_public_host_only(
    sender: Sender, sockets: Sockets, vector: Vector
) -> None:
    """It is refused at save so that nobody is misled; were it sent, what looks like another host is not reached."""
    with contextlib.suppress(ValueError, BlockedAddress):
        await _post(sender, vector.target)

    assert set(sockets.connected) <= set(vector.answers)


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.rebound], ids=lambda vector: vector.why
)
async def test_an_answer_that_turns_bad_opens_no_second_socket(
    sender: Sender, sockets: Sockets, vector: Vector
) -> None:
    """Rebinding: what the name leads to is vetted for every connection, and that very address is connected to."""
    answered = await _post(sender, vector.target)
    with pytest.raises(BlockedAddress):
        await _post(sender, vector.target)

    assert answered == 200
    assert (sockets.opened, sockets.connected) == (1, list(vector.answers))


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.refused == "never"], ids=lambda vector: vector.title
)
async def test_an_allowed_target_is_connected_to_at_its_vetted_addresses(
    sender: Sender, sockets: Sockets, vector: Vector
) -> None:
    """The guard is no wall against everybody; and a redirect, wherever it leads, is an answer and nothing more."""
    try:
        status = await _post(sender, vector.target)
    except (ConnectRefused, TlsError):
        # The receiver here speaks neither IPv6 nor TLS: it is the address that counts.
        status = None

    literal = parse_literal(Target.from_url(vector.target).host)
    wanted = [literal] if literal is not None else [ip_address(answer) for answer in vector.answers]
    assert [ip_address(address) for address in sockets.connected] == wanted
    assert status in ({307} if vector.redirect else {200, None})


async def _post(sender: Sender, url: str) -> int:
    exchange = await sender.post(Target.from_url(url), headers=HEADERS, body=BODY, deadline=in_seconds())
    return exchange.status
