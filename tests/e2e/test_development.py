"""`bellwire dev`, as a newcomer meets it: start, the printed curl, Ctrl-C, a second start, SIGKILL, a third."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.embedded.child import MARKER
from app.embedded.kept import choose_port
from app.embedded.processes import processes_in_folder, processes_with_environment
from tests.integration.embedded.started import PROJECT, Started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

READY = "Bellwire is ready."


@dataclass(frozen=True)
class History:
    """What three runs over one folder showed."""

    first: str
    first_exit: int
    left_after_ctrl_c: list[int]
    published: dict[str, Any]
    overview: str
    link_afterwards: int
    second: str
    events_at_second: list[str]
    endpoints_at_second: list[str]
    accepted_before_kill: str
    third: str
    events_at_third: list[str]
    left_at_end: list[int]


@contextlib.contextmanager
def running(folder: Path, *, ports: tuple[int, int], name: str) -> Iterator[Started]:
    """Start `bellwire dev`, wait until it says that it is ready; in the end kill it if it still runs."""
    outside = ("BELLWIRE_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    environment |= {
        "BELLWIRE_DATA_DIR": str(folder / "data"),
        "BELLWIRE_PORT": str(ports[0]),
        "BELLWIRE_DEMO_PORT": str(ports[1]),
        "PYTHONPATH": str(PROJECT),
    }
    written = folder / f"{name}.txt"
    started = Started.start("-m", "app.cli", "dev", written=written, cwd=folder, env=environment)
    try:
        started.wait_for(READY)
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def run_printed_curl(output: str) -> dict[str, Any]:
    """Send what the printed curl would send, as a shell would read it; return the event."""
    (text,) = re.findall(r"^curl (?:.*\\\n)*.*", output, re.MULTILINE)
    words = shlex.split(text.replace("\\\n", " "))
    assert words[:3] == ["curl", "-X", "POST"]
    url, options = words[3], words[4:]
    headers = dict(
        value.split(": ", 1) for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "-H"
    )
    (data,) = [value for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "-d"]
    response = httpx2.post(url, headers=headers, content=data.encode(), timeout=30)
    assert response.status_code == 202, response.text
    return dict(response.json())


def listed(output: str, resource: str) -> list[dict[str, Any]]:
    """What the API lists, asked with the printed address and key."""
    (url,) = re.findall(r"^  API +(http\S+)", output, re.MULTILINE)
    (key,) = re.findall(r"^  API key +(\S+)", output, re.MULTILINE)
    response = httpx2.get(f"{url}/v1/{resource}", headers={"authorization": f"Bearer {key}"}, timeout=30)
    return list(response.raise_for_status().json()["data"])


def open_printed_link(output: str) -> tuple[str, int]:
    """Open the printed login link as a person does; return the page that it opens, and the link's status afterwards."""
    (url,) = re.findall(r"^  Sign in +(http\S+/login/link/\S+)", output, re.MULTILINE)
    with httpx2.Client(timeout=30, follow_redirects=True) as browser:
        (token,) = re.findall(r'name="csrf" value="(\w+)"', browser.get(url).text)
        overview = browser.post(url, data={"csrf": token}, headers={"origin": url.split("/login")[0]})
    return overview.text, httpx2.get(url, timeout=30).status_code


def left_over(folder: Path) -> list[int]:
    data = (folder / "data").resolve()
    servers = processes_in_folder(data / "postgres" / "data", name="postgres")
    return [found.pid for found in (*servers, *processes_with_environment(MARKER, str(data)))]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Run it three times: ended by Ctrl-C, by SIGKILL, and by SIGTERM."""
    folder = tmp_path_factory.mktemp("newcomer")
    ports = (choose_port(), choose_port())

    with running(folder, ports=ports, name="first") as first:
        published = run_printed_curl(first.output)
        first.wait_for("✓ verified")
        overview, link_afterwards = open_printed_link(first.output)
        os.killpg(first.process.pid, signal.SIGINT)  # What a terminal does.
        first_exit = first.wait()
    left_after_ctrl_c = left_over(folder)

    with running(folder, ports=ports, name="second") as second:
        events_at_second = [event["id"] for event in listed(second.output, "events")]
        endpoints_at_second = [endpoint["url"] for endpoint in listed(second.output, "endpoints")]
        accepted_before_kill = run_printed_curl(second.output)["id"]

    with running(folder, ports=ports, name="third") as third:
        # It may have been delivered before the kill; what counts is that it was delivered.
        if accepted_before_kill not in second.output:
            third.wait_for(accepted_before_kill)
        events_at_third = [event["id"] for event in listed(third.output, "events")]
        third.send(signal.SIGTERM)
        third.wait()

    return History(
        first=first.output,
        first_exit=first_exit,
        left_after_ctrl_c=left_after_ctrl_c,
        published=published,
        overview=overview,
        link_afterwards=link_afterwards,
        second=second.output,
        events_at_second=events_at_second,
        endpoints_at_second=endpoints_at_second,
        accepted_before_kill=accepted_before_kill,
        third=third.output,
        events_at_third=events_at_third,
        left_at_end=left_over(folder),
    )


def test_the_printed_curl_reaches_the_receiver_signed(history: History) -> None:
    """The first event goes to the demo receiver, whose line shows it verified, under the id that was answered."""
    (line,) = [line for line in history.first.splitlines() if "✓ verified" in line]

    assert history.published["deliveries"] == 1
    assert f"order.placed  {history.published['id']}" in line


def test_the_printed_link_signs_the_owner_in_once(history: History) -> None:
    """It opens the overview, which knows the owner, and afterwards it leads nowhere."""
    assert "<title>Overview" in history.overview
    assert "owner@bellwire.localhost" in history.overview
    assert history.link_afterwards == 404


def test_ctrl_c_leaves_no_process_behind(history: History) -> None:
    """It ends with 0, says where the data is, and everything that it started is gone."""
    assert (history.first_exit, history.left_after_ctrl_c) == (0, [])
    assert "Everything has stopped. The data stays in" in history.first


def test_a_second_start_finds_its_data(history: History) -> None:
    """The event is there, and the demo endpoint was not made twice."""
    assert history.events_at_second == [history.published["id"]]
    assert len(history.endpoints_at_second) == 1


def test_a_start_after_sigkill_recovers(history: History) -> None:
    """What was accepted just before the kill is neither lost nor undelivered."""
    assert history.accepted_before_kill in history.events_at_third
    assert history.accepted_before_kill in history.second + history.third
    assert history.left_at_end == []


def test_no_secret_of_the_endpoints_is_printed(history: History) -> None:
    """The API key is for the newcomer; encryption key, endpoint secret and passwords are nobody's."""
    everything = history.first + history.second + history.third

    assert re.findall(r"whsec_\S+|redis://:[^*]\S+|postgresql\S*://\S+", everything) == []
