"""The response reader: bounds, leniency, and that the way the bytes are cut does not matter."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.http1.limits import EngineLimits
from workers.http1.response import BrokenHead, HeadTooLarge, ResponseReader

LIMITS = EngineLimits(
    header_bytes=400,
    status_line_bytes=64,
    header_count=5,
    interim_bytes=500,
    body_bytes=100,
    body_wire_bytes=600,
)
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: t\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 500 Oops\nServer: old\nContent-Length: 2\n\nno",
    b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"x" * 300,
]


def read(pieces):
    reader = ResponseReader(LIMITS)
    for piece in pieces:
        if reader.feed(piece):
            break
    return reader


def facts(reader):
    return reader.status, reader.headers, reader.body, reader.truncated, reader.note is None, reader.head_done


@pytest.mark.parametrize("response", RESPONSES)
def test_byte_by_byte_is_the_same_as_at_once(response):
    """TCP may cut a response anywhere."""
    whole = facts(read([response]))

    assert facts(read([response[i : i + 1] for i in range(len(response))])) == whole


@settings(max_examples=200)
@given(st.sampled_from(RESPONSES), st.lists(st.integers(min_value=1, max_value=60), max_size=20))
def test_any_cut_is_the_same_as_at_once(response, cuts):
    """Pieces of any size give the same response."""
    pieces, rest = [], response
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]

    assert facts(read([*pieces, rest])) == facts(read([response]))


@given(st.binary(max_size=700) | st.binary(max_size=300).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail))
def test_any_bytes_end_in_an_answer_or_in_one_of_two_errors(data):
    """Nothing that a receiver sends raises anything else, and no bound is passed."""
    reader = ResponseReader(LIMITS)
    try:
        reader.feed(data)
    except (BrokenHead, HeadTooLarge):
        return

    assert len(reader.headers) <= LIMITS.header_count
    assert len(reader.body) <= LIMITS.body_bytes


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 " + b"x" * 65 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 6 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X" * 4_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 4_000,
        b"HTTP/1.1 200 OK\r\nX: a\r\n" + b" b\r\n" * 1_000,
    ],
)
@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_refuses_a_head_over_a_cap(head, size):
    """Status line, header section and header count are bounded, however the bytes come."""
    with pytest.raises(HeadTooLarge):
        read([head[i : i + size] for i in range(0, len(head), size)])


def test_keeps_status_and_first_headers_of_an_oversized_head():
    """The log shows what came before the cut."""
    reader = ResponseReader(LIMITS)

    with pytest.raises(HeadTooLarge):
        reader.feed(b"HTTP/1.1 202 Accepted\r\nA: b\r\nC: " + b"x" * 500 + b"\r\n\r\n")

    assert (reader.status, reader.headers) == (202, [(b"A", b"b")])


def test_interim_answers_are_bounded():
    """A flood of 1xx answers ends long before the deadline."""
    flood = b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n" * 100

    with pytest.raises(BrokenHead, match="interim"):
        read([flood[i : i + 90] for i in range(0, len(flood), 90)])


def test_chunk_overhead_is_bounded():
    """Chunk extensions carry no body and are cut all the same."""
    reader = read([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 300, b"e" * 400])

    assert (reader.status, reader.body, reader.truncated) == (200, b"", True)


def test_trailers_are_bounded_and_dropped():
    """Endless trailers break the body, not the answer."""
    reader = read(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"T: v\r\n" * 10 + b"\r\n"]
    )

    assert (reader.status, reader.headers, reader.body) == (200, [(b"Transfer-Encoding", b"chunked")], b"x")
    assert reader.note == "The trailers were too large."


@pytest.mark.parametrize(
    ("response", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nextra", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nH", False),
        (b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"x" * 300, False),
    ],
)
def test_says_whether_the_connection_may_be_kept(response, keep_alive):
    """Nothing that could leak into the next answer lets the connection live on."""
    assert read([response]).keep_alive is keep_alive


def test_the_end_of_the_stream_ends_a_body_without_length():
    """HTTP/1.0's way to end a body."""
    reader = read([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"])

    assert reader.end()
    assert reader.body == b"hello"


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel",
    ],
)
def test_the_end_of_the_stream_is_no_proper_end_otherwise(cut):
    """A body with a length or chunks that stops early is broken."""
    assert not read([cut] if cut else []).end()


def test_reads_one_response_after_another():
    """A kept connection starts from nothing."""
    reader = read([b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello"])
    first = facts(reader)
    reader.reset()

    reader.feed(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")

    assert first[:3] == (200, [(b"A", b"b"), (b"Content-Length", b"5")], b"hello")
    assert facts(reader)[:3] == (500, [(b"Content-Length", b"2")], b"no")


def test_a_head_answer_has_no_body():
    """The length in an answer to HEAD announces nothing."""
    reader = ResponseReader(LIMITS)
    reader.reset(bodiless=True)

    complete = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    assert complete
    assert not reader.keep_alive


def test_a_body_in_tiny_pieces_takes_little_more_than_its_size():
    """A receiver that sends two bytes in each chunk does not make the worker keep an object for each."""
    limits = EngineLimits()
    reader = ResponseReader(limits)
    chunks = b"2\r\nok\r\n" * (limits.body_bytes // 2)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    tracemalloc.start()

    reader.feed(chunks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reader.body == b"ok" * (limits.body_bytes // 2)
    assert peak < 4 * limits.body_bytes
