"""The SQL behind `bench.seed`: one temporary table says what each delivery of a day is, the rest is read off it."""

from __future__ import annotations

# How many retries the deliveries of each score have when there are two attempts a delivery on average: their sum
# is their number. Scaled for other averages.
RETRIES = (0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 3, 0, 0, 5, 0, 8)
# Of a hundred deliveries: the last (the one with the most retries) is dead, and every other hundred has a
# cancelled one.
_DEAD = f"n %% {5 * len(RETRIES)} = {5 * len(RETRIES) - 1}"
_CANCELLED = f"n %% {10 * len(RETRIES)} = {len(RETRIES) - 3}"
# Seconds from the first attempt to each further one, by the default schedule.
_RETRY_AFTER = (0, 5, 35, 155, 755, 2555, 9755, 27755, 63755, 114155, 186155, 272555)
# What goes wrong, by endpoint: class, status, message.
_FAULTS = (
    ("http_5xx", 503, "Service Unavailable"),
    ("http_5xx", 500, "Internal Server Error"),
    ("read_timeout", None, "no answer within 15 s"),
    ("http_4xx", 401, "Unauthorized"),
    ("connect_refused", None, "connection refused"),
    ("http_429", 429, "Too Many Requests"),
    ("dns_error", None, "name not found"),
    ("tls_error", None, "certificate has expired"),
    ("http_410", 410, "Gone"),
)
_TYPES = (
    *("order.placed", "order.paid", "order.shipped", "invoice.created", "invoice.paid"),
    *("user.created", "user.updated", "subscription.renewed"),
)
EVENTS_EACH = 4
_BAD_ENDPOINTS = 8
_DEALT = "{" + ",".join(str(sum(RETRIES[:n])) for n in range(len(RETRIES))) + "}"

FUNCTIONS = (
    """
CREATE OR REPLACE FUNCTION pg_temp.seed_id(at_ms bigint, hash text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex(at_ms), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid
$$
""",
    # How many retries the first n deliveries have together.
    f"""
CREATE OR REPLACE FUNCTION pg_temp.dealt(n bigint, extra float8) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT floor(extra * (n / {len(RETRIES)} * {sum(RETRIES)} + ('{_DEALT}'::int[])[n % {len(RETRIES)} + 1]) + 1e-6)::bigint
$$
""",
)


def _array(values: tuple[object, ...], kind: str) -> str:
    items = ", ".join("NULL" if value is None else f"'{value}'" for value in values)
    return f"(ARRAY[{items}]::{kind}[])"


# `n` runs over all days, so ids and retries go on from one to the next. Each delivery has its moment; its
# event's is that of the event's first delivery. Where there is trouble, it is mostly at the bad endpoints.
BASE = f"""
CREATE TEMPORARY TABLE seed_base AS
SELECT s.*, pg_temp.seed_id(created_ms, md5('delivery' || n)) AS id,
  pg_temp.seed_id(created_ms, md5('event' || n / {EVENTS_EACH})) AS event_id,
  (%(endpoints)s::uuid[])[endpoint_no + 1] AS endpoint_id,
  'seed.' || {_array(_TYPES, "text")}[n / {EVENTS_EACH} %% {len(_TYPES)} + 1] AS event_type,
  CASE WHEN {_DEAD} THEN 'dead' WHEN {_CANCELLED} THEN 'cancelled' ELSE 'succeeded' END AS state,
  {_array(tuple(name for name, _, _ in _FAULTS), "text")}[fault] AS error_class,
  {_array(tuple(status for _, status, _ in _FAULTS), "smallint")}[fault] AS status,
  {_array(tuple(said for _, _, said in _FAULTS), "text")}[fault] AS message,
  a.workspace_id, a.application_id
FROM (
  SELECT t.*,
    -- A first attempt that was the last: the receiver said that it wants no more.
    CASE WHEN retries = 0 AND {_DEAD} THEN {len(_FAULTS)} ELSE endpoint_no %% {len(_FAULTS) - 1} + 1 END AS fault
  FROM (
  SELECT i.n, %(ends)s::bigint - 1 AS ends_ms,
    %(begins)s::bigint
      + greatest(i.n / {EVENTS_EACH} * {EVENTS_EACH} - %(first)s, 0) * %(span)s::bigint / %(deliveries)s
      AS created_ms,
    r.retries,
    CASE WHEN r.retries > 0 AND random() < 0.8 THEN floor(random() * {_BAD_ENDPOINTS})::int
         ELSE floor(random() * cardinality(%(endpoints)s::uuid[]))::int END AS endpoint_no
  FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(deliveries)s - 1) AS i(n)
  CROSS JOIN LATERAL (
    SELECT pg_temp.dealt(i.n + 1, %(extra)s) - pg_temp.dealt(i.n, %(extra)s) AS retries
  ) r
  ) t
) s
CROSS JOIN (
  SELECT workspace_id, application_id FROM endpoints WHERE id = (%(endpoints)s::uuid[])[1]
) a
"""  # noqa: S608 - a bench's own constants

# Tables in the order in which they are written; {{partition}} is the day's.
FILL = {
    "events": f"""
INSERT INTO {{partition}} (id, workspace_id, application_id, type, data, occurred_at, deliveries, created_at)
SELECT event_id, workspace_id, application_id, event_type,
  convert_to('{{{{"order":"' || n || '","note":"' || repeat('x', 400) || '"}}}}', 'UTF8'),
  to_timestamp(created_ms / 1000.0), {EVENTS_EACH}, to_timestamp(created_ms / 1000.0)
FROM seed_base WHERE n % {EVENTS_EACH} = 0 ORDER BY n
""",  # noqa: S608 - a bench's own constants
    "deliveries": """
INSERT INTO {partition} (id, workspace_id, application_id, event_id, event_type, endpoint_id, state, attempt_count,
  last_status, last_error_class, last_error_message, created_at, completed_at, deadline_at)
SELECT id, workspace_id, application_id, event_id, event_type, endpoint_id, state, 1 + retries,
  CASE WHEN state = 'succeeded' THEN 200 ELSE status END,
  CASE WHEN state <> 'succeeded' THEN error_class END,
  CASE WHEN state <> 'succeeded' THEN message END,
  to_timestamp(created_ms / 1000.0), to_timestamp(least(created_ms + 20, ends_ms) / 1000.0),
  to_timestamp(created_ms / 1000.0) + interval '5 days'
FROM seed_base ORDER BY n
""",
    # An attempt keeps to its delivery's day, as partitions are filled one by one.
    "attempts": f"""
INSERT INTO {{partition}} (id, workspace_id, application_id, endpoint_id, event_id, event_type, delivery_id, number,
  trigger, outcome, started_at, duration_ms, queue_ms, send_ms, wait_ms, receive_ms, request_url, request_headers,
  response_status, response_headers, response_body, error_class, error_message, ip, http_version,
  connection_reused, worker)
SELECT pg_temp.seed_id(at_ms, md5('attempt' || n || '.' || k)), workspace_id, application_id, endpoint_id, event_id,
  event_type, id, k, 'scheduled', CASE WHEN good THEN 'succeeded' ELSE 'failed' END,
  to_timestamp(at_ms / 1000.0),
  wait + 1, 4, 0.2, wait, 0.3, 'http://127.0.0.1:8999/seed/' || endpoint_no,
  convert_to('[["content-type","application/json"],["user-agent","Bellwire/0.1.0"],["webhook-id","evt_'
    || replace(event_id::text, '-', '') || '"],["webhook-timestamp","' || at_ms / 1000
    || '"],["webhook-signature","v1,' || md5(id::text) || 'OTPJTGt/tmI="],["traceparent","00-'
    || md5(event_id::text) || '-00f067aa0ba902b7-01"]]', 'UTF8'),
  CASE WHEN good THEN 200 ELSE status END,
  CASE WHEN good OR status IS NOT NULL THEN
    convert_to('[["content-type","text/plain"],["content-length","2"],["server","nginx"]]', 'UTF8') END,
  CASE WHEN good OR status IS NOT NULL THEN convert_to('ok', 'UTF8') END,
  CASE WHEN NOT good THEN error_class END, CASE WHEN NOT good THEN message END,
  '127.0.0.1', '1.1', k > 1, 'seed:1'
FROM (
  SELECT b.*, k, state = 'succeeded' AND k = retries + 1 AS good, (5 + n % 97)::real AS wait,
    least(created_ms + 4 + 1000 * {_array(_RETRY_AFTER, "bigint")}[k], ends_ms) AS at_ms
  FROM seed_base b CROSS JOIN LATERAL generate_series(1, retries::int + 1) AS k
) s ORDER BY n
""",  # noqa: S608 - a bench's own constants
}
