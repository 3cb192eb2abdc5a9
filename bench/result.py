"""What a scenario found, as data: for the table, the JSON file, the plots, the page and comparisons."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.measure import Latency, Tally

Kind = Literal["http", "commit", "rows", "hmac", "python"]

_TARGET = re.compile(r"(?P<sign>[≥≤]) (?P<limit>[0-9.,]+)")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its unit and, where there are such, its target and the ceiling that bounds it."""

    name: str
    value: float
    unit: str
    target: str = ""
    ceiling: Kind | None = None
    # Part of the ceiling, measured in the same run: what can be compared between machines.
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the machine does without Bellwire, before or after the measurement."""

    kind: Kind
    name: str
    value: float
    unit: str
    when: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line over time, to be plotted: [seconds, value]."""

    plot: Literal["throughput", "memory"]
    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Noise:
    """How quiet the machine was, in CPU cores over the measurement, and its load before and after it."""

    stolen_cores: float
    # Used by processes that are not of the benchmark.
    foreign_cores: float
    load_before: float
    load_after: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found."""

    scenario: str
    figures: list[Figure]
    ceilings: list[Ceiling]
    tally: Tally
    attempts_logged: int
    cpu_seconds_per_1000: dict[str, float]
    busy_cores: dict[str, float]
    memory_mb: dict[str, float]
    noise: Noise
    latencies: dict[str, Latency] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Tell whether everything arrived once, signed, and is on record, and nothing else arrived."""
        return self.tally.clean and self.attempts_logged >= self.tally.accepted

    def as_json(self) -> dict[str, Any]:
        """Return it for the file; histograms are encoded, so that runs can be merged (`Latency.decode`)."""
        document = {
            name: asdict(self)[name]
            for name in ("scenario", "figures", "ceilings", "tally", "noise", "series")
        }
        return document | {
            "attempts_logged": self.attempts_logged,
            "cpu_seconds_per_1000": self.cpu_seconds_per_1000,
            "busy_cores": self.busy_cores,
            "memory_mb": self.memory_mb,
            "histograms": {name: latency.encode() for name, latency in self.latencies.items()},
            "notes": self.notes,
        }


def with_shares(figures: Iterable[Figure], ceilings: list[Ceiling]) -> list[Figure]:
    """Return the figures, each with its share of its ceiling: the mean of before and after."""
    return [_with_share(figure, ceilings) for figure in figures]


def mean_ceiling(ceilings: Iterable[Ceiling], kind: str) -> float | None:
    """Return the mean of a ceiling's measurements, or None if it was not measured."""
    values = [ceiling.value for ceiling in ceilings if ceiling.kind == kind]
    return sum(values) / len(values) if values else None


def meets(value: float, target: str) -> bool | None:
    """Tell whether a value meets its target (`≥ 1,500`), or None where there is none."""
    found = _TARGET.fullmatch(target)
    if found is None:
        return None
    limit = float(found["limit"].replace(",", ""))
    return value >= limit if found["sign"] == "≥" else value <= limit


def _with_share(figure: Figure, ceilings: list[Ceiling]) -> Figure:
    if figure.ceiling is None:
        return figure
    top = mean_ceiling(ceilings, figure.ceiling)
    return Figure(**(asdict(figure) | {"share": figure.value / top if top else None}))
