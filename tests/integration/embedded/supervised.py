"""A program for the tests: the real supervisor over small children, described by JSON on the command line.

{"folder": ..., "port": ..., "children": {name: how}, "embedded": bool, "prepare": how, "stop_seconds": ...}
"""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import json
import sys
from pathlib import Path

from app.core.errors import StartupError
from app.embedded.child import ChildSpec
from app.embedded.supervisor import Addresses, Listener, Plan, run

# What a child does. Each says who it is, and by what it was stopped.
CHILDREN = {
    "obeys": """
import signal, sys
def stop(number, frame):
    print(f"stopped by {signal.Signals(number).name}")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)
print("runs", flush=True)
while True: signal.pause()
""",
    "serves": """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ready")
    def log_message(self, *arguments): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("runs")
server.serve_forever()
""",
    # It has a child of its own, which it leaves alone; neither stops when asked.
    "stubborn": """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 2: print("grandchild runs")
else: subprocess.Popen([sys.executable, "-c", open("/proc/self/cmdline").read().split(chr(0))[2], "0", "g"])
print("runs")
while True: signal.pause()
""",
    "fails": "import sys; print('cannot go on'); sys.exit(7)",
    "fails later": """
import os, signal, sys, time
while not os.path.exists(os.environ["READY_FILE"]): time.sleep(0.01)
print("dies", flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
""",
    "ends": "print('done')",
}


def main() -> int:
    """Run the supervisor as `bellwire dev` does."""
    told = json.loads(sys.argv[1])
    port = told["port"]
    ready_file = Path(told["folder"]) / "ready"

    def spec(name: str, how: str) -> ChildSpec:
        return ChildSpec(
            name,
            (sys.executable, "-c", CHILDREN[how], str(port)),
            {"READY_FILE": str(ready_file)},
            ready_url=f"http://127.0.0.1:{port}/" if how == "serves" else None,
            stop_seconds=told.get("stop_seconds", 30.0),
        )

    def children(addresses: Addresses) -> list[ChildSpec]:
        print("addresses", addresses.database_url, addresses.broker_url)
        return [spec(name, how) for name, how in told["children"].items()]

    async def when_ready() -> str:
        ready_file.touch()
        return "welcome"

    plan = Plan(
        folder=Path(told["folder"]),
        listeners=(Listener("127.0.0.1", port, "the API", "BELLWIRE_PORT"),),
        database_url=None if told.get("embedded") else "postgresql://outside",
        broker_url=None if told.get("embedded") else "redis://outside",
        make_secrets=lambda: None,
        prepare=lambda _addresses: spec("migrate", told.get("prepare", "ends")),
        children=children,
        stop_order=("second", "first"),
        when_ready=when_ready,
    )
    try:
        return run(plan)
    except StartupError as error:
        print(f"error: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
