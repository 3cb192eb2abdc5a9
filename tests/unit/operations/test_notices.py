"""How notices are shown, and the catalogue of what is published."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from app.core import ids
from app.endpoints.patterns import event_type_fault
from app.operations import notices
from app.operations.catalogue import CATALOGUE
from app.operations.notices import shown

SOME = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("application", "app"), ("delivery", "dlv"), ("endpoint", "ep"), ("event", "evt")],
)
def test_ids_have_the_api_s_form(name: str, prefix: str) -> None:
    """What SQL noted as a UUID has its prefix and text, with or without `_id` in its name."""
    expected = {name: ids.to_text(prefix, SOME)}

    assert shown({name: str(SOME)}) == expected
    assert shown({f"{name}_id": str(SOME)}) == expected
    assert shown({name: expected[name]}) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"event": {"id": str(SOME), "type": "a.b"}},
            {"event": {"id": ids.to_text("evt", SOME), "type": "a.b"}},
        ),
        ({"disable_at": "2026-01-31T12:00:00+00:00"}, {"disable_at": "2026-01-31T12:00:00.000000Z"}),
        ({"failing_since": "2026-01-31T13:00:00.5+01:00"}, {"failing_since": "2026-01-31T12:00:00.500000Z"}),
        # A naive time is nobody's; what is no id stays.
        ({"disable_at": "2026-01-31T12:00:00"}, {"disable_at": "2026-01-31T12:00:00"}),
        ({"endpoint": None, "application": 7, "reason": str(SOME)},) * 2,
        ({"application_uid": str(SOME)},) * 2,
        ({},) * 2,
    ],
)
def test_other_members_are_shown_as_they_are(data: dict[str, Any], expected: dict[str, Any]) -> None:
    """Times are in UTC with a Z; nothing else is changed, and nothing is refused."""
    assert shown(data) == expected


def test_the_catalogue_has_every_type_once() -> None:
    """What the code can note is what is documented."""
    types = [told.type for told in CATALOGUE]
    named = {value for name, value in vars(notices).items() if name.isupper() and isinstance(value, str)}

    assert len(types) == len(set(types))
    assert set(types) == {value for value in named if "." in value and " " not in value}


@pytest.mark.parametrize("told", CATALOGUE, ids=lambda told: told.type)
def test_examples_show_every_member(told: Any) -> None:
    """The example of each type has the members that are explained, and the type is a legal name."""
    assert told.example.keys() == told.members.keys()
    assert event_type_fault(told.type) is None
