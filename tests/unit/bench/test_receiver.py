"""The benchmark's receiver: it verifies each request, and keeps the bad neighbours apart."""

from __future__ import annotations

import asyncio
import mmap

import pytest

from bellwire import Webhook
from bench.receiver import COUNTER_BYTES, Connection, Tally

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
BODY = '{"type":"bench","data":1}'


class Answers(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data


@pytest.fixture
def counter():
    with mmap.mmap(-1, COUNTER_BYTES) as memory:
        yield memory


@pytest.fixture
def tally(counter):
    return Tally(secret=SECRET, counter=counter)


@pytest.fixture
def connection(tally):
    made = Connection(tally)
    made.connection_made(Answers())
    return made


def request(path="/one", *, event="evt_1", secret=SECRET):
    """A signed POST as a worker sends it."""
    signed = Webhook(secret).signed_headers(event, BODY)
    headers = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(BODY)}\r\n\r\n{BODY}".encode()


def test_a_wrong_signature_is_refused_and_counted(tally, connection):
    """Another secret's signature is answered 401."""
    connection.data_received(request(secret="whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90"))
    assert tally.unsigned == 1
    assert connection.transport.written.startswith(b"HTTP/1.1 401 ")


def test_a_request_in_pieces_is_counted_once(tally, counter, connection):
    """Bytes that come one by one make one request, with its event and path."""
    for byte in request("/a/b", event="evt_7"):
        connection.data_received(bytes([byte]))
    ((event, _, path),) = tally.received
    assert (event, path, tally.unsigned) == (b"evt_7", b"/a/b", 0)
    assert connection.transport.written.startswith(b"HTTP/1.1 200 ")
    assert int.from_bytes(counter[:COUNTER_BYTES], "little") == 1


def test_a_bad_neighbour_never_answers(tally, counter, connection):
    """Its requests are open until their connection goes, and are not of the measurement."""
    tally.aside_seconds = None
    connection.data_received(request("/aside/hangs"))
    assert (tally.aside, tally.aside_open, connection.transport.written) == (1, 1, b"")
    connection.connection_lost(None)
    assert (tally.aside_open, tally.aside_most_open, tally.received) == (0, 1, [])
    assert int.from_bytes(counter[:COUNTER_BYTES], "little") == 0


async def test_a_slow_neighbour_answers_in_the_end(tally, connection):
    """After its time the answer goes out, and the request is no longer open."""
    tally.aside_seconds = 0.01
    answered = asyncio.Event()
    connection.transport.write = lambda _: answered.set()
    connection.data_received(request("/aside/slow"))
    assert tally.aside_open == 1
    await answered.wait()
    assert tally.aside_open == 0


async def test_a_slow_neighbour_that_was_given_up_is_not_answered(tally, connection):
    """A connection that is lost meanwhile ends the wait, once."""
    tally.aside_seconds = 3_600
    connection.data_received(request("/aside/slow"))
    connection.connection_lost(None)
    assert (tally.aside_open, connection._late.cancelled()) == (0, True)


def test_forgetting_begins_anew(tally, connection):
    """What is still open stays open; all else is counted from 0."""
    tally.aside_seconds = None
    connection.data_received(request("/aside/hangs"))
    tally.forget()
    assert (tally.aside, tally.aside_most_open, tally.aside_open, tally.received) == (0, 1, 1, [])
