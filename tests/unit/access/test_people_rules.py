"""Rules about people, without a database."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.people_rules import (
    leaves_no_owner,
    may_manage,
    needs_current_password,
    normalise_email,
    standing_of,
)
from app.core.context import Caller, Person
from app.core.roles import PersonRole, Role

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = UUID(int=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada@example.com", "ada@example.com"),
        (" Ada+Hooks@Example.COM ", "ada+hooks@example.com"),
        ("owner@bellwire.localhost", "owner@bellwire.localhost"),
        ("a@b", "a@b"),
        ("a@-b.com", None),
        ("a..b@c.com", None),
        ("a@b..com", None),
        ("a@b.com.", None),
        ("\u017fada@example.com", None),  # a long s, which folds to s
        ("ada@example.com\u212a", None),  # the Kelvin sign, which folds to k
        ("a\x00@b.com", None),
        ('"a b"@c.com', None),
    ],
)
def test_addresses(text: str, expected: str | None) -> None:
    """One form for each, in lower case; what is not plain ASCII is none."""
    assert normalise_email(text) == expected


@given(st.text())
def test_a_normal_address_is_normal(text: str) -> None:
    """Normalising twice changes nothing, and what comes out is ASCII."""
    found = normalise_email(text)

    assert found is None or (normalise_email(found) == found and found.isascii())


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ({"role": Role.ADMIN, "actor_kind": "api_key"}, PersonRole.ADMIN),
        ({"role": Role.PUBLISHER, "actor_kind": "api_key"}, None),
        ({"role": Role.VIEWER, "actor_kind": "api_key"}, PersonRole.VIEWER),
        ({"role": Role.ADMIN, "actor_kind": "api_key", "application_id": ONE}, None),
        ({"role": Role.ADMIN, "actor_kind": "command_line"}, PersonRole.OWNER),
        (
            {"role": Role.ADMIN, "actor_kind": "user", "person": Person(ONE, ONE, PersonRole.OWNER)},
            PersonRole.OWNER,
        ),
        (
            {"role": Role.ADMIN, "actor_kind": "user", "person": Person(ONE, ONE, PersonRole.ADMIN)},
            PersonRole.ADMIN,
        ),
    ],
)
def test_as_whom_somebody_manages_people(caller: dict[str, object], expected: PersonRole | None) -> None:
    """No key is an owner, and a key of one application is nobody."""
    assert standing_of(Caller(workspace_id=ONE, actor_id="x", **caller)) is expected  # type: ignore[arg-type]


def test_who_may_manage_whom() -> None:
    """Owners everybody; admins everybody but owners, neither as they are nor as they would be; others nobody."""
    pairs = list(itertools.product(PersonRole, repeat=2))
    for now, after in pairs:
        roles = {now, after}
        assert may_manage(PersonRole.OWNER, roles=roles)
        assert may_manage(PersonRole.ADMIN, roles=roles) is (PersonRole.OWNER not in roles)
        for standing in (PersonRole.OPERATOR, PersonRole.VIEWER, None):
            assert not may_manage(standing, roles=roles)


@pytest.mark.parametrize(
    ("now", "after", "others", "expected"),
    [
        (True, False, 0, True),
        (True, False, 1, False),
        (True, True, 0, False),
        (False, False, 0, False),
        (False, True, 0, False),
    ],
)
def test_one_owner_stays(*, now: bool, after: bool, others: int, expected: bool) -> None:
    """Only a change that takes the last one away is refused; a workspace that has none may stay so."""
    assert leaves_no_owner(is_owner_now=now, is_owner_after=after, other_owners=others) is expected


@pytest.mark.parametrize(
    ("method", "minutes", "expected"),
    [("link", 0, False), ("link", 30, False), ("link", 31, True), ("password", 0, True), ("oidc", 0, True)],
)
def test_when_the_present_password_is_asked_for(*, method: str, minutes: int, expected: bool) -> None:
    """Always, but in the half hour after a login link."""
    at = NOW - timedelta(minutes=minutes)
    assert needs_current_password(method=method, signed_in_at=at, now=NOW) is expected
