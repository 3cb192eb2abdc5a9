"""The command line as its users call it: in a folder of its own, with a clean environment, piped or on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from typer.testing import CliRunner

from app.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from typer.testing import Result

TERMINAL_SECONDS = 60
API_KEY = "bw_test_key_0123456789_0123456789"


class RunPiped(Protocol):
    """Runs a command whose output nobody looks at."""

    def __call__(self, *arguments: str, stdin: str | bytes = b"") -> Result: ...


class RunOnTerminal(Protocol):
    """Runs a command on a terminal of its own; returns its exit code and all that it showed."""

    def __call__(self, *arguments: str, columns: int = 200) -> tuple[int, str]: ...


@dataclass
class Request:
    """What came to the fake API."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class FakeApi:
    """An HTTP server that answers as it is told: by (method, path without query), else a 404 problem."""

    url: str
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any, *, status: int = 200) -> None:
        """Answer this from now on; `body` is sent as JSON, or as it is if it is bytes."""
        self.answers[method, path] = (status, body)

    def refuse(self, method: str, path: str, *, status: int, detail: str, **members: Any) -> None:
        """Answer this with a problem from now on."""
        self.answer(
            method, path, {"title": "Problem", "status": status, "detail": detail, **members}, status=status
        )


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder, with no setting of Bellwire in the environment."""
    for name in list(os.environ):
        if name.startswith("BELLWIRE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def piped() -> RunPiped:
    """Run a command inside this process, with pipes for its streams."""

    def run(*arguments: str, stdin: str | bytes = b"") -> Result:
        result = CliRunner().invoke(cli, list(arguments), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def on_terminal() -> RunOnTerminal:
    """Run a command in a process of its own, with a terminal for its streams."""

    def run(*arguments: str, columns: int = 200) -> tuple[int, str]:
        ours, its = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
        )
        os.close(its)
        shown = bytearray()
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:  # Linux says EIO when the other side has been closed.
            pass
        finally:
            os.close(ours)
        return process.wait(TERMINAL_SECONDS), shown.decode().replace("\r\n", "\n")

    return run


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """A fake API, whose address and key the environment names."""
    fake = FakeApi(url="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fake.requests.append(Request(self.command, self.path, dict(self.headers.items()), body))
            unknown = (404, {"title": "Not found", "status": 404, "detail": "There is nothing here."})
            status, answer = fake.answers.get((self.command, self.path.partition("?")[0]), unknown)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            kind = "text/html" if isinstance(answer, bytes) else "application/json"
            self.send_response(status)
            problem = status >= 400 and kind == "application/json"
            self.send_header("content-type", "application/problem+json" if problem else kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the base class looks for these names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("BELLWIRE_URL", fake.url)
        monkeypatch.setenv("BELLWIRE_API_KEY", API_KEY)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()
