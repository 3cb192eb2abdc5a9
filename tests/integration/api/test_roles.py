"""Who may call what: every route of the API against the one written table, `docs/reference/roles.txt`.

The table is the policy, written by hand; guards in the code could be wrong in the same way as a table made of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import pytest
from sqlalchemy import text

from app.access.schemas import RoleName
from tests.integration.api.conftest import INSTANCE_KEY
from tests.integration.api.walls.operations import operations_of
from tests.integration.api.walls.policy import POLICY_FILE, read_policy
from tests.integration.api.walls.sides import ghost_of, make_side

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.conftest import Report
    from tests.integration.api.conftest import MakeKey
    from tests.integration.api.walls.operations import Operation
    from tests.integration.api.walls.sides import Side

POLICY = read_policy()
# The roles that API keys have.
ROLES = get_args(RoleName)
ADD = f"write its row in {POLICY_FILE} and run `make docs`"


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who calls: the key, and the column of the table that says what it may do (None: nothing)."""

    name: str
    key: str | None
    role: str | None = None
    bound: bool = False


@pytest.fixture
async def parties(
    app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str], make_key: MakeKey
) -> list[Party]:
    """One party of every sort."""
    own = (await client.post("/v1/applications", json={"name": "Own", "uid": "own"}, headers=admin)).json()[
        "id"
    ]
    made = [Party(role, await make_key(role), role) for role in ROLES]
    made += [
        Party(f"{role}, bound", await make_key(role, application=own), role, bound=True) for role in ROLES
    ]
    ended = {name: await make_key("admin", name=name) for name in ("revoked", "expired")}
    async with app.state.runtime.sessions.begin() as session:
        for name, column in (("revoked", "revoked_at"), ("expired", "expires_at")):
            await session.execute(
                text(f"UPDATE api_keys SET {column} = now() - interval '1 s' WHERE name = :name"),  # noqa: S608 - two words of this file
                {"name": name},
            )
    known = made[0].key or ""
    return [
        *made,
        Party("instance key", INSTANCE_KEY, "instance"),
        Party("no key", None),
        Party("an unknown key", known[:-1] + ("0" if known[-1] != "0" else "1")),
        *(Party(f"{name} key", key) for name, key in ended.items()),
    ]


def test_every_route_has_its_row(app: FastAPI):
    """A route that is added has to be given its row, and a row goes with its route."""
    routes = {str(operation) for operation in operations_of(app)}
    assert routes - set(POLICY) == set(), f"a route without a row: {ADD}"
    assert set(POLICY) - routes == set(), f"a row without a route: take it out of {POLICY_FILE}"


def test_every_role_has_its_column():
    """A role that is added has to be decided about for every route."""
    assert {*ROLES, "bound", "instance"} <= set(next(iter(POLICY.values()))), f"columns of {POLICY_FILE}"


def test_the_description_says_what_the_table_says(app: FastAPI):
    """`x-roles` and `security` of the OpenAPI document are the policy, too: clients read them."""
    for operation in operations_of(app):
        row = POLICY[str(operation)]
        described = operation.roles.intersection(ROLES)
        assert described == {role for role in ROLES if row[role] == "yes"}, f"{operation}: {ADD}"
        needs = {"all": None, "yes": "instanceKey"}.get(row["instance"], "apiKey")
        assert operation.needs == needs, f"{operation}: {ADD}"


async def test_every_party_may_do_what_the_table_says_and_nothing_else(
    app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str], parties: list[Party], report: Report
):
    """Every route by every party: 401 and 403 exactly where they are written, whatever else is answered."""
    side = await make_side(app, client, mark="theirs", owner=admin)
    misfits, statuses = [], Counter[int]()
    operations = operations_of(app)
    for operation in operations:
        for party in parties:
            status = await _ask(app, client, operation, side, key=party.key)
            statuses[status] += 1
            refused = status if status in {401, 403} else None
            expected = _refusal(POLICY[str(operation)], party)
            if refused != expected or status >= 500:
                misfits.append(f"{operation} by {party.name}: {status}, not {expected or 'an answer'}")
    assert misfits == []
    counts = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    report(f"roles: {len(operations)} routes × {len(parties)} parties ({counts})")


def _refusal(row: dict[str, str], party: Party) -> int | None:
    """Return the status that the table means for a party, or None where it is let in."""
    if row["instance"] == "all":
        return None
    if party.role is None:
        return 401
    if party.role == "instance":
        return None if row["instance"] == "yes" else 401
    if row[party.role] == "yes" and not (party.bound and row["bound"] == "-"):
        return None
    return 403


async def _ask(
    app: FastAPI, client: httpx2.AsyncClient, operation: Operation, side: Side, *, key: str | None
) -> int:
    """Call an operation with ids of nothing, so that nothing that others need is changed or deleted."""
    path = operation.path
    for place in operation.places_in("path"):
        path = path.replace("{" + place.name + "}", await ghost_of(app, place.kind, side.names[place.kind]))
    answer = await client.request(
        operation.method,
        path,
        headers={"Authorization": f"Bearer {key}"} if key is not None else {},
        **({"json": operation.body} if operation.body is not None else {}),
    )
    if answer.status_code == 401:
        # RFC 9110: whoever is refused is told how to ask.
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="bellwire"'
    return answer.status_code
