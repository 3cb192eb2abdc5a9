"""Sealed columns are found in the models, so that a rotation of keys misses none."""

from __future__ import annotations

from uuid import UUID, uuid5

import pytest
from sqlalchemy import Column, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import UUID as PgUUID

from app.models import Base
from app.models.sealed import SEALED_AS, Binding, sealed_columns

# Columns of bytes that are stored as they are, and why. A new column of bytes is sealed, or stands here.
PLAIN = {
    "api_keys.digest": "a hash, from which no key can be made",
    "attempts.request_headers": "the values of own headers are masked before they are written",
    "attempts.response_body": "what a receiver answered; shown in the delivery log",
    "attempts.response_headers": "as above",
    "event_keys.content_hash": "a hash",
    "event_types.example": "shown in the catalogue",
    "events.data": "the payload: searched and delivered byte for byte; see SECURITY.md",
    "idempotency_keys.fingerprint": "a hash",
    "login_links.digest": "a hash, from which no link can be made",
    "sessions.digest": "a hash, from which no session can be made",
    "sign_in_buckets.key": "a hash of who tries",
}
SEALED = {column.name: column for column in sealed_columns(Base.metadata)}


def test_every_column_of_bytes_is_sealed_or_has_a_reason_not_to_be() -> None:
    """Nobody adds a secret in plain bytes, or a sealed column that the rotation does not know, unseen."""
    of_bytes = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }

    assert of_bytes == PLAIN.keys() | SEALED.keys()
    assert not PLAIN.keys() & SEALED.keys()


@pytest.mark.parametrize("name", SEALED)
def test_a_rotation_can_walk_and_rebind_each_sealed_column(name: str) -> None:
    """It is bytes, its table has a primary key to walk by, and the key says to which row a value is bound."""
    column = SEALED[name]
    key = {part.name: UUID(int=7) if isinstance(part.type, PgUUID) else "text" for part in column.key}

    assert isinstance(column.column.type, LargeBinary)
    assert column.key
    assert isinstance(column.binding.row(key), UUID)


def test_a_column_may_be_bound_to_something_else() -> None:
    """By default a value is bound to the row's id and the column's name; `info` says otherwise."""
    binding = Binding(column="t.sealed_b", row=lambda key: uuid5(key["id"], "x"))
    metadata = MetaData()
    Table(
        "t",
        metadata,
        Column("id", PgUUID(as_uuid=True), primary_key=True),
        Column("sealed_a", LargeBinary),
        Column("sealed_b", LargeBinary, info={SEALED_AS: binding}),
        Column("plain", Text),
    )

    usual, special = sealed_columns(metadata)

    row = UUID(int=9)
    assert (usual.name, usual.binding.column, usual.binding.row({"id": row})) == (
        "t.sealed_a",
        "sealed_a",
        row,
    )
    assert (special.binding, special.binding.row({"id": row})) == (binding, uuid5(row, "x"))
