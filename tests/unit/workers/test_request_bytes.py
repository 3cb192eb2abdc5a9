"""The bytes of a request."""

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.http1.request import encode_head, encode_headers
from workers.http1.target import Target


@pytest.mark.parametrize(
    ("url", "origin", "host", "path"),
    [
        ("https://example.com", "https://example.com:443", b"example.com", b"/"),
        ("https://example.com:443/a?b=c", "https://example.com:443", b"example.com", b"/a?b=c"),
        ("http://example.com:8080/", "http://example.com:8080", b"example.com:8080", b"/"),
        ("http://example.com./x", "http://example.com:80", b"example.com", b"/x"),
        ("http://[2001:db8::1]:81/x", "http://[2001:db8::1]:81", b"[2001:db8::1]:81", b"/x"),
        (
            "https://bücher.example/ä",
            "https://xn--bcher-kva.example:443",
            b"xn--bcher-kva.example",
            b"/%C3%A4",
        ),
    ],
)
def test_a_target_is_parsed_once_into_what_is_sent(url, origin, host, path):
    """Pool key, Host header and request target come from the same parse."""
    target = Target.from_url(url)

    assert (target.origin, target.host_header, target.path) == (origin, host, path)
    assert target.post_head == b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % (path, host)


@pytest.mark.parametrize("url", ["", "/x", "ftp://example.com/", "http://", "http://[::1", "http://a:b/"])
def test_what_is_no_http_url_is_no_target(url):
    """A target cannot be made from anything else."""
    with pytest.raises(ValueError, match="URL"):
        Target.from_url(url)


def test_user_info_is_never_sent():
    """What slipped into an old URL does not reach the receiver."""
    target = Target.from_url(httpx2.URL("https://user:secret@example.com/"))

    assert b"secret" not in target.post_head


def test_headers_become_lines():
    """Names and values stand as they were given."""
    lines = encode_headers([(b"X-One", b"1"), (b"x-empty", b""), (b"X-Text", b"a \xe9\tb")])

    assert lines == b"X-One: 1\r\nx-empty: \r\nX-Text: a \xe9\tb\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:", b"x"),
        (b"a\r\nb", b"x"),
        (b"a\n", b"x"),
        (b"a", b"x\r\ny: z"),
        (b"a", b"x\n"),
        (b"a", b"\x00"),
        (b"a", b"\x7f"),
        (b"a", b" x"),
        (b"a", b"x "),
        (b"\xc3\xa4", b"x"),
    ],
)
def test_no_header_can_smuggle_another(name, value):
    """Anything that is not a token with a plain value is refused."""
    with pytest.raises(ValueError, match="not legal"):
        encode_headers([(name, value)])


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_one_pair_is_one_line_or_refused(name, value):
    """No bytes make two lines."""
    try:
        lines = encode_headers([(name, value)])
    except ValueError:
        return

    assert lines.count(b"\n") == lines.count(b"\r") == 1
    assert lines.endswith(b"\r\n")


@pytest.mark.parametrize("method", [b"", b"GET ", b"GET\r\nX: y", b"G\x00T"])
def test_a_method_is_a_token(method):
    """The request line cannot be broken through the method."""
    with pytest.raises(ValueError, match="not legal"):
        encode_head(method, target=Target.from_url("http://example.com/"), lines=b"", body_length=0)
