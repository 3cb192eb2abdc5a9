"""The six figures at the top of Overview: what each says, in which colour, and which list it leads to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.dashboard import words
from app.dashboard.frame import address

if TYPE_CHECKING:
    from app.dashboard.counts import Counts
    from app.stats.latency import Percentiles
    from app.stats.queue_now import QueueNow
    from app.stats.rollups import Series, Totals

# A delivery that is due is claimed at once, or at a worker's next look, 2 s later; from the first of these on somebody
# should know, from the second on somebody should be called.
OLDEST_DUE_WARN_SECONDS = 30.0
OLDEST_DUE_BAD_SECONDS = 120.0
# Below these shares of success a card takes a colour.
_GOOD_SHARE, _FAIR_SHARE = 0.99, 0.95
_HOUR, _MINUTE = 3_600.0, 60.0
_FEW = 10
_MOST_DEAD = 999
# A change of less than this is none.
_SAME = 0.005
_MANIFOLD = 10.0


@dataclass(frozen=True, slots=True)
class Card:
    """One figure. `tone`: ok, warn, bad, or none; `notes` stand below it, each on a line of its own."""

    title: str
    value: str
    notes: tuple[str, ...]
    href: str
    tone: str = ""


def cards_of(
    series: Series,
    waiting: QueueNow,
    counts: Counts | None,
    *,
    span_name: str,
    span_words: str,
    query: dict[str, str],
) -> list[Card]:
    """Return the cards. `counts` is None where the page is about one application only, which they do not tell."""
    kept = {name: value for name, value in query.items() if name in {"range", "application"}}
    totals = series.totals
    return [
        _rate_card(series, _deliveries(kept), before=f"the {span_name} before"),
        _success_card(totals, _deliveries(kept, q="attempt:>1")),
        _latency_card(totals.latency, kept),
        _waiting_card(waiting, _deliveries(kept, status="pending", range=None)),
        _oldest_card(waiting, _deliveries(kept, status="pending", range=None)),
        _dead_card(totals, counts, address("/dashboard/dead", kept), span_words=span_words),
    ]


def rate(count: int, seconds: float) -> str:
    """Return how often something happens, in the unit in which a person can picture it."""
    if not count or seconds <= 0:
        return "0 / min"
    for size, unit in ((_MINUTE, "min"), (_HOUR, "h")):
        per = count * size / seconds
        if per >= 1:
            return f"{per:,.0f} / {unit}" if per >= _FEW else f"{per:.1f} / {unit}"
    return f"{count:,} in {words.duration(seconds)}"


def change(now: float, before: float) -> str:
    """Return how much more or less something is than before."""
    if not before:
        return "none" if now else "as many as"
    share = now / before - 1
    if abs(share) < _SAME:
        return "as many as"
    if share >= _MANIFOLD:
        return f"{now / before:,.0f} times"
    return f"{share:+.0%} on"


def _deliveries(kept: dict[str, str], **changes: str | None) -> str:
    return address("/dashboard/deliveries", kept, **changes)


def _rate_card(series: Series, href: str, *, before: str) -> Card:
    totals, preceding = series.totals, series.preceding
    if not totals.attempts and not preceding.attempts:
        compared = f"none in {before} either"
    elif not preceding.delivered:
        compared = f"none in {before}"
    else:
        said = change(
            totals.delivered / max(totals.seconds, 1), preceding.delivered / max(preceding.seconds, 1)
        )
        compared = f"{said} {before}"
    return Card(
        title="Delivered",
        value=rate(totals.delivered, totals.seconds),
        notes=(compared, words.plural(totals.attempts, "attempt")),
        href=href,
    )


def _success_card(totals: Totals, href: str) -> Card:
    first, eventual = totals.first_try_share, totals.eventual_share
    return Card(
        title="First-try success",
        value=words.percent(first),
        notes=(f"{words.percent(eventual)} in the end", f"{totals.delivered_late:,} needed a retry"),
        href=href,
        tone=""
        if first is None
        else "ok"
        if first >= _GOOD_SHARE
        else "warn"
        if first >= _FAIR_SHARE
        else "bad",
    )


def _latency_card(latency: Percentiles | None, kept: dict[str, str]) -> Card:
    if latency is None:
        return Card("Latency p95", "—", ("nothing was sent",), _deliveries(kept))
    return Card(
        title="Latency p95",
        value=words.milliseconds(latency.p95),
        notes=(f"p50 {words.milliseconds(latency.p50)}", f"p99 {words.milliseconds(latency.p99)}"),
        # The slowest twentieth.
        href=_deliveries(kept, q=f"duration:>{max(1, round(latency.p95))}ms"),
    )


def _waiting_card(waiting: QueueNow, href: str) -> Card:
    more = "+" if waiting.capped else ""
    whole = waiting.due + waiting.scheduled + waiting.blocked
    notes = [
        f"{waiting.due:,}{more} due · {waiting.scheduled:,}{more} scheduled",
        f"{waiting.in_flight:,} in flight",
    ]
    if waiting.blocked:
        notes[1] += f" · {waiting.blocked:,}{more} held"
    return Card("Waiting", f"{whole:,}{more}", tuple(notes), href)


def _oldest_card(waiting: QueueNow, href: str) -> Card:
    seconds = waiting.oldest_due_seconds
    if seconds is None:
        return Card("Oldest due", "none", ("nothing is late",), href, "ok")
    tone = (
        "ok" if seconds < OLDEST_DUE_WARN_SECONDS else "warn" if seconds < OLDEST_DUE_BAD_SECONDS else "bad"
    )
    goal = f"goal: below {words.duration(OLDEST_DUE_WARN_SECONDS)}"
    return Card("Oldest due", words.duration(seconds), (goal,), href, tone)


def _dead_card(totals: Totals, counts: Counts | None, href: str, *, span_words: str) -> Card:
    new = f"{totals.dead:,} new in the {span_words}"
    if counts is None:
        return Card(
            "Dead letters", f"{totals.dead:,}", (f"in the {span_words}",), href, "bad" if totals.dead else ""
        )
    if not counts.dead_letters:
        return Card("Dead letters", "0", ("nothing has given up",), href, "ok")
    return Card(
        "Dead letters",
        words.capped(counts.dead_letters, _MOST_DEAD),
        (new,),
        href,
        "bad" if totals.dead else "",
    )
