"""Sealed values at rest: which keys they need, and sealing them anew with the newest key.

Works while API and workers run: a value stays readable with the whole ring at every moment, what it holds does not
change, and no row that somebody else holds is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, select, tuple_, update

from app.access.audit import NEW_ID
from app.access.people_rules import COMMAND_LINE
from app.core import ids
from app.core.crypto import SEALED_HEAD_BYTES, CannotDecrypt, key_name_of
from app.models import AuditEntry, Base, Workspace
from app.models.sealed import sealed_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Row, Select

    from app.core.crypto import Keyring
    from app.models.sealed import SealedColumn

# Rows whose heads are read by one statement; of these, so many are locked and written by one transaction.
READ_ROWS = 2_000
WRITE_ROWS = 200
# Rows that somebody else held in one pass are met again in the next one.
MAX_PASSES = 5
# Rows that cannot be opened are named, up to so many of a column; the rest is only counted.
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How many values need one key. `place` counts from the newest, 1; None: the key is not in the ring."""

    name: str
    place: int | None
    values: int
    by_column: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Reencrypted:
    """What became of one column's values that were not sealed with the newest key."""

    column: str
    resealed: int = 0
    # Its key is not in the ring, or the row was altered.
    unreadable: int = 0
    # Held by others in every pass.
    busy: int = 0
    # Why the first few cannot be opened: sentences that name the row.
    faults: list[str] = field(default_factory=list)


def all_columns() -> tuple[SealedColumn, ...]:
    """Return every sealed column of Bellwire's tables."""
    return sealed_columns(Base.metadata)


def _head(sealed: SealedColumn) -> ColumnElement[bytes]:
    return func.substring(sealed.column, 1, SEALED_HEAD_BYTES)


def _counted(sealed: SealedColumn) -> Select[bytes, int]:
    head = _head(sealed)
    return select(head, func.count()).where(sealed.column.is_not(None)).group_by(head)


# By the name of a column: how many of its values need each key, in all workspaces. Keys are the instance's.
COUNTS = {sealed.name: _counted(sealed) for sealed in all_columns()}


def uses_of_keys(
    connection: Connection, keyring: Keyring, *, columns: Iterable[SealedColumn] | None = None
) -> list[KeyUse]:
    """Return how many values need each key: those of the ring, newest first, then those that are not in it."""
    found: dict[str, dict[str, int]] = {name: {} for name in keyring.names}
    for sealed in columns if columns is not None else all_columns():
        for value, count in connection.execute(COUNTS[sealed.name]):
            known = keyring.has_key_of(bytes(value))
            name = key_name_of(bytes(value)) if known else f"unknown {bytes(value).hex()}"
            found.setdefault(name, {})[sealed.name] = count
    return [
        KeyUse(
            name=name,
            place=keyring.names.index(name) + 1 if name in keyring.names else None,
            values=sum(by_column.values()),
            by_column=by_column,
        )
        for name, by_column in found.items()
    ]


@dataclass(slots=True)
class _Run:
    """One run of `reencrypt`: with what, by whom, and whether it is on record yet."""

    connection: Connection
    keyring: Keyring
    actor: str
    on_record: bool = False

    def record(self) -> None:
        """Note in the log of every workspace that its secrets are sealed anew, in the first transaction that does it.

        Keys are the instance's, so nothing is said of how much of it is whose.
        """
        if self.on_record:
            return
        entry = {
            "id": NEW_ID,
            "actor_kind": COMMAND_LINE,
            "actor_id": self.actor,
            "action": "secrets.reencrypted",
            "object_kind": "workspace",
            "after": {"encryption_key": self.keyring.names[0]},
        }
        workspaces = self.connection.execute(select(Workspace.id)).scalars().all()
        if workspaces:
            self.connection.execute(
                insert(AuditEntry).values(entry),
                [
                    {"workspace_id": found, "object_id": ids.to_text(ids.WORKSPACE, found)}
                    for found in workspaces
                ],
            )
        self.on_record = True


def reencrypt(
    connection: Connection,
    keyring: Keyring,
    *,
    actor: str,
    write_rows: int = WRITE_ROWS,
    progress: Callable[[Reencrypted], None] | None = None,
) -> list[Reencrypted]:
    """Seal with the newest key what is not, in short transactions; return what was done, by column.

    Safe to stop at any moment and to run again: what is done is done, and only the rest is looked for. A run that
    seals anything is in the audit logs as the doing of `actor`. `progress` is called after each transaction that wrote.
    """
    run = _Run(connection, keyring, actor)
    return [
        _reencrypt_column(run, sealed, write_rows=write_rows, progress=progress) for sealed in all_columns()
    ]


def _reencrypt_column(
    run: _Run,
    sealed: SealedColumn,
    *,
    write_rows: int,
    progress: Callable[[Reencrypted], None] | None,
) -> Reencrypted:
    done = Reencrypted(column=sealed.name)
    for _ in range(MAX_PASSES):
        done.unreadable = done.busy = 0
        done.faults.clear()
        last: Row[Any] | None = None
        while rows := _next_heads(run.connection, sealed, after=last):
            last = rows[-1]
            stale: list[tuple[Any, ...]] = [
                tuple(row[:-1]) for row in rows if not run.keyring.is_newest(bytes(row[-1]))
            ]
            for start in range(0, len(stale), write_rows):
                _reseal(run, sealed, stale[start : start + write_rows], done=done)
                if progress is not None:
                    progress(done)
        if not done.busy:
            break
    return done


def _next_heads(
    connection: Connection, sealed: SealedColumn, *, after: Row[Any] | None
) -> Sequence[Row[Any]]:
    query = select(*sealed.key, _head(sealed)).where(sealed.column.is_not(None))
    if after is not None:
        query = query.where(tuple_(*sealed.key) > tuple_(*after[:-1]))
    with connection.begin():
        return list(connection.execute(query.order_by(*sealed.key).limit(READ_ROWS)))


def _reseal(
    run: _Run,
    sealed: SealedColumn,
    keys: list[tuple[Any, ...]],
    *,
    done: Reencrypted,
) -> None:
    locked = (
        select(*sealed.key, sealed.column)
        .where(tuple_(*sealed.key).in_(keys))
        # Whoever holds a row may hold others that we want: we never wait, so we are in nobody's way for long.
        .with_for_update(skip_locked=True, key_share=True)
    )
    write = (
        update(sealed.table)
        .where(*(column == bindparam(f"key_{column.name}") for column in sealed.key))
        .values({sealed.column: bindparam("fresh")})
    )
    with run.connection.begin():
        rows = run.connection.execute(locked).all()
        done.busy += len(keys) - len(rows)
        fresh = []
        for row in rows:
            key = dict(zip((column.name for column in sealed.key), row[:-1], strict=True))
            value = _reopened(run.keyring, sealed, key, row[-1], done=done)
            if value is not None:
                fresh.append({f"key_{name}": part for name, part in key.items()} | {"fresh": value})
        if fresh:
            run.connection.execute(write, fresh)
            run.record()
            done.resealed += len(fresh)


def _reopened(
    keyring: Keyring, sealed: SealedColumn, key: dict[str, Any], value: bytes | None, *, done: Reencrypted
) -> bytes | None:
    """Return the value sealed with the newest key; None where that is not needed any more, or not possible."""
    if value is None or keyring.is_newest(bytes(value)):
        return None
    row = sealed.binding.row(key)
    try:
        plain = keyring.open(bytes(value), row=row, column=sealed.binding.column)
    except CannotDecrypt as error:
        done.unreadable += 1
        if len(done.faults) < MOST_NAMED:
            done.faults.append(str(error))
        return None
    return keyring.seal(plain, row=row, column=sealed.binding.column)
