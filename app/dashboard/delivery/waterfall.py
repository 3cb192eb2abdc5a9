"""Where the time of an attempt went: phases one after the other, each a bar in its place. Pure.

The bars stand in a real table, so the figures are read without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from app.models import Attempt

_PHASES = (
    ("queue", "Queue wait", "from due until a worker took it", "queue_ms"),
    ("dns", "DNS", "host name to address", "dns_ms"),
    ("connect", "TCP", "connection made", "connect_ms"),
    ("tls", "TLS", "handshake and certificate", "tls_ms"),
    ("send", "Send", "request written", "send_ms"),
    ("wait", "Wait", "until the first byte of the answer", "wait_ms"),
    ("receive", "Receive", "the rest of the answer", "receive_ms"),
)
# A queue wait that is longer than so many times the attempt is drawn broken off, or nothing else could be seen.
_QUEUE_AT_MOST = 0.5
WIDTH = 1_000
_LEAST_WIDTH = 3


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase; `ms` is None where it was not reached or not needed."""

    key: str
    name: str
    meaning: str
    ms: float | None
    start: float
    width: float
    broken: bool = False

    @property
    def bar(self) -> Markup:
        """The phase's bar in its place."""
        if self.ms is None:
            return Markup("")
        return Markup(
            '<svg viewBox="0 0 {0} 12" preserveAspectRatio="none" aria-hidden="true">'
            '<rect class="lane" x="0" y="0" width="{0}" height="12"/>'
            '<rect class="p-{1}{2}" x="{3:.1f}" y="0" width="{4:.1f}" height="12"/></svg>'
        ).format(WIDTH, self.key, " broken" if self.broken else "", self.start, self.width)


def waterfall(attempt: Attempt) -> list[Phase]:
    """Return the phases with their bars; none if nothing was measured."""
    measured: list[tuple[str, str, str, float | None]] = [
        (key, name, meaning, getattr(attempt, column)) for key, name, meaning, column in _PHASES
    ]
    if all(ms is None for _, _, _, ms in measured):
        return []
    sent = sum(ms or 0.0 for key, _, _, ms in measured if key != "queue")
    queue = measured[0][3] or 0.0
    drawn_queue = min(queue, sent * _QUEUE_AT_MOST) if sent else queue
    total = (sent + drawn_queue) or 1.0
    phases = []
    at = 0.0
    for key, name, meaning, ms in measured:
        drawn = drawn_queue if key == "queue" else ms or 0.0
        width = max(drawn / total * WIDTH, _LEAST_WIDTH)
        start = min(at / total * WIDTH, WIDTH - width)
        phases.append(
            Phase(key, name, meaning, ms, start=start, width=width, broken=key == "queue" and drawn < queue)
        )
        at += drawn
    return phases
