"""What Overview, System and the audit log say, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from app.core.error_classes import ErrorClass
from app.core.settings import Settings
from app.dashboard import figures
from app.dashboard.audit.rows import Change, changes_of
from app.dashboard.counts import Counts
from app.dashboard.overview import attention, first_steps
from app.dashboard.overview.cards import Card, cards_of, change, rate
from app.dashboard.overview.queries import Firsts, Signs
from app.dashboard.overview.vital_signs import nobody_works, signs_of
from app.dashboard.system.configuration import settings_shown
from app.health.checks import Check, State
from app.stats.latency import Percentiles
from app.stats.queue_now import QueueNow
from app.stats.rollups import GROUPS, BacklogPoint, Series, SeriesPoint, Totals
from app.stats.spans import Span

NOW = datetime(2026, 11, 26, 14, 37, tzinfo=UTC)
SPAN = Span.ending("24h", NOW)
QUIET = QueueNow(0, 0, 0, 0, None, capped=False, sampled_at=None)


def series(*points: SeriesPoint, **totals: Any) -> Series:
    """A series of these points, and the totals of it."""
    return Series(points=points, totals=Totals(seconds=86_400, **totals), preceding=Totals(seconds=86_400))


def cards(
    found: Series, waiting: QueueNow = QUIET, counts: Counts | None = None, **query: str
) -> dict[str, Card]:
    """The cards by their titles."""
    made = cards_of(found, waiting, counts, span_name="24h", span_words="last 24 hours", query=query)
    return {card.title: card for card in made}


@pytest.mark.parametrize(
    ("count", "seconds", "said"),
    [
        (0, 3_600, "0 / min"),
        (62_520, 3_600, "1,042 / min"),
        (90, 3_600, "1.5 / min"),
        (30, 3_600, "30 / h"),
        (5, 86_400, "5 in 1 d"),
        (1, 0, "0 / min"),
    ],
)
def test_a_rate_is_said_in_a_unit_that_people_can_picture(count: int, seconds: float, said: str) -> None:
    """A quiet system does not say 0 where there was something."""
    assert rate(count, seconds) == said


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [(104, 100, "+4% on"), (90, 100, "-10% on"), (1000, 1000, "as many as"), (2_000, 100, "20 times")],
)
def test_a_change_is_said_in_percent_until_it_is_a_multiple(now: float, before: float, said: str) -> None:
    """Nobody reads +1900%."""
    assert change(now, before) == said


def test_cards_lead_to_what_they_count() -> None:
    """Each keeps the range and the application of the page, and nothing else of its address."""
    found = cards(series(latency=Percentiles(71, 312, 804)), application="app_1", range="24h", done="link")

    assert found["Delivered"].href == "/dashboard/deliveries?application=app_1&range=24h"
    assert found["First-try success"].href.endswith("q=attempt%3A%3E1")
    assert found["Latency p95"].href.endswith("q=duration%3A%3E312ms")
    assert found["Waiting"].href == "/dashboard/deliveries?application=app_1&status=pending"
    assert found["Dead letters"].href == "/dashboard/dead?application=app_1&range=24h"


@pytest.mark.parametrize(("seconds", "tone"), [(None, "ok"), (29.0, "ok"), (30.0, "warn"), (120.0, "bad")])
def test_the_oldest_due_delivery_has_the_colour_of_its_goal(seconds: float | None, tone: str) -> None:
    """Green below 30 s, red from two minutes on."""
    waiting = QueueNow(1, 0, 0, 0, seconds, capped=False, sampled_at=None)
    assert cards(series(), waiting)["Oldest due"].tone == tone


def test_what_waits_is_said_with_its_reason() -> None:
    """And with a plus where it was not counted to its end."""
    found = cards(series(), QueueNow(10_000, 2, 3, 4, 1.0, capped=True, sampled_at=None))["Waiting"]
    assert found.value == "10,005+"
    assert found.notes == ("10,000+ due · 2+ scheduled", "4 in flight · 3+ held")


def test_nothing_is_not_a_success_of_zero_percent() -> None:
    """Without attempts there is no share, and no colour."""
    found = cards(series())["First-try success"]
    assert (found.value, found.tone) == ("—", "")


def test_dead_letters_of_before_are_not_new() -> None:
    """The card is red only for those of the range."""
    counts = Counts(dead_letters=1_000, open_circuits=0)
    assert cards(series(), counts=counts)["Dead letters"].tone == ""
    found = cards(series(dead=12), counts=counts)["Dead letters"]
    assert (found.value, found.tone, found.notes) == ("999+", "bad", ("12 new in the last 24 hours",))


def test_the_charts_say_what_they_show() -> None:
    """One sentence each, with the numbers and the worst moment."""
    at = SPAN.points()
    found = series(
        SeriesPoint(
            at=at[0], succeeded=12_000, failed=10, failures={"5xx": 10}, latency=Percentiles(70, 300, 800)
        ),
        SeriesPoint(
            at=at[-1], succeeded=4, failed=300, failures={"timeout": 300}, latency=Percentiles(90, 900, 990)
        ),
        succeeded=12_004,
        failed=310,
        latency=Percentiles(71, 312, 804),
    )
    assert figures.attempts_sentence(found, SPAN) == (
        "Attempts per 15 minutes over the last 24 hours: 12,004 succeeded, 310 failed, most failures at 14:30."
    )
    assert figures.latency_sentence(found, SPAN) == (
        "Half of the attempts of the last 24 hours ended within 71 ms, 95% within 312 ms, 99% within 804 ms; slowest "
        "at 14:30."
    )
    assert figures.failures_sentence(found, SPAN) == (
        "Failed attempts per 15 minutes over the last 24 hours: 300 timeout, 10 5xx."
    )
    assert figures.backlog_sentence([BacklogPoint(at=at[0], due=1_200)], SPAN) == (
        "Deliveries that were due and waited, the most of each 15 minutes over the last 24 hours: at most 1,200, at "
        f"{at[0]:%H:%M} on 25 Nov."
    )


def test_every_group_of_failures_can_be_drawn() -> None:
    """Each has a name and a colour of its own in the stack."""
    found = series(SeriesPoint(at=NOW, failed=11, failures=dict.fromkeys(GROUPS, 1)))
    figure = figures.failures_figure(found, SPAN)
    assert figure.count('class="bar f') >= len(GROUPS)


def test_every_class_of_error_has_words() -> None:
    """A new class cannot break the page."""
    assert set(attention._SHORTLY) == set(ErrorClass)


def test_no_worker_is_an_alarm() -> None:
    """It says since when, and what to do."""
    assert nobody_works(Signs(workers=1, beat_at=NOW, counted_until=NOW), NOW) is None
    silent = Signs(workers=0, beat_at=NOW - timedelta(seconds=90), counted_until=NOW)
    assert nobody_works(silent, NOW) == (
        "No worker has given a sign of life for 1 min 30 s: events are accepted and wait, and nothing is sent. Start one "
        "with: bellwire worker"
    )
    assert "ever" in (nobody_works(Signs(workers=0, beat_at=None, counted_until=None), NOW) or "")


def test_signs_of_life_have_their_colours() -> None:
    """Late upkeep and dead workers are red, a broker that is away is a warning: nothing is lost."""
    away = Check(State.DEGRADED, "The broker cannot be reached.")
    dead = Signs(workers=0, beat_at=None, counted_until=NOW - timedelta(minutes=4))
    tones = {sign.name: sign.tone for sign in signs_of(dead, away, database_ms=500, now=NOW)}
    assert tones == {"Workers": "bad", "Broker": "warn", "Database": "warn", "Scheduler": "bad"}
    well = Signs(workers=2, beat_at=NOW, counted_until=NOW - timedelta(seconds=70))
    found = signs_of(well, Check(State.OK, "The broker answers."), database_ms=4, now=NOW)
    assert {sign.tone for sign in found} == {"ok"}


def test_first_steps_go_when_they_are_done() -> None:
    """Not at once: who has just sent the first event sees it ticked off."""
    firsts = {
        "endpoint_url": None, "endpoint_id": None, "event_id": None, "delivery_id": None, "last_event_at": NOW,
    }  # fmt: skip
    fresh = Firsts(**firsts, event_at=NOW - timedelta(minutes=1), last_success_at=NOW)
    long_ago = Firsts(**firsts, event_at=NOW - timedelta(hours=1), last_success_at=NOW)
    undelivered = Firsts(**firsts, event_at=NOW - timedelta(hours=1), last_success_at=None)
    shown = [
        first_steps.first_steps_of(each, None, base_url="http://x", now=NOW)  # type: ignore[arg-type]
        for each in (fresh, long_ago, undelivered)
    ]
    assert [each is not None for each in shown] == [True, False, True]


def test_the_command_of_the_first_steps_can_be_pasted() -> None:
    """With the real address, whatever is in it, and a place for the key."""
    command = first_steps.curl("https://hooks.example.com/a b")
    assert command.startswith("curl 'https://hooks.example.com/a b/v1/events' \\\n")
    assert "Bearer YOUR_API_KEY" in command


def test_no_secret_is_among_the_settings() -> None:
    """What is a secret says whether it is set; each of the others says its value and where it comes from."""
    given = Settings.model_construct(
        database_url=SecretStr("postgresql://planted-secret@x/y"),
        encryption_keys=(SecretStr("planted-secret"),),
        oidc_client_secret=SecretStr("planted-secret"),
        port=9_999,
        retention_days=60,
    )
    shown = {each.name: each for each in settings_shown(given, {"BELLWIRE_RETENTION_DAYS": "60"})}
    assert "planted-secret" not in str(shown)
    assert shown["BELLWIRE_DATABASE_URL"].value == "set"
    assert shown["BELLWIRE_INSTANCE_KEY"].value == "not set"
    assert (shown["BELLWIRE_RETENTION_DAYS"].value, shown["BELLWIRE_RETENTION_DAYS"].source) == (
        "60",
        "environment",
    )
    assert shown["BELLWIRE_PORT"].source == "data folder"
    assert shown["BELLWIRE_HOST"].source == "default"


def test_a_diff_has_what_differs() -> None:
    """Fields that stayed are left out, those that came or went are there, and a new object's empty ones are not."""
    assert changes_of({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": [1]}) == (
        Change("b", "2", "3"),
        Change("c", "null", None),
        Change("d", None, "[1]"),
    )
    assert changes_of(None, {"name": "x", "filter": None, "headers": []}) == (Change("name", None, "x"),)
    assert changes_of(None, None) == ()
