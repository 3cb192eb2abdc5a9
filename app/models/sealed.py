"""The sealed columns of all tables, found in the models themselves: a new one cannot be forgotten.

A column that holds sealed values is named `sealed_...`. Its values are bound to the row's `id` and the column's name;
a column that is bound to something else says so in its `info`, as `SEALED_AS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy import Column, MetaData, Table

PREFIX = "sealed_"
# The key of a column's `info` under which its `Binding` stands.
SEALED_AS = "sealed_as"

RowKey = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a sealed value is bound to: the name that stands for the column, and the identity of a row by its key."""

    column: str
    row: Callable[[RowKey], UUID]
    # False where upkeep deletes the rows within a day: nothing that is kept depends on them.
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """One column of sealed values, with all that is needed to open a row's value and seal it again."""

    table: Table
    column: Column[bytes]
    binding: Binding

    @property
    def name(self) -> str:
        """Table and column, for people."""
        return f"{self.table.name}.{self.column.name}"

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The columns of the table's primary key, in order."""
        return tuple(self.table.primary_key.columns)


def sealed_columns(metadata: MetaData) -> tuple[SealedColumn, ...]:
    """Return the sealed columns of these tables, in the order of tables and columns."""
    return tuple(
        SealedColumn(table=table, column=column, binding=_binding_of(column))
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.startswith(PREFIX)
    )


def _binding_of(column: Column[Any]) -> Binding:
    declared: Binding | None = column.info.get(SEALED_AS)
    return declared or Binding(column=column.name, row=_id_of)


def _id_of(key: RowKey) -> UUID:
    found: UUID = key["id"]
    return found
