"""The statements of the claim. The one place where policy lives.

`DISCOVER` walks the distinct lanes (endpoints with ready rows) by hopping over the index. `CLAIM` takes some rows of
each lane that it is given, as far as the endpoint's state, cap and rate allow, and reads their events. `LOOK` is both
in one round trip, for a queue of few lanes: it takes of every lane that it finds.

They wait for the runtime rows that a record holds, in the order of ids, and skip queue rows that are locked: they can
overshoot no cap and take part in no deadlock.
"""

from __future__ import annotations

from sqlalchemy import text

# Row comparison against the lane index: each hop is one probe, whatever the number of rows in a lane.
_LANES = """
lane AS (
  (SELECT workspace_id, application_id, endpoint_id, 1 AS hop FROM delivery_queue
   WHERE state = 0 AND (workspace_id, application_id, endpoint_id) >
     (CAST(:workspace AS uuid), CAST(:application AS uuid), CAST(:endpoint AS uuid))
   ORDER BY workspace_id, application_id, endpoint_id LIMIT 1)
  UNION ALL
  SELECT n.workspace_id, n.application_id, n.endpoint_id, l.hop + 1 FROM lane l CROSS JOIN LATERAL (
    SELECT workspace_id, application_id, endpoint_id FROM delivery_queue
    WHERE state = 0 AND (workspace_id, application_id, endpoint_id) >
      (l.workspace_id, l.application_id, l.endpoint_id)
    ORDER BY workspace_id, application_id, endpoint_id LIMIT 1) n
  WHERE l.hop < :hops
)
"""

DISCOVER = text("WITH RECURSIVE" + _LANES + "SELECT workspace_id, application_id, endpoint_id FROM lane")  # noqa: S608 - Bellwire's own constants

_GIVEN = """
WITH wanted AS MATERIALIZED (
  SELECT endpoint_id, share, answered, 0 AS walked
  FROM unnest(CAST(:endpoints AS uuid[]), CAST(:shares AS int[]), CAST(:answered AS int[]))
    AS t(endpoint_id, share, answered)
"""

_FOUND = """
, wanted AS MATERIALIZED (
  SELECT l.endpoint_id, count(*) OVER () AS walked,
    -- Answered requests hold the caller's slots until they are recorded: of one endpoint so many at most.
    least(greatest(1, :want / count(*) OVER ())::int, :most - coalesce(b.in_flight - b.answered, 0),
      2 * :most - coalesce(b.in_flight, 0)) AS share,
    coalesce(b.answered, 0) AS answered
  FROM lane l
  LEFT JOIN unnest(CAST(:busy AS uuid[]), CAST(:busy_in_flight AS int[]), CAST(:busy_answered AS int[]))
    AS b(endpoint_id, in_flight, answered) USING (endpoint_id)
"""

_TAKE = """
), pick AS MATERIALIZED (
  -- Waits for rows that a record holds, in the order that every writer of several rows keeps.
  SELECT r.endpoint_id, r.workspace_id, r.application_id, r.settings_version, r.timeout_seconds, r.fifo,
    r.max_in_flight, r.in_flight, r.open, r.held_until, r.rate_per_second, r.rate_burst, r.tokens, r.tokens_at,
    r.circuit_state, r.next_probe_at, r.ramp, r.fifo_blocked_by,
    -- A circuit that is not closed lets one request at a time through, once its probe is due. Without a time it is
    -- never due: a person holds the circuit open.
    NOT r.open OR coalesce(r.held_until > now(), false)
      OR (r.circuit_state <> 'closed' AND r.in_flight > 0)
      OR (r.circuit_state = 'open' AND coalesce(r.next_probe_at > now(), true)) AS blocked
  FROM endpoint_runtime r WHERE r.endpoint_id = ANY(ARRAY(SELECT endpoint_id FROM wanted))
  ORDER BY r.endpoint_id FOR UPDATE OF r
), allowed AS MATERIALIZED (
  SELECT p.*, w.share, w.walked, NOT p.blocked AND p.circuit_state = 'open' AS probing,
    CASE WHEN p.rate_per_second IS NULL THEN NULL
         ELSE least(p.rate_burst, coalesce(p.tokens, p.rate_burst)
           + greatest(0, extract(epoch FROM now() - coalesce(p.tokens_at, now()))) * p.rate_per_second) END
      AS tokens_now,
    -- Read without a lock, so as old as the queue rows that this statement sees: while it waited for the lock, the
    -- one in flight may have come back to the head of its FIFO lane.
    CASE WHEN p.fifo THEN 1 - greatest(p.in_flight, seen.in_flight)
         WHEN NOT p.blocked AND p.circuit_state <> 'closed' THEN 1
         -- Requests of the claimer's own that are answered, and not yet recorded, take up no place at the receiver.
         ELSE least(p.max_in_flight, p.ramp) - p.in_flight + w.answered END AS free
  FROM pick p JOIN wanted w USING (endpoint_id) JOIN endpoint_runtime seen USING (endpoint_id)
), room AS MATERIALIZED (
  SELECT a.*, greatest(0, least(a.free, a.share, coalesce(floor(a.tokens_now)::int, a.share))) AS room,
    head.rank AS head_rank, head.seq AS head_seq
  FROM allowed a LEFT JOIN LATERAL (
    SELECT q.rank, q.seq FROM delivery_queue q
    WHERE a.fifo AND q.state = 0 AND q.workspace_id = a.workspace_id AND q.application_id = a.application_id
      AND q.endpoint_id = a.endpoint_id ORDER BY q.rank, q.seq LIMIT 1) head ON true
), taken AS MATERIALIZED (
  SELECT r.endpoint_id, r.settings_version, r.timeout_seconds, r.fifo, x.id
  FROM room r CROSS JOIN LATERAL (
    SELECT q.id FROM delivery_queue q
    WHERE q.state = 0 AND q.workspace_id = r.workspace_id AND q.application_id = r.application_id
      AND q.endpoint_id = r.endpoint_id AND q.deadline_at > now()
      AND (q.rank < 0 OR (NOT r.blocked AND coalesce(q.id = r.fifo_blocked_by, true)))
      -- The head of a FIFO lane is overtaken by nobody, also while somebody holds its row.
      AND (q.rank, q.seq) <= (coalesce(r.head_rank, 32767), coalesce(r.head_seq, 9223372036854775807))
    ORDER BY q.rank, q.seq LIMIT r.room FOR UPDATE SKIP LOCKED) x
), counted AS (
  SELECT endpoint_id, count(*)::int AS taken FROM taken GROUP BY endpoint_id
), rest AS MATERIALIZED (
  -- Is there more in the lane? A lane that is known to be empty is not visited again in vain.
  SELECT r.endpoint_id, EXISTS (
    SELECT FROM delivery_queue q
    WHERE q.state = 0 AND q.workspace_id = r.workspace_id AND q.application_id = r.application_id
      AND q.endpoint_id = r.endpoint_id ORDER BY q.rank, q.seq OFFSET c.taken LIMIT 1) AS more
  FROM counted c JOIN room r USING (endpoint_id) WHERE c.taken = r.room
), charged AS (
  UPDATE endpoint_runtime e SET in_flight = e.in_flight + c.taken, tokens = r.tokens_now - c.taken,
    tokens_at = CASE WHEN r.tokens_now IS NULL THEN NULL ELSE greatest(r.tokens_at, now()) END,
    circuit_state = CASE WHEN r.probing THEN 'half_open' ELSE e.circuit_state END,
    half_open_at = CASE WHEN r.probing THEN now() ELSE e.half_open_at END,
    next_probe_at = CASE WHEN r.probing THEN NULL ELSE e.next_probe_at END,
    probes_ok = CASE WHEN r.probing THEN 0 ELSE e.probes_ok END
  FROM counted c JOIN room r USING (endpoint_id) WHERE e.endpoint_id = c.endpoint_id
), noted AS (
  INSERT INTO circuit_transitions (workspace_id, endpoint_id, from_state, to_state, reason)
  SELECT r.workspace_id, r.endpoint_id, 'open', 'half_open', :probe_reason
  FROM counted c JOIN room r USING (endpoint_id) WHERE r.probing
), leased AS (
  UPDATE delivery_queue q SET state = 1, lease_token = nextval('delivery_lease_seq'), leased_at = now(),
    lease_until = now() + (t.timeout_seconds + CAST(:margin AS float8)) * interval '1 second',
    leased_by = :worker, alone = false
  -- The array makes it a look-up by id, also where the plan was made while the queue was empty.
  FROM taken t WHERE q.id = t.id AND q.id = ANY(ARRAY(SELECT id FROM taken))
  RETURNING q.id, q.lease_token, q.endpoint_id, q.workspace_id, q.application_id, q.event_id, q.trigger,
    q.attempt_count, q.schedule_step, q.blocked_count, q.lost_count, q.due_at, q.rank, q.seq
), told AS (
  -- An event that is on its way to several endpoints is read once.
  SELECT l.*, row_number() OVER (PARTITION BY l.event_id) = 1 AS first FROM leased l
)
SELECT r.walked, r.workspace_id, r.application_id, r.endpoint_id, r.share, r.settings_version, r.timeout_seconds,
  r.fifo, r.room,
  r.blocked OR r.fifo_blocked_by IS NOT NULL,
  extract(epoch FROM CASE
    WHEN r.open AND r.blocked THEN
      nullif(greatest(r.held_until, CASE WHEN r.circuit_state = 'open' THEN r.next_probe_at END, now()), now()) - now()
    WHEN r.tokens_now < 1 THEN (1 - r.tokens_now) / r.rate_per_second * interval '1 second' END)::float8,
  l.id, l.lease_token, l.event_id, l.trigger, l.attempt_count,
  l.schedule_step, l.blocked_count, l.lost_count, l.due_at,
  greatest(0, extract(epoch FROM clock_timestamp() - l.due_at) * 1000)::float8,
  r.circuit_state <> 'closed' OR r.ramp IS NOT NULL, coalesce(m.more, false),
  e.type, e.data, e.occurred_at, e.traceparent, e.test
FROM room r LEFT JOIN told l USING (endpoint_id) LEFT JOIN rest m USING (endpoint_id)
  LEFT JOIN LATERAL (
    SELECT e.type, e.data, e.occurred_at, e.traceparent, e.test
    FROM events e WHERE l.first AND e.id = l.event_id) e ON true
ORDER BY r.endpoint_id, l.rank, l.seq
"""

CLAIM = text(_GIVEN + _TAKE)
LOOK = text("WITH RECURSIVE" + _LANES + _FOUND + _TAKE)
