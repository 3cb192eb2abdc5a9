"""The SQL that writes a day of events, deliveries and attempts from what was played, encoded as workers encode them.

Signatures are real: HMAC-SHA256 by Postgres' own sha256 and the padded keys of the endpoints.
"""

from __future__ import annotations

from app import __version__
from app.seeding.scratch import SCHEMA

_DELIVERY_ID = f"{SCHEMA}.uuid(d.at_ms, md5(%(seed)s || '.delivery.' || d.n))"
_TRIED_ID = f"{SCHEMA}.uuid(t.made_ms, md5(%(seed)s || '.delivery.' || t.n))"
_TIMESTAMP = "to_char(to_timestamp(e.at_ms / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
_BODY = (
    'convert_to(\'{{"type":"\' || e.type || \'","timestamp":"\' || '
    + _TIMESTAMP
    + " || '\",\"data\":', 'UTF8') || e.data || '}}'::bytea"
)
_NEVER = "make_interval(days => 5)"

EVENTS = f"""
INSERT INTO {{partition}} (id, workspace_id, application_id, type, data, occurred_at, correlation_id, metadata,
  deliveries, created_at)
SELECT e.id, %(workspace)s, e.application_id, e.type, e.data, to_timestamp(e.at_ms / 1000.0),
  CASE WHEN e.key %% 5 = 0 THEN 'cart-' || substr(md5(%(seed)s || e.key / 10), 1, 10) END,
  CASE WHEN e.key %% 3 = 0 THEN jsonb_build_object('source', 'checkout', 'region', 'eu-' || 1 + e.key %% 2) END,
  e.deliveries, to_timestamp(e.at_ms / 1000.0)
FROM {SCHEMA}.payloads e
WHERE e.at_ms >= %(lo)s AND e.at_ms < %(hi)s ORDER BY e.at_ms, e.key
"""  # noqa: S608 - constants of this file
DELIVERIES = f"""
INSERT INTO {{partition}} (id, workspace_id, application_id, event_id, event_type, endpoint_id, state, attempt_count,
  last_status, last_error_class, last_error_message, created_at, completed_at, deadline_at)
SELECT {_DELIVERY_ID}, %(workspace)s, e.application_id, e.id, e.type, r.endpoint_id,
  coalesce(x.state, CASE WHEN t.n IS NULL THEN 'pending' ELSE 'succeeded' END),
  coalesce(x.tries, CASE WHEN t.n IS NULL THEN 0 ELSE 1 END),
  CASE WHEN coalesce(x.state, 'succeeded') = 'succeeded' THEN CASE WHEN t.n IS NOT NULL THEN 200 END ELSE f.status END,
  f.error_class, f.message, to_timestamp(e.at_ms / 1000.0),
  CASE WHEN coalesce(x.state, 'succeeded') = 'pending' OR t.n IS NULL THEN NULL
       WHEN x.state = 'cancelled' THEN to_timestamp(least(x.ended_ms + 60000, %(ends)s) / 1000.0)
       ELSE to_timestamp((coalesce(x.ended_ms, t.at_ms + t.duration::bigint) + 2) / 1000.0) END,
  to_timestamp(e.at_ms / 1000.0) + {_NEVER}
FROM {SCHEMA}.deliveries d
JOIN {SCHEMA}.events e USING (key)
JOIN {SCHEMA}.receivers r ON r.place = d.receiver
LEFT JOIN {SCHEMA}.tries t ON t.n = d.n AND t.k = 1 AND t.made_ms >= %(lo)s AND t.made_ms < %(hi)s
LEFT JOIN {SCHEMA}.ends x ON x.n = d.n
LEFT JOIN {SCHEMA}.faults f ON f.place = x.fault
WHERE d.at_ms >= %(lo)s AND d.at_ms < %(hi)s ORDER BY d.at_ms, d.n
"""  # noqa: S608 - constants of this file

# One connection in eight is new, and then its phases before the request are there; none of it where nothing was sent.
_ANSWERED = "(t.fault IS NULL OR f.status IS NOT NULL)"
_CHANCE = f"{SCHEMA}.chance(t.n * 16 + t.k, %(salt)s + {{}})"
ATTEMPTS = f"""
INSERT INTO {{partition}} (id, workspace_id, application_id, endpoint_id, event_id, event_type, delivery_id, number,
  trigger, outcome, started_at, duration_ms, queue_ms, dns_ms, connect_ms, tls_ms, send_ms, wait_ms, receive_ms,
  request_url, request_headers, response_status, response_headers, response_body, error_class, error_message, ip,
  http_version, tls_version, certificate_expires_at, connection_reused, worker, retry_after_seconds)
SELECT {SCHEMA}.uuid(t.id_ms, md5(%(seed)s || '.attempt.' || t.n || '.' || t.k)), %(workspace)s, e.application_id,
  r.endpoint_id, e.id, e.type, {_TRIED_ID}, t.k, 'scheduled', CASE WHEN t.fault IS NULL THEN 'succeeded' ELSE 'failed' END,
  to_timestamp(t.at_ms / 1000.0), round(t.duration::numeric, 3), CASE WHEN t.k = 1 THEN t.at_ms - t.made_ms ELSE 2 + 9 * {_CHANCE.format(20)} END,
  CASE WHEN f.error_class = 'dns_error' THEN t.duration - 0.4 WHEN t.fresh THEN t.duration * (0.02 + 0.03 * {_CHANCE.format(21)}) END,
  CASE WHEN f.error_class = 'connect_refused' THEN t.duration - 0.3 WHEN f.error_class = 'connect_timeout' THEN t.duration
       WHEN f.error_class = 'dns_error' THEN NULL WHEN t.fresh THEN t.duration * 0.09 END,
  CASE WHEN f.error_class = 'tls_error' THEN t.duration * 0.8
       WHEN f.error_class IN ('dns_error', 'connect_refused', 'connect_timeout') OR NOT r.tls THEN NULL
       WHEN t.fresh THEN t.duration * 0.17 END,
  CASE WHEN t.sent THEN least(0.3, t.duration * 0.01) * (0.4 + 0.6 * {_CHANCE.format(22)}) END,
  CASE WHEN t.sent THEN t.duration * CASE WHEN t.fresh THEN 0.66 ELSE 0.96 END END,
  CASE WHEN {_ANSWERED} THEN t.duration * 0.01 END,
  r.url,
  convert_to('[["content-type","application/json"],["user-agent","Bellwire/{__version__}"],["webhook-id","' || e.text_id
    || '"],["webhook-timestamp","' || t.at_ms / 1000 || '"],["webhook-signature","v1,'
    || encode(sha256(r.outer_pad || sha256(r.inner_pad || convert_to(e.text_id || '.' || t.at_ms / 1000 || '.', 'UTF8') || {_BODY})), 'base64')
    || '"]]', 'UTF8'),
  CASE WHEN t.fault IS NULL THEN 200 ELSE f.status END,
  CASE WHEN {_ANSWERED} THEN convert_to('[["date","' || to_char(to_timestamp(t.at_ms / 1000) AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS') || ' GMT"],'
    || '["content-type","application/json"],["content-length","' || octet_length(coalesce(f.body, '{{{{"ok":true}}}}'))
    || '"],["server","' || r.server || '"]' || CASE WHEN f.status = 429 THEN ',["retry-after","5"]' ELSE '' END || ']', 'UTF8') END,
  CASE WHEN {_ANSWERED} THEN convert_to(coalesce(f.body, '{{{{"ok":true}}}}'), 'UTF8') END,
  f.error_class, f.message,
  CASE WHEN coalesce(f.error_class, '') <> 'dns_error' THEN r.ip END,
  CASE WHEN {_ANSWERED} THEN '1.1' END,
  CASE WHEN r.tls AND t.sent THEN 'TLSv1.3' END,
  CASE WHEN r.tls AND t.sent THEN to_timestamp(%(ends)s / 1000) + make_interval(days => 20 + 7 * t.receiver) END,
  CASE WHEN t.sent THEN NOT t.fresh END,
  'worker-' || 1 + t.n %% 2 || ':' || 100 + t.n %% 4,
  CASE WHEN f.status = 429 THEN 5 END
FROM (
  SELECT t.*, at_ms + duration::bigint AS id_ms,
    t.k > 1 OR {_CHANCE.format(23)} < 0.125 AS fresh,
    NOT EXISTS (SELECT 1 FROM {SCHEMA}.faults w WHERE w.place = t.fault
      AND w.error_class IN ('dns_error', 'connect_refused', 'connect_timeout', 'tls_error')) AS sent
  FROM {SCHEMA}.tries t WHERE at_ms + duration::bigint >= %(lo)s AND at_ms + duration::bigint < %(hi)s
) t
JOIN {SCHEMA}.payloads e ON e.key = t.key
JOIN {SCHEMA}.receivers r ON r.place = t.receiver
LEFT JOIN {SCHEMA}.faults f ON f.place = t.fault
ORDER BY t.id_ms, t.n
"""  # noqa: S608 - constants of this file
# In the order in which they are written.
TABLES = {"events": EVENTS, "deliveries": DELIVERIES, "attempts": ATTEMPTS}
