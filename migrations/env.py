"""Alembic's environment: one migrator at a time, and never a long wait for a lock.

The address comes from the caller (`app.core.migrate`), or from `alembic -x url=...`, or from the settings.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from app.core.migrate import include_name
from app.core.settings import load_settings
from app.models import Base

# A migration that waits for a lock stops everybody who comes after it; it gives up and is tried again.
LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "10min"
# One migrator at a time: the number is arbitrary, but all of Bellwire's advisory locks are listed in docs.
ADVISORY_LOCK = 0x62656C6C_0001


def _configure_and_run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _configure_and_run(given)
        return
    url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    engine = create_engine(url or load_settings().sqlalchemy_url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": ADVISORY_LOCK})
        connection.commit()
        try:
            _configure_and_run(connection)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": ADVISORY_LOCK})
            connection.commit()
    engine.dispose()


def _print_sql() -> None:
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _print_sql()
else:
    _run()
