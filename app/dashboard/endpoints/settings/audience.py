"""Whom a choice of event types lets through: of the types that there are, and of what was published. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.endpoints.filters import Filter, FilterError
from app.endpoints.patterns import compile_patterns, pattern_fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.dashboard.endpoints.settings.queries import Published, Sample

# A form has a hundred fields at most; what has no box is typed.
MOST_BOXES = 60
_FEWEST_OF_A_GROUP = 2


@dataclass(frozen=True, slots=True)
class Box:
    """One pattern to pick: of a single type, or of a group of them. `count` is of the events that were counted."""

    pattern: str
    picked: bool
    count: int
    types: int
    declared: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """Types with the same first segment; `group` is the box for all of them."""

    name: str
    group: Box | None
    boxes: list[Box]


@dataclass(frozen=True, slots=True)
class Audience:
    """How many types and events a choice matches, and the boxes to choose with."""

    types: int
    matched_types: int
    events: int
    matched_events: int
    capped: bool
    branches: list[Branch]
    # Patterns that have no box, and types that have none because there are too many.
    typed: list[str]
    unboxed: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What would have become of a past event: matches, or why not; `tone` as of states."""

    id: str
    type: str
    created_at: datetime
    tone: str
    verdict: str


def audience_of(patterns: Sequence[str], published: Published) -> Audience:
    """Return what a choice of patterns matches. A pattern that is none matches nothing."""
    sound = [pattern for pattern in patterns if pattern_fault(pattern) is None]
    matcher = compile_patterns(sound)
    declared = frozenset(published.catalogue)
    names = sorted(declared | published.seen.keys())
    matched = [name for name in names if matcher.matches(name)]
    branches = _branches(names, frozenset(patterns), declared, published.seen)
    boxed = {box.pattern for branch in branches for box in branch.boxes} | {
        branch.group.pattern for branch in branches if branch.group
    }
    return Audience(
        types=len(names),
        matched_types=len(matched),
        events=sum(published.seen.values()),
        matched_events=sum(published.seen.get(name, 0) for name in matched),
        capped=published.capped,
        branches=branches,
        typed=[pattern for pattern in patterns if pattern not in boxed],
        unboxed=len(names) - sum(len(branch.boxes) for branch in branches),
    )


def try_on(
    samples: Sequence[Sample], *, patterns: Sequence[str], content_filter: Filter | None
) -> list[Tried]:
    """Return what a choice would have made of past events. Filters take time: call it off the event loop."""
    matcher = compile_patterns(pattern for pattern in patterns if pattern_fault(pattern) is None)
    return [
        Tried(
            sample.id,
            sample.type,
            sample.created_at,
            *_verdict(sample, matcher.matches(sample.type), content_filter),
        )
        for sample in samples
    ]


def _verdict(sample: Sample, wanted: bool, content_filter: Filter | None) -> tuple[str, str]:  # noqa: FBT001 - private
    if not wanted:
        return "", "not sent: its type is not chosen"
    if content_filter is None:
        return "ok", "matches"
    if sample.data is None:
        return "", "cannot be tried: " + (
            "its payload was erased" if sample.erased else "its payload is too large"
        )
    try:
        passes = content_filter.matches(
            sample.type, json.loads(sample.data, parse_int=_integer), sample.metadata
        )
    except FilterError as error:
        return "bad", f"no match: {error}"
    except RecursionError:
        return "bad", "no match: its payload is nested too deeply"
    return ("ok", "matches") if passes else ("", "not sent: the filter is false")


def _integer(digits: str) -> int | float:
    """Return a number as filters get it: Python reads no integer of thousands of digits."""
    return int(digits) if len(digits) < 4_300 else float("inf")  # noqa: PLR2004 - Python's own limit


def _branches(
    names: Sequence[str], picked: frozenset[str], declared: frozenset[str], seen: dict[str, int]
) -> list[Branch]:
    by_head: dict[str, list[str]] = {}
    for name in names:
        by_head.setdefault(name.partition(".")[0], []).append(name)
    branches: list[Branch] = []
    left = MOST_BOXES
    for head, members in by_head.items():
        below = [name for name in members if name != head]
        group = None
        if left > 0 and len(below) >= _FEWEST_OF_A_GROUP:
            left -= 1
            group = Box(
                pattern=f"{head}.*",
                picked=f"{head}.*" in picked,
                count=sum(seen.get(name, 0) for name in below),
                types=len(below),
                declared=True,
            )
        boxes = [
            Box(
                pattern=name,
                picked=name in picked,
                count=seen.get(name, 0),
                types=1,
                declared=name in declared,
            )
            for name in members[:left]
        ]
        left -= len(boxes)
        if group or boxes:
            branches.append(Branch(name=head, group=group, boxes=boxes))
    return branches
