"""Reading a publish request: what is refused and where, and that `data` comes through byte for byte."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Invalid, Malformed
from app.events.envelope import CheckedEvent, read_batch, read_event


def event_with(data: bytes, *, before: bytes = b'"type":"order.placed",', after: bytes = b"") -> bytes:
    """Return a body with this data."""
    return b"{" + before + b'"data":' + data + after + b"}"


def fields(text: str) -> bytes:
    """Return a body with these fields beside `type` and `data`."""
    return event_with(b"1", after=b"," + text.encode())


def test_event_with_all_fields() -> None:
    """Every field of a request is read."""
    read = read_event(
        b'{"type":"order.placed","data":{"n":1},"application":"shop-1","uid":"u_1","correlation_id":"c 1",'
        b'"occurred_at":"2026-01-31T12:00:00.5+02:00","metadata":{"k":"v"},"priority":"high"}'
    )

    assert read == CheckedEvent(
        type="order.placed",
        data=b'{"n":1}',
        application="shop-1",
        uid="u_1",
        correlation_id="c 1",
        occurred_at=datetime(2026, 1, 31, 10, 0, 0, 500_000, tzinfo=UTC),
        metadata={"k": "v"},
        high=True,
        content_hash=read.content_hash,
    )


def test_event_with_the_fewest_fields() -> None:
    """What is left out has its default."""
    read = read_event(b'{"type":"a","data":null}')

    assert (read.data, read.application, read.uid, read.occurred_at) == (b"null", "default", None, None)
    assert (read.correlation_id, read.metadata, read.high) == (None, None, False)


@pytest.mark.parametrize(
    "data",
    [
        b"9007199254740993",
        b"-0",
        b"1.10",
        b"1E400",
        b"0.1e-7",
        b"9" * 5_000,
        b'{"a":1,"a":2}',
        b'{ "spaced" :\t[ 1 ,\r\n2 ] }',
        '"é 😀 \u2028"'.encode(),
        rb'"\u00e9\ud83d\ude00\u0000"',
        rb'"\"data\": {\\"',
        b'"type"',
        b'{"type":"other","data":{"data":1}}',
        b"[]",
        b'""',
        b"[" * 127 + b"]" * 127,
        b'{"a":' * 127 + b"0" + b"}" * 127,
        b'"' + b"[" * 1_000 + b'"',
        b'"' + rb"\"[" * 1_000 + b'"',
    ],
    ids=lambda data: data[:24].decode(),
)
@pytest.mark.parametrize("space", [b"", b" ", b"\r\n\t"])
def test_data_comes_through_byte_for_byte(data: bytes, space: bytes) -> None:
    """Numbers, escapes, white space and repeated keys inside `data` are nobody's business."""
    for before, after in ((b'"type":"order.placed",', b""), (b"", b',"type":"order.placed"')):
        read = read_event(event_with(space + data + space, before=before, after=after))

        assert read.data == data


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "type", "a", 'q"']), inner)
    ),
    max_leaves=20,
)


@given(
    value=_JSON,
    metadata=st.dictionaries(st.sampled_from(["data", "type", "k"]), st.text(alphabet='a"\\:{}[],0 ')),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    first=st.booleans(),
)
def test_any_json_comes_through(
    value: object, metadata: dict[str, str], *, ascii_only: bool, indent: int | None, first: bool
) -> None:
    """For any JSON, wherever it stands among other fields that look like it, the bytes are unchanged."""
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    rest = b'"type":"a","metadata":' + json.dumps(metadata).encode()
    body = event_with(data, before=b"", after=b"," + rest) if first else event_with(data, before=rest + b",")

    read = read_event(body)

    assert (read.data, read.metadata) == (data, metadata)


@given(st.binary(max_size=64) | st.text(alphabet='{}[]":,dat\\u0123 \n', max_size=64).map(str.encode))
def test_any_bytes_give_an_event_or_a_problem(noise: bytes) -> None:
    """Whatever comes in, nothing but a problem of the caller comes out, and no problem without JSON in UTF-8."""
    for body in (
        noise,
        event_with(noise),
        event_with(b"1", after=b"," + noise),
        b'{"events":[' + noise + b"]}",
    ):
        for read in (read_event, read_batch):
            with suppress(Malformed, Invalid):
                read(body)
                json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"type":"a","data":}',
        b'{"type":"a","data":NaN}',
        b'{"type":"a","data":Infinity}',
        b'{"type":"a","data":01}',
        b'{"type":"a","data":1.}',
        b'{"type":"a","data":[1,]}',
        b'{"type":"a","data":tru}',
        b'{"type":"a","data":"\n"}',
        rb'{"type":"a","data":"\x"}',
        rb'{"type":"a","data":"\ud800"}',
        rb'{"type":"a","data":"\ud800\u0041"}',
        rb'{"type":"a","data":1,"correlation_id":"\ud800"}',
        b'{"type":"a","data":1} {}',
        b'{"type":"a","data":1}x',
        b"\xef\xbb\xbf" + b'{"type":"a","data":1}',
        b'{"type":"a","data":"\xff"}',
        b'{"type":"a","data":"\xed\xa0\x80"}',
        b'{"type":"a","data":"\xc0\x80"}',
        '{"type":"a","data":1}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_in_utf8_is_malformed(body: bytes) -> None:
    """Broken JSON and broken UTF-8 are told apart from a wrong event: 400, not 422."""
    for read in (read_event, read_batch):
        with pytest.raises(Malformed):
            read(body)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b'"x"', ""),
        (b"{}", "/type"),
        (b'{"data":1}', "/type"),
        (b'{"type":"a"}', "/data"),
        (b'{"type":"a","data":1,"datta":2}', "/datta"),
        (b'{"type":5,"data":1}', "/type"),
        (b'{"type":"","data":1}', "/type"),
        (b'{"type":".a","data":1}', "/type"),
        (b'{"type":"a..b","data":1}', "/type"),
        (b'{"type":"a.","data":1}', "/type"),
        (b'{"type":"a b","data":1}', "/type"),
        (rb'{"type":"a\n","data":1}', "/type"),
        (rb'{"type":"a\u0000","data":1}', "/type"),
        ('{"type":"é","data":1}'.encode(), "/type"),
        (b'{"type":"' + b"a" * 129 + b'","data":1}', "/type"),
        (fields('"uid":""'), "/uid"),
        (fields('"uid":"a.b"'), "/uid"),
        (fields(r'"uid":"a\n"'), "/uid"),
        (fields('"uid":"' + "a" * 129 + '"'), "/uid"),
        (fields('"uid":7'), "/uid"),
        (fields('"application":""'), "/application"),
        (fields('"application":null'), "/application"),
        (fields('"application":"' + "a" * 129 + '"'), "/application"),
        (fields(r'"application":"a\u0000"'), "/application"),
        (fields('"correlation_id":""'), "/correlation_id"),
        (fields('"correlation_id":"' + "a" * 257 + '"'), "/correlation_id"),
        (fields(r'"correlation_id":"\u0000"'), "/correlation_id"),
        (fields('"priority":"low"'), "/priority"),
        (fields('"metadata":[]'), "/metadata"),
        (fields('"metadata":{"a":1}'), "/metadata"),
        (fields(r'"metadata":{"a/b":"\u0000"}'), "/metadata/a~1b"),
        (fields(r'"metadata":{"\u0000":"v"}'), r"/metadata/\u0000"),
        (fields('"metadata":{"a":"' + "v" * 501 + '"}'), "/metadata/a"),
        (fields('"metadata":{"' + "k" * 501 + '":"v"}'), "/metadata/" + "k" * 64),
        (fields('"metadata":{' + ",".join(f'"{n}":""' for n in range(51)) + "}"), "/metadata"),
        (fields('"occurred_at":"2026-01-31"'), "/occurred_at"),
        (fields('"occurred_at":"2026-01-31T12:00:00"'), "/occurred_at"),
        (fields('"occurred_at":"2026-02-30T12:00:00Z"'), "/occurred_at"),
        (fields('"occurred_at":"1969-12-31T23:59:59Z"'), "/occurred_at"),
        (fields('"occurred_at":"9001-01-01T00:00:00Z"'), "/occurred_at"),
        (fields('"occurred_at":"yesterday"'), "/occurred_at"),
        (fields('"occurred_at":1700000000'), "/occurred_at"),
        (event_with(b"[" * 128 + b"]" * 128), "/data"),
        (event_with(b"[" * 10_000 + b"]" * 10_000), "/data"),
        (event_with(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "/data"),
    ],
)
def test_what_breaks_a_rule_is_pointed_at(body: bytes, pointer: str) -> None:
    """A wrong event is refused with a pointer to what is wrong, and a sentence."""
    with pytest.raises(Invalid) as refused:
        read_event(body)

    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert refused.value.errors[0].detail.endswith(".")


def test_all_texts_that_break_a_rule_are_told_at_once() -> None:
    """A publisher sees every fault of its texts, not the first only."""
    with pytest.raises(Invalid) as refused:
        read_event(fields(r'"metadata":{"a":"\u0000","b":"\u0000"},"correlation_id":"\u0000"'))

    assert {error.pointer for error in refused.value.errors} == {
        "/metadata/a",
        "/metadata/b",
        "/correlation_id",
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"type","data":1}',
        b'{"type":"a","correlation_id":"data","data":"data"}',
        rb'{"type":"a","correlation_id":"\u0022type\u0022","data":1}',
        b'{"type":"a","data":{"type":1,"type":2,"data":3},"uid":"uid","application":"application"}',
        b'{"type":"a","metadata":{"type":"metadata","data":"type"},"data":1}',
    ],
)
def test_value_that_reads_like_a_key_is_no_repeat(body: bytes) -> None:
    """Only keys of the envelope count: a value may be the name of one, and `data` may hold what it likes."""
    assert read_event(body).data


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"type":"a","data":1,"data":1}', "/data"),
        (b'{"type":"a","data":1,"data":2}', "/data"),
        (b'{"type":"a","data":12,"data":1}', "/data"),
        (b'{"type":"a","data":1,"data":12}', "/data"),
        (b'{"data":{"data":1},"type":"a","data":{"data":1}}', "/data"),
        (b'{"data":[1],"type":"a","data":"[1]"}', "/data"),
        (rb'{"type":"a","data":1,"d\u0061ta":1}', "/data"),
        (rb'{"type":"a","d\u0061ta":1,"data":1}', "/data"),
        (b'{"type":"a","type":"a","data":1}', "/type"),
        (rb'{"type":"a","data":1,"ty\u0070e":"b"}', "/type"),
        (b'{"type":"a","data":1,"uid":"u","uid":null}', "/uid"),
        (b'{"type":"a","data":1,"metadata":{"a":"1"},"metadata":{"a":"1"}}', "/metadata"),
        (b'{"type":"a","data":1,"metadata":{"a":"1","a":"1"}}', "/metadata/a"),
        (b'{"type":"a","metadata":{"data":"1","data":"1"},"data":"1"}', "/metadata/data"),
        (b'{"type":"a","data":1,"metadata":{"a/b~":"1","a/b~":"2"}}', "/metadata/a~1b~0"),
    ],
)
def test_key_that_stands_twice_is_refused(body: bytes, pointer: str) -> None:
    """Two readers of the same bytes must not see two events, so no key of the envelope may be repeated."""
    with pytest.raises(Invalid, match="twice") as refused:
        read_event(body)

    assert [error.pointer for error in refused.value.errors] == [pointer]


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (rb'{"type":"a","d\u0061ta":{"a":1,"a":2}}', b'{"a":1,"a":2}'),
        (rb'{"type":"a","d\u0061ta":' + b"9" * 5_000 + b"}", b"9" * 5_000),
        (b'{"type":"a","metadata":{"data":"x"},"data":"x"}', b'"x"'),
        (b'{"type":"a","correlation_id":"\\"data\\":1","data":1}', b"1"),
        (b'{"metadata":{"data":"{}"},"data":{},"type":"a"}', b"{}"),
    ],
)
def test_what_only_looks_repeated_is_accepted(body: bytes, data: bytes) -> None:
    """A key of `data` or of `metadata`, or a text, may be like the envelope's own."""
    assert read_event(body).data == data


def test_same_content_has_the_same_hash() -> None:
    """A repeat is a repeat whatever the order of the fields, the white space around them, and the defaults given."""
    one = read_event(b'{"type":"a","data":{"n": 1},"metadata":{"a":"1","b":"2"}}')
    other = read_event(
        b'{ "metadata" : {"b":"2","a":"1"}, "priority":"normal", "data":{"n": 1}, "type":"a" }'
    )

    assert one.content_hash == other.content_hash


@pytest.mark.parametrize(
    "other",
    [
        b'{"type":"b","data":{"n": 1}}',
        b'{"type":"a","data":{"n":1}}',
        b'{"type":"a","data":{"n": 1.0}}',
        b'{"type":"a","data":{"n": 1},"correlation_id":"c"}',
        b'{"type":"a","data":{"n": 1},"metadata":{"k":"v"}}',
        b'{"type":"a","data":{"n": 1},"priority":"high"}',
        b'{"type":"a","data":{"n": 1},"occurred_at":"2026-01-31T12:00:00Z"}',
    ],
)
def test_other_content_has_another_hash(other: bytes) -> None:
    """Type, data as bytes and every field given make the content."""
    assert read_event(other).content_hash != read_event(b'{"type":"a","data":{"n": 1}}').content_hash


def test_batch_is_cut_into_its_events() -> None:
    """Each element of a batch comes out as the bytes that went in, whatever it is."""
    elements = [b'{"type":"a","data":1}', b"1", b'"]}"', b'{"events":[1]}', b"[ 1 , 2 ]"]

    read = read_batch(b' { "events" :\n[ ' + b" , ".join(elements) + b" ] } ")

    assert read == elements


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b"{}", "/events"),
        (b'{"events":[]}', "/events"),
        (b'{"events":{}}', "/events"),
        (b'{"events":[' + b"1," * 1_000 + b"1]}", "/events"),
        (b'{"events":[1],"more":1}', "/more"),
        (b'{"events":[1],"events":[1]}', "/events"),
        (b'{"events":[1],"events":[1,2]}', "/events"),
        (b'{"events":[1,2],"events":[1]}', "/events"),
        (rb'{"\u0065vents":[1],"events":[1]}', "/events"),
    ],
)
def test_batch_that_breaks_a_rule(body: bytes, pointer: str) -> None:
    """A batch has one list of 1 to 1,000 events, and nothing else."""
    with pytest.raises(Invalid) as refused:
        read_batch(body)

    assert [error.pointer for error in refused.value.errors] == [pointer]


def test_batch_of_a_thousand_is_taken() -> None:
    """The limit itself is not above the limit."""
    assert len(read_batch(b'{"events":[' + b"1," * 999 + b"1]}")) == 1_000
