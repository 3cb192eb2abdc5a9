"""The table of egress vectors at save: through the API, with no name looked up."""

from __future__ import annotations

import socket
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from app.core.egress import parse_literal
from app.core.settings import Settings
from tests.egress.vectors import VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from tests.egress.vectors import Vector
    from tests.integration.api.conftest import MakeApp

KINDS = [
    (dict(settings), list(vectors))
    for settings, vectors in groupby(VECTORS, key=lambda vector: tuple(vector.settings.items()))
]


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The names that were looked up; what gives an address, as we do for database and broker, asks nobody."""
    asked: list[Any] = []

    def recording(host: Any, *rest: Any, **options: Any) -> Any:
        if parse_literal(host) is None:
            asked.append(host)
        return look_up(host, *rest, **options)

    look_up = socket.getaddrinfo

    monkeypatch.setattr(socket, "getaddrinfo", recording)
    return asked


@pytest.mark.parametrize(("changes", "vectors"), KINDS, ids=range(len(KINDS)))
async def test_every_vector_meets_its_verdict_at_save(
    make_app: MakeApp,
    open_client: Callable[..., Any],
    admin: dict[str, str],
    look_ups: list[Any],
    changes: dict[str, str],
    vectors: list[Vector],
) -> None:
    """What is refused by its form gets a 422 at `/url`, in POST and PATCH; what only DNS can tell is taken."""
    app = await make_app(**_typed(changes))
    wrong = []
    async with open_client(app) as client:
        made = await client.post("/v1/endpoints", json={"url": "https://8.8.8.8/"}, headers=admin)
        assert made.status_code == 201, made.text
        look_ups.clear()
        for vector in vectors:
            saved = await client.post("/v1/endpoints", json={"url": vector.target}, headers=admin)
            changed = await client.patch(
                f"/v1/endpoints/{made.json()['id']}", json={"url": vector.target}, headers=admin
            )
            verdicts = (_verdict(saved, taken=201), _verdict(changed, taken=200))
            expected = "refused" if vector.refused == "save" else "taken"
            if verdicts != (expected, expected):
                wrong.append((vector.target, vector.why, verdicts, saved.text))

    assert wrong == []
    assert look_ups == []


def test_the_table_is_large_enough_to_mean_something() -> None:
    """At least eighty targets that are refused, and enough beside them that are not."""
    refused = [vector for vector in VECTORS if vector.refused != "never"]

    assert len(refused) >= 80
    assert len(VECTORS) - len(refused) >= 15
    assert all(vector.why for vector in VECTORS)


def _verdict(answer: httpx2.Response, *, taken: int) -> str:
    if answer.status_code == taken:
        return "taken"
    if answer.status_code == 422 and [error["pointer"] for error in answer.json()["errors"]] == ["/url"]:
        return "refused"
    return f"{answer.status_code}"


def _typed(changes: dict[str, str]) -> dict[str, Any]:
    """Return the settings as `Settings` reads them from the environment: `make_app` does not validate."""
    read = Settings(**changes)
    return {name: getattr(read, name) for name in changes}
