"""The settings of the embedded Postgres, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    # Nothing that was acknowledged may be lost (promise 1). With synchronous_commit off, a killed server
    # lost 643 to 2,782 acknowledged rows; with it on, none.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # API pools, one pool per worker process, migrations, and a person with psql, with room to spare.
    "max_connections": "120",
    # The live queue, its indexes and the newest partitions stay in memory; small enough for a laptop.
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",  # What the planner may expect of the system's page cache.
    "work_mem": "8MB",  # Claims and lists sort some hundred rows; 120 x 8 MB still fits a laptop.
    "maintenance_work_mem": "128MB",
    # Every statement is a short look-up or a small batch. Compiling one costs more than it saves, and
    # parallel workers would fight with the API and the workers for the same few cores.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # Nobody replicates from it: no replication records in the log, no sender slots.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # After each checkpoint the first change of a page logs the whole page. Checkpoints 15 minutes or 2 GB
    # apart keep that share small, and recovery a matter of seconds. Compressed, the log of pgbench's updates
    # had a quarter of the size at 10 to 25 % more transactions a second.
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    # The queue tables turn over all their rows in seconds: look for work often, and finish it fast.
    "autovacuum_naptime": "5s",
    "autovacuum_vacuum_cost_limit": "2000",
    "random_page_cost": "1.1",  # SSDs: a random read costs about what a sequential one does.
    # One time zone everywhere; times are shown in the reader's own by whoever shows them.
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log is for finding out why something is slow or failed. Parameters, which hold customers' data
    # and secrets, stay out of it.
    "log_min_duration_statement": "1s",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_lock_waits": "on",
    "log_line_prefix": "%m [%p] ",
}
