"""The test's side of the receiver: starts it, tells it how to behave, and reads its ledger."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from base64 import b64encode
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.faults.harness.processes import ManagedProcess
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.faults.harness.misbehaving import Step

START_SECONDS = 20.0


@dataclass(slots=True)
class Receipt:
    """One request that the receiver read in full. Times are seconds of the machine's monotonic clock."""

    number: int
    path: str
    event_id: str
    genuine: bool
    wrong: str | None
    at: float
    unix: float
    timestamp: int
    connection: int
    concurrent: int
    headers: dict[str, str]
    body: str
    status: int | None = None
    ended_at: float | None = None

    @property
    def data(self) -> Any:
        """The event's `data` as it arrived."""
        return json.loads(self.body)["data"]


class LedgerReceiver:
    """The receiver process and what it wrote down so far."""

    def __init__(
        self, folder: Path, *, root: Path, environment: dict[str, str], name: str = "receiver"
    ) -> None:
        self.secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        self.receipts: list[Receipt] = []
        self.by_event: defaultdict[str, list[Receipt]] = defaultdict(list)
        self.garbage: list[str] = []
        self._ledger = folder / f"{name}.ledger"
        self._offset = 0
        self._ports: dict[str, int] = {}
        self._by_number: dict[int, Receipt] = {}
        command = [sys.executable, "-m", "tests.faults.harness.receiver"]
        self.process = ManagedProcess(
            name,
            [*command, "--ledger", str(self._ledger), "--secret", self.secret],
            environment=environment,
            folder=folder,
            cwd=root,
        )

    async def start(self) -> Self:
        """Start the process and wait until it listens."""
        self.process.start()

        def ports_known() -> bool:
            self.refresh()
            return bool(self._ports)

        await wait_until(
            ports_known, seconds=START_SECONDS, what="the receiver listens", state=self.process.tail
        )
        return self

    def stop(self) -> None:
        """End the process."""
        self.process.stop(seconds=2)

    def url(self, path: str) -> str:
        """Return the address of one of its paths, such as `/a`."""
        return f"http://127.0.0.1:{self._ports['port']}{path}"

    async def behave(
        self,
        path: str | None = None,
        *,
        statuses: Sequence[int] = (200,),
        after_seconds: float = 0.0,
        hold: bool = False,
        reset: bool = False,
        headers: dict[str, str] | None = None,
        script: Sequence[Step] = (),
        script_times: int | None = None,
        script_status: int | None = None,
    ) -> None:
        """Say how a path (None: every path) answers from now on; see `receiver.Behaviour`."""
        behaviour = {
            "statuses": list(statuses),
            "after_seconds": after_seconds,
            "hold": hold,
            "reset": reset,
            "headers": headers or {},
            "script": [step.to_json() for step in script],
            "script_times": script_times,
            "script_status": script_status,
        }
        await self._command({"do": "behave", "path": path, "behaviour": behaviour})

    async def listen(self, *, port: int | None = None, certificate: Path | None) -> int:
        """Serve https on a port (None: a new one), or garbage without a certificate (one PEM file with its key)."""
        command = {"do": "listen", "port": port, "certificate": certificate and str(certificate)}
        return int((await self._command(command))["port"])

    async def expect_secret(self, path: str, secret: str) -> None:
        """Verify a path with a secret of its own."""
        await self._command({"do": "secret", "path": path, "secret": secret})

    async def release(self, path: str | None = None, *, status: int = 200) -> int:
        """Answer what is held (None: on every path); return how many requests that were."""
        return int((await self._command({"do": "release", "path": path, "status": status}))["released"])

    def refresh(self) -> None:
        """Read what was appended to the ledger since the last look."""
        if not self._ledger.exists():
            return
        with self._ledger.open("rb") as file:
            file.seek(self._offset)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def received(self) -> set[str]:
        """Return the ids of all events that arrived, genuine and signed."""
        self.refresh()
        return {receipt.event_id for receipt in self.receipts if receipt.genuine}

    def succeeded(self) -> set[str]:
        """Return the ids of all events that were answered with a 2xx."""
        self.refresh()
        return {r.event_id for r in self.receipts if r.genuine and r.status is not None and r.status < 300}

    def of(self, event_id: str) -> list[Receipt]:
        """Return the receipts of one event, in order."""
        self.refresh()
        return self.by_event[event_id]

    def on(self, path: str) -> list[Receipt]:
        """Return the receipts on one path, in order."""
        self.refresh()
        return [receipt for receipt in self.receipts if receipt.path == path]

    def in_progress(self) -> int:
        """Return how many requests have been read and neither answered nor lost."""
        self.refresh()
        return sum(receipt.ended_at is None for receipt in self.receipts)

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how often each (path, event id) arrived."""
        self.refresh()
        return Counter((receipt.path, receipt.event_id) for receipt in self.receipts)

    async def wait_for(self, condition: Callable[[], object], *, seconds: float, what: str) -> None:
        """Wait for a condition, sync or async; when it fails the ledger's counts are in the message."""
        await wait_until(
            condition,
            seconds=seconds,
            what=what,
            state=lambda: f"{len(self.receipts)} requests received, {self.in_progress()} in progress",
        )

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports["control_port"])
        try:
            writer.write(json.dumps(command).encode() + b"\n")
            await writer.drain()
            answer: dict[str, Any] = json.loads(await reader.readline())
            return answer
        finally:
            writer.close()
            await writer.wait_closed()

    def _take(self, entry: dict[str, Any]) -> None:
        if "request" in entry:
            receipt = Receipt(
                number=entry["request"],
                path=entry["path"],
                event_id=entry["id"],
                genuine=entry["ok"],
                wrong=entry["wrong"],
                at=entry["at"],
                unix=entry["unix"],
                timestamp=int(entry["timestamp"] or 0),
                connection=entry["connection"],
                concurrent=entry["concurrent"],
                headers=entry["headers"],
                body=entry["body"],
            )
            self.receipts.append(receipt)
            self.by_event[receipt.event_id].append(receipt)
            self._by_number[receipt.number] = receipt
        elif "answered" in entry:
            receipt = self._by_number[entry["answered"]]
            receipt.status, receipt.ended_at = entry["status"], entry["at"]
        elif "decided" in entry:
            self._by_number[entry["decided"]].status = entry["status"]
        elif "lost" in entry:
            self._by_number[entry["lost"]].ended_at = entry["at"]
        elif "garbage" in entry:
            self.garbage.append(entry["garbage"])
        else:
            self._ports = entry
