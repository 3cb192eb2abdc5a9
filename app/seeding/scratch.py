"""The SQL that plays the story: which events, deliveries and tries there were, in tables that are dropped afterwards.

Chance is a hash of the row's number and the seed, so that the same seed makes the same rows. A try is made while the one
before it failed; it fails if a fault of its receiver says so at its time.
"""

from __future__ import annotations

SCHEMA = "bellwire_seed"
# Of first attempts that fail, so many are cancelled a minute later; for those, nothing more is tried.
CANCELLED_SHARE = 0.06
# How much the traffic swings over the day; its height is in the early afternoon, UTC.
SWING = 0.6
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# 130 bits in steps of 5: the id's 128 with two zeros before them.
_TEXT_ID = " || ".join(
    f"substr('{_ALPHABET}', substring(b FROM {5 * n + 1} FOR 5)::int + 1, 1)" for n in range(26)
)

PREPARE = (
    f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
    f"CREATE SCHEMA {SCHEMA}",
    f"""
    CREATE FUNCTION {SCHEMA}.chance(n bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    'SELECT (hashint8extended(n, salt) & 2147483647) / 2147483648.0::float8'
    """,
    f"""
    CREATE FUNCTION {SCHEMA}.normal(n bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    'SELECT sqrt(-2 * ln((hashint8extended(n, salt) & 2147483647) / 2147483648.0::float8 + 1e-9))
      * cos(2 * pi() * (hashint8extended(n, salt + 1) & 2147483647) / 2147483648.0::float8)'
    """,
    f"""
    CREATE FUNCTION {SCHEMA}.uuid(at_ms bigint, hash text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$SELECT (lpad(to_hex(at_ms), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid$$
    """,
    f"CREATE TABLE {SCHEMA}.slots (place int PRIMARY KEY, kind int, receiver int)",
    f"CREATE TABLE {SCHEMA}.kinds (place int PRIMARY KEY, application_id uuid, type text, deliveries int)",
    f"""
    CREATE TABLE {SCHEMA}.receivers (place int PRIMARY KEY, endpoint_id uuid, url text, median float8, spread float8,
      cumulative float8[], closed_ms bigint, ip text, tls boolean, server text, inner_pad bytea, outer_pad bytea)
    """,
    f"""
    CREATE TABLE {SCHEMA}.faults (place int PRIMARY KEY, receiver int, since_ms bigint, until_ms bigint, share float8,
      error_class text, status smallint, message text, body text)
    """,
    f"CREATE INDEX ON {SCHEMA}.faults (receiver, place)",
    f"""
    CREATE UNLOGGED TABLE {SCHEMA}.tries (n bigint, k int, at_ms bigint, duration float8, fault int, key bigint, receiver int,
      made_ms bigint)
    """,
    f"CREATE UNLOGGED TABLE {SCHEMA}.ends (n bigint, tries int, fault int, ended_ms bigint, state text, next_ms bigint)",
)

# Events by number; each has its moment. The derivative of the swing is never negative, so that numbers go on with time.
EVENTS = f"""
CREATE UNLOGGED TABLE {SCHEMA}.events AS
SELECT e.*, {SCHEMA}.uuid(e.at_ms, md5(%(seed)s || '.event.' || e.key)) AS id
FROM (
  SELECT key, k.place AS kind, k.application_id, k.type,
    CASE WHEN key = %(events)s - 1 THEN %(last_deliveries)s ELSE k.deliveries END AS deliveries,
    %(begins)s::bigint + floor(%(span)s::float8 * (u - %(swing)s::float8 / (2 * pi() * %(days)s::float8)
      * (sin(2 * pi() * %(days)s::float8 * u + %(phase)s::float8) - sin(%(phase)s::float8))))::bigint AS at_ms
  FROM (
    SELECT key, (key + {SCHEMA}.chance(key, %(salt)s + 1)) / %(events)s::float8 AS u
    FROM generate_series(0::bigint, %(events)s::bigint - 1) AS key
  ) n
  JOIN {SCHEMA}.kinds k ON k.place = key %% %(kinds)s
) e
"""  # noqa: S608 - constants of this file
# Events again, with what was published, as bytes, and the id as receivers see it.
PAYLOADS = f"""
CREATE UNLOGGED TABLE {SCHEMA}.payloads AS
SELECT e.key, e.at_ms, e.id, e.application_id, e.type, e.deliveries, 'evt_' || {_TEXT_ID} AS text_id, convert_to(CASE split_part(e.type, '.', 1)
  WHEN 'customer' THEN format('{{"customer":{{"id":"cus_%%s","country":"%%s","newsletter":%%s,"since":"%%s"}}}}',
    e.key + 52001, (ARRAY['DE','NL','FR','SE','PL','IE'])[1 + e.key %% 6], (e.key %% 3 = 0)::text,
    to_char(to_timestamp(e.at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
  WHEN 'stock' THEN format('{{"article":"sku_%%s","left":%%s,"warehouse":"%%s"}}', e.key %% 4999, e.key %% 12,
    (ARRAY['Rotterdam','Gdansk','Lyon'])[1 + e.key %% 3])
  WHEN 'invoice' THEN format('{{"invoice":{{"id":"inv_%%s","order":"ord_%%s","amount":%%s.%%s,"currency":"EUR","due_days":14}}}}',
    e.key + 100001, e.key + 700001, 12 + e.key %% 480, lpad((e.key %% 100)::text, 2, '0'))
  WHEN 'refund' THEN format('{{"refund":{{"id":"ref_%%s","order":"ord_%%s","amount":%%s.00,"currency":"EUR"}}}}',
    e.key + 3001, e.key + 699001, 5 + e.key %% 90)
  ELSE format('{{"order":{{"id":"ord_%%s","amount":%%s.%%s,"currency":"EUR","items":[{{"sku":"sku_%%s","quantity":%%s}},'
    '{{"sku":"sku_%%s","quantity":1}}],"reference":%%s}}}}',
    e.key + 700001, 8 + e.key %% 340, lpad((e.key %% 100)::text, 2, '0'), e.key %% 4999, 1 + e.key %% 4,
    (e.key * 7) %% 4999, 9007199254740993 + e.key)
  END, 'UTF8') AS data
-- OFFSET keeps the bits from being made anew for each character.
FROM (SELECT *, B'00' || ('x' || replace(id::text, '-', ''))::bit(128) AS b FROM {SCHEMA}.events OFFSET 0) e
"""  # noqa: S608 - constants of this file
DELIVERIES = f"""
CREATE UNLOGGED TABLE {SCHEMA}.deliveries AS
SELECT n, e.key, e.at_ms, s.receiver
FROM (SELECT n, n / %(slots)s AS round, n %% %(slots)s AS slot FROM generate_series(0::bigint, %(deliveries)s::bigint - 1) AS n) i
JOIN {SCHEMA}.slots s ON s.place = i.slot
JOIN {SCHEMA}.events e ON e.key = i.round * %(kinds)s + s.kind
"""  # noqa: S608 - constants of this file

_FAULT = f"""
LEFT JOIN LATERAL (
  SELECT f.place, f.error_class, f.status FROM {SCHEMA}.faults f
  WHERE f.receiver = t.receiver AND t.at_ms >= f.since_ms AND t.at_ms < f.until_ms
    AND {SCHEMA}.chance(t.n * 16 + t.k, %(salt)s + 100 + f.place) < f.share
  ORDER BY f.place LIMIT 1
) f ON true
"""  # noqa: S608 - constants of this file
_DURATION = f"""CASE f.error_class
  WHEN 'read_timeout' THEN 15000 + 4 * {SCHEMA}.chance(t.n, %(salt)s + 11)
  WHEN 'connect_timeout' THEN 15000 + 2 * {SCHEMA}.chance(t.n, %(salt)s + 11)
  WHEN 'connect_refused' THEN 0.7 + 2 * {SCHEMA}.chance(t.n, %(salt)s + 11)
  WHEN 'dns_error' THEN 6 + 40 * {SCHEMA}.chance(t.n, %(salt)s + 11)
  WHEN 'tls_error' THEN 38 + 50 * {SCHEMA}.chance(t.n, %(salt)s + 11)
  WHEN 'http_429' THEN 4 + 5 * {SCHEMA}.chance(t.n, %(salt)s + 11)
  ELSE least(14900, r.median * exp(r.spread * {SCHEMA}.normal(t.n * 16 + t.k, %(salt)s + 12))) END"""
# A delivery waits a few milliseconds for its first try. Those of a part have nothing to do with those of others.
FIRST_TRIES = f"""
INSERT INTO {SCHEMA}.tries (n, k, at_ms, duration, fault, key, receiver, made_ms)
SELECT t.n, t.k, t.at_ms, {_DURATION}, f.place, t.key, t.receiver, t.made_ms
FROM (
  SELECT n, 1 AS k, key, receiver, at_ms AS made_ms, at_ms + 3 + floor(-6 * ln({SCHEMA}.chance(n, %(salt)s + 10) + 1e-6))::bigint AS at_ms
  FROM {SCHEMA}.deliveries WHERE n %% %(every)s = 0 AND n / %(every)s %% %(parts)s = %(part)s
) t
JOIN {SCHEMA}.receivers r ON r.place = t.receiver
{_FAULT}
WHERE t.at_ms < r.closed_ms
"""  # noqa: S608 - constants of this file
# Number k, for those whose number k - 1 failed.
NEXT_TRIES = f"""
INSERT INTO {SCHEMA}.tries (n, k, at_ms, duration, fault, key, receiver, made_ms)
SELECT t.n, t.k, t.at_ms, {_DURATION}, f.place, t.key, t.receiver, t.made_ms
FROM (
  SELECT w.n, w.k + 1 AS k, w.key, w.receiver, w.made_ms, w.at_ms + floor(w.duration
    + 1000 * (r.cumulative[w.k + 1] - r.cumulative[w.k]) * (0.8 + 0.4 * {SCHEMA}.chance(w.n * 16 + w.k, %(salt)s + 13)))::bigint AS at_ms
  FROM {SCHEMA}.tries w JOIN {SCHEMA}.faults b ON b.place = w.fault JOIN {SCHEMA}.receivers r ON r.place = w.receiver
  WHERE w.k = %(k)s - 1 AND w.n / %(every)s %% %(parts)s = %(part)s AND w.k < cardinality(r.cumulative) AND b.error_class <> 'http_410'
    AND (w.k > 1 OR {SCHEMA}.chance(w.n, %(salt)s + 14) >= {CANCELLED_SHARE})
) t
JOIN {SCHEMA}.receivers r ON r.place = t.receiver
{_FAULT}
WHERE t.at_ms < r.closed_ms
"""  # noqa: S608 - constants of this file

# How each delivery stands. What was tried for the last time, and not cancelled, waits for its next try or is dead.
ENDS = f"""
INSERT INTO {SCHEMA}.ends (n, tries, fault, ended_ms, state, next_ms)
SELECT n, k AS tries, fault, at_ms + duration::bigint AS ended_ms,
  CASE WHEN fault IS NULL THEN 'succeeded' WHEN last_class = 'http_410' OR k = longest THEN 'dead'
       WHEN k = 1 AND {SCHEMA}.chance(n, %(salt)s + 14) < {CANCELLED_SHARE} THEN 'cancelled' ELSE 'pending' END AS state,
  at_ms + floor(duration + 1000 * next_after)::bigint AS next_ms
FROM (
  SELECT DISTINCT ON (t.n) t.n, t.k, t.fault, t.at_ms, t.duration, f.error_class AS last_class,
    cardinality(r.cumulative) AS longest, coalesce(r.cumulative[t.k + 1] - r.cumulative[t.k], 0) AS next_after
  FROM {SCHEMA}.tries t JOIN {SCHEMA}.receivers r ON r.place = t.receiver LEFT JOIN {SCHEMA}.faults f ON f.place = t.fault
  WHERE (t.fault IS NOT NULL OR t.k > 1) AND t.n %% %(parts)s = %(part)s ORDER BY t.n, t.k DESC
) last
"""  # noqa: S608 - constants of this file
INDEXES = (
    f"CREATE UNIQUE INDEX ON {SCHEMA}.payloads (key)",
    f"CREATE INDEX ON {SCHEMA}.payloads (at_ms)",
    f"CREATE INDEX ON {SCHEMA}.deliveries (at_ms)",
    f"CREATE UNIQUE INDEX ON {SCHEMA}.deliveries (n)",
    f"CREATE UNIQUE INDEX ON {SCHEMA}.ends (n)",
    f"CREATE INDEX ON {SCHEMA}.tries ((at_ms + duration::bigint))",
    f"CREATE INDEX ON {SCHEMA}.tries (made_ms) WHERE k = 1",
    *(f"ANALYZE {SCHEMA}.{table}" for table in ("events", "payloads", "deliveries", "ends", "tries")),
)
DROP = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"
