"""From what was measured to files: targets, shares, JSON, comparisons and the page."""

from __future__ import annotations

import orjson
import pytest

from bench.against import compare
from bench.measure import Latency
from bench.page import page
from bench.report import FILE, load, number, save
from bench.result import meets
from tests.unit.bench.making import make_result


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (1_499.9, "≥ 1,500", False),
        (1_500.0, "≥ 1,500", True),
        (0.21, "≤ 0.2", False),
        (0.2, "≤ 0.2", True),
        (1.0, "", None),
    ],
)
def test_targets_are_met_at_their_limit(value, target, met):
    """A value on the limit meets it; without a target there is nothing to meet."""
    assert meets(value, target) is met


def test_a_lost_event_or_a_missing_attempt_is_not_clean():
    """A result is clean only if all arrived and is on record."""
    assert make_result().clean
    assert not make_result(lost=1).clean
    assert not make_result(logged=9).clean


def test_share_is_of_the_mean_of_a_ceiling():
    """A throughput is told as its part of its ceiling, measured before and after."""
    first, second, third = make_result(rate=4_000.0, http=40_000.0).figures
    assert first.share == pytest.approx(0.1)
    assert second.share is third.share is None


def test_a_file_holds_the_scenarios_of_several_runs(tmp_path):
    """A scenario measured again is replaced, the others of the folder stay."""
    machine = {"cores": 2}
    save([make_result("drain", rate=1.0), make_result("idle")], machine=machine, folder=tmp_path)
    file = save([make_result("drain", rate=2.0)], machine=machine, folder=tmp_path)
    found = {result["scenario"]: result["figures"][0]["value"] for result in load(file)}
    assert found == {"drain": 2.0, "idle": 4_000.0}
    assert file.name == FILE
    assert {path.name for path in tmp_path.glob("idle-*")} == {
        *("idle-latency.svg", "idle-throughput.svg", "idle-cpu.svg")
    }


def test_histograms_survive_the_file(tmp_path):
    """What is read back has the same percentiles."""
    result = make_result()
    (read,) = load(save([result], machine={}, folder=tmp_path))
    ((name, encoded),) = read["histograms"].items()
    assert Latency.decode(encoded).ms(99) == result.latencies[name].ms(99)


def test_a_slower_machine_is_allowed_for():
    """Half the throughput and twice the latency on a machine of half the speed are no change."""
    old = [make_result(rate=4_000.0, p99_ms=20.0, http=40_000.0, python=2e7).as_json()]
    new = [make_result(rate=2_000.0, p99_ms=40.0, http=20_000.0, python=1e7).as_json()]
    rate, latency, waiting = compare(old, new)
    assert (rate.ratio, rate.normalised) == (pytest.approx(0.5), pytest.approx(1.0))
    assert (latency.ratio, latency.normalised) == (pytest.approx(2.0), pytest.approx(1.0))
    assert (waiting.ratio, waiting.normalised) == (pytest.approx(1.0), None)


def test_only_what_both_runs_have_is_compared():
    """A scenario or a figure that is new has nothing to be compared with."""
    old = make_result("drain")
    fewer = make_result("drain", figures=old.figures[:1])
    assert compare([old.as_json()], [make_result("idle").as_json()]) == []
    assert [row.name for row in compare([fewer.as_json()], [old.as_json()])] == ["delivered"]


def test_nothing_is_divided_by_nothing():
    """An old value of 0 has no ratio."""
    old, new = make_result(rate=0.0).as_json(), make_result().as_json()
    assert compare([old], [new])[0].ratio is None


def test_the_page_shows_ranges_and_merged_latencies():
    """Of two runs the first one's figures stand with the range of both, and the latencies of both together."""
    runs = [[orjson.loads(orjson.dumps(make_result(rate=rate).as_json()))] for rate in (4_000.0, 5_000.0)]
    text = page(runs)
    assert "| drain | delivered | 4,000 deliveries/s (4,000 to 5,000) | ≥ 4,000 | ✓ | 10 % (http) |" in text
    assert f"| drain | start of the call → receipt | {2 * 990:,} |" in text
    assert "- `drain`: 20 endpoints" in text


def test_every_row_of_the_page_has_the_cells_of_its_head():
    """The tables are well-formed markdown."""
    text = page([[orjson.loads(orjson.dumps(make_result(name).as_json())) for name in ("drain", "idle")]])
    for table in text.split("### ")[1:]:
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) == 1


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (0.123, "0.12"), (7.0, "7"), (99.5, "99.50"), (1234.5, "1,234")]
)
def test_numbers_are_shown_with_the_digits_they_are_worth(value, shown):
    """Hundreds have no decimals."""
    assert number(value) == shown
