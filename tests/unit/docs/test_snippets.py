"""The snippets do what the pages say."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import httpx2
import pytest

from app.core.errors import Invalid, Malformed
from app.events.envelope import read_event
from bellwire import Webhook
from tests.unit.docs.conftest import read_page

PUBLISHING = read_page("docs/reference/publishing.md").text
RECEIVER = read_page("receiver/README.md")


def rows_after(marker: str) -> list[tuple[str, ...]]:
    """The rows of the table that follows a comment; a cell is its text without backquotes."""
    table = PUBLISHING.split(f"<!-- {marker} -->\n")[1].split("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip().strip("`") for cell in row.strip("|").split(" | ")) for row in table]


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (page, name)
        for page, names in (
            ("README.md", ("fastapi", "flask", "django")),
            ("docs/howto/verify-webhooks.md", ("fastapi", "flask", "django", "quickstart")),
            ("docs/howto/rotate-a-secret.md", ("rotation",)),
        )
        for name in names
    ],
)
def test_receivers_are_the_tested_ones(page: str, name: str) -> None:
    """A receiver's code is the same as in receiver/README.md, whose tests run it in its framework."""
    assert read_page(page).snippet(name) == RECEIVER.snippet(name)


def test_the_shown_request_is_genuine() -> None:
    """The request in "Verify webhooks" is signed with the secret that stands beside it."""
    page = read_page("docs/howto/verify-webhooks.md")
    head, body = page.blocks("http")[0].rstrip("\n").split("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    (secret,) = re.findall(r"Signed with the secret `(whsec_\S+)`", page.text)

    message = Webhook(secret).verify(body.encode(), headers, tolerance=None)

    assert message.type == "order.placed"
    assert all(
        f"'{name}: {value}'" in page.text for name, value in headers.items() if name.startswith("webhook-")
    )


@pytest.mark.parametrize(("body", "status", "pointer"), rows_after("bad input"))
def test_bad_input_gets_what_the_table_says(body: str, status: str, pointer: str) -> None:
    """The reference's table of bad input is true."""
    expected = {"400": Malformed, "422": Invalid}[status]

    with pytest.raises(expected) as caught:
        read_event(body.encode())

    faults = getattr(caught.value, "errors", ())
    assert [fault.pointer for fault in faults if fault.pointer] == ([pointer] if pointer else [])


@pytest.mark.parametrize(("body", "data"), rows_after("kept"))
def test_data_is_kept_as_the_table_says(body: str, data: str) -> None:
    """`data` is cut out byte for byte."""
    assert read_event(body.encode()).data == data.encode()


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of "Publish reliably", whose pauses are not waited for."""
    monkeypatch.setenv("BELLWIRE_URL", "http://bellwire.test")
    monkeypatch.setenv("BELLWIRE_API_KEY", "bw_key")
    module = ModuleType("publish_reliably")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    code = compile(read_page("docs/howto/publish-reliably.md").snippet("publish"), "publish", "exec")
    exec(code, module.__dict__)  # noqa: S102 - our own page
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    return module


def answering(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, *answers: int | Exception
) -> list[httpx2.Request]:
    """Let the module's client get these answers; return the list of what it sends."""
    sent: list[httpx2.Request] = []
    remaining = iter(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        following = next(remaining)
        if isinstance(following, Exception):
            raise following
        return httpx2.Response(following, json={"id": "evt_1"})

    client = httpx2.Client(
        base_url=module.client.base_url, headers=module.client.headers, transport=httpx2.MockTransport(answer)
    )
    module.client.close()
    monkeypatch.setattr(module, "client", client)
    return sent


def test_publish_tries_again_after_what_may_pass(
    publishing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost connection, 503 and 429 are tried again, with the same body and key."""
    sent = answering(publishing, monkeypatch, httpx2.ReadTimeout("late"), 503, 429, 202)

    event_id = publishing.publish({"type": "order.placed", "uid": "order_1", "data": {}})

    assert event_id == "evt_1"
    assert len({(request.url, request.content) for request in sent}) == 1
    assert [request.headers["authorization"] for request in sent] == ["Bearer bw_key"] * 4


def test_publish_does_not_repeat_a_wrong_request(
    publishing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """422 is an error at once."""
    sent = answering(publishing, monkeypatch, 422)

    with pytest.raises(httpx2.HTTPStatusError):
        publishing.publish({"type": "order placed", "uid": "order_1", "data": {}})

    assert len(sent) == 1


def test_publish_gives_up_in_the_end(publishing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its tries it says that the event must be kept."""
    sent = answering(publishing, monkeypatch, *[503] * 3)

    with pytest.raises(RuntimeError, match="keep it"):
        publishing.publish({"type": "order.placed", "uid": "order_1", "data": {}}, tries=3)

    assert len(sent) == 3
