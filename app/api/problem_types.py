"""The kinds of problem that the API answers with, one a slug; each has a page under `/problems/`.

Clients may tell problems apart by `type`, so a slug is a contract: it is never renamed or reused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: its status, and what its page says."""

    slug: str
    status: int
    title: str
    what: str
    why: str
    next_step: str


def find_problem_type(slug: str) -> ProblemType | None:
    """Return the kind of problem with this slug."""
    return _BY_SLUG.get(slug)


PROBLEM_TYPES: tuple[ProblemType, ...] = (
    ProblemType(
        "bad-request",
        400,
        "The request cannot be understood",
        "Something about the request breaks a rule of HTTP or of this API that no other problem describes.",
        "Most often a proxy or a hand-written client has altered the request on its way.",
        "Read `detail`, compare the request with the reference at /docs, and send it again.",
    ),
    ProblemType(
        "malformed",
        400,
        "The body is not JSON",
        "The request's body could not be read as one JSON document in UTF-8.",
        "The body was cut off, is in another encoding, has a trailing comma or a single quote, holds a number or "
        "a character that JSON does not allow, or is nested too deeply.",
        "Let a JSON library write the body instead of joining strings; `detail` says where reading stopped.",
    ),
    ProblemType(
        "unauthenticated",
        401,
        "An API key is needed",
        "The request carries no API key, or one that is not valid here.",
        "The `Authorization` header is missing or mistyped, the key was revoked or has expired, or it belongs to "
        "another installation.",
        "Send `Authorization: Bearer <api key>`. Keys are made by `bellwire keys create` or POST /v1/api-keys.",
    ),
    ProblemType(
        "forbidden",
        403,
        "The key's role does not allow this",
        "The API key is valid, but its role does not include what was asked for.",
        "Viewers read, publishers publish and do nothing else, operators read and repair, admins do everything in "
        "their workspace. /v1/workspaces takes the instance key only.",
        "Use a key with the role that `detail` names, or ask an admin of the workspace for one.",
    ),
    ProblemType(
        "not-found",
        404,
        "There is no such thing here",
        "No object with this id exists in the key's workspace, or no route has this path.",
        "The id is mistyped, belongs to another workspace or kind of object, or the object was deleted. "
        "A key that is bound to one application sees nothing of the others.",
        "Compare the path with /docs, and list the objects to find the id that is meant.",
    ),
    ProblemType(
        "method-not-allowed",
        405,
        "The method is not supported on this path",
        "The path exists, but not with this HTTP method.",
        "For example, an event cannot be changed once it is accepted, so there is no PATCH for it.",
        "Use one of the methods in the answer's `Allow` header.",
    ),
    ProblemType(
        "conflict",
        409,
        "The object's state does not allow this",
        "The request is valid, but something that exists already stands against it.",
        "Another object has the same name, or this one is in a state in which the action makes no sense.",
        "Read `detail`; look at the object as it is now, and decide anew.",
    ),
    ProblemType(
        "uid-taken",
        409,
        "This uid is taken",
        "Another application of the workspace has this uid.",
        "A uid names one application at a time; it becomes free when that application is deleted.",
        "Choose another uid, or use the application that has it: GET /v1/applications/{uid}.",
    ),
    ProblemType(
        "uid-conflict",
        409,
        "This uid was used for another event",
        "The application has an event with this uid, and its content is not the same.",
        "A uid names one event for as long as the event is kept; type, data and the other fields given belong to "
        "its content.",
        "Give each event a uid of its own. To send the same event again safely, send exactly the same content.",
    ),
    ProblemType(
        "name-taken",
        409,
        "This name is taken",
        "The catalogue has an event type of this name already.",
        "Names are unique in a workspace.",
        "Change the existing one with PATCH /v1/event-types/{name}, or choose another name.",
    ),
    ProblemType(
        "quota-reached",
        409,
        "The workspace has all that it may have",
        "The workspace's quota of this kind of object is used up.",
        "The operator of this server bounds how many a workspace may have: BELLWIRE_WORKSPACE_ENDPOINTS, or a "
        "quota of the workspace's own.",
        "Delete what is no longer needed, or ask the operator for a higher quota.",
    ),
    ProblemType(
        "reserved-application",
        409,
        "This application is reserved",
        "`default` and `operations` are part of every workspace.",
        "`default` takes what names no application, and Bellwire itself publishes to `operations`; neither can be "
        "deleted or given another uid.",
        "Make an application of your own with POST /v1/applications.",
    ),
    ProblemType(
        "idempotency-in-progress",
        409,
        "The first request with this Idempotency-Key is still running",
        "Another request with the same Idempotency-Key has not finished within two seconds.",
        "A client that timed out has sent its request again while the first one is still at work.",
        "Wait as long as `Retry-After` says and send the same request again; its answer will be the first one's.",
    ),
    ProblemType(
        "too-large",
        413,
        "The body is too large",
        "The body is longer than this server takes; it was refused before it was read to its end.",
        "The limit is BELLWIRE_MAX_BODY_BYTES (1 MiB unless set), and BELLWIRE_MAX_BATCH_BODY_BYTES (10 MiB) for "
        "batches of events.",
        "Send less in one request: smaller batches, or a reference to large content instead of the content.",
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "The body is not sent as JSON",
        "The `Content-Type` is not `application/json`, or the body is compressed.",
        "Many clients send `application/x-www-form-urlencoded` or `text/plain` unless told otherwise.",
        "Send `Content-Type: application/json` and an uncompressed body.",
    ),
    ProblemType(
        "invalid",
        422,
        "The input breaks a rule",
        "The request was read, but one or more values in it are not allowed.",
        "`errors` names each place by a JSON pointer and says what is wrong with it. Unknown fields and unknown "
        "query parameters are refused too, so that a typing error is not silently ignored.",
        "Correct every place that `errors` lists and send the request again.",
    ),
    ProblemType(
        "idempotency-key-reused",
        422,
        "This Idempotency-Key was used for another request",
        "The workspace used this Idempotency-Key within 24 hours for a request with another path or body.",
        "A key stands for exactly one request; usually it was made from something that is not unique.",
        "Make a fresh random key (for example a UUID) for each new operation, and keep it for its repeats only.",
    ),
    ProblemType(
        "rate-limited",
        429,
        "Too many requests",
        "This API key has used up its requests for the moment, or too many requests from this address carried a key "
        "that is not valid.",
        "The operator of this server has set BELLWIRE_API_RATE, a number of requests per second and key, or "
        "BELLWIRE_AUTH_FAILURES_PER_MINUTE. A valid key is never refused because of others at its address.",
        "Wait as long as `Retry-After` says. To publish much, use POST /v1/events/batch: up to 1,000 events in one "
        "request.",
    ),
    ProblemType(
        "quota-exceeded",
        429,
        "The workspace publishes more than it may",
        "The workspace has used up its events or its bytes for the moment; nothing of this request was stored.",
        "The operator of this server bounds what a workspace may publish per second, for all its keys together.",
        "Send the same request again after `Retry-After` seconds, and slow down; ask the operator for a higher quota "
        "if it happens often.",
    ),
    ProblemType(
        "headers-too-large",
        431,
        "The headers are too large",
        "The request line and the headers are longer together than the 64 KiB that this server takes.",
        "A proxy or a client adds cookies or other headers without end, or a query string is very long.",
        "Send fewer and shorter headers; put what is long into the body.",
    ),
    ProblemType(
        "internal",
        500,
        "Something is wrong on our side",
        "The server met a fault that it did not expect. Nothing of this request was stored.",
        "This is a bug in Bellwire or a fault of its surroundings, not of the request.",
        "Try again; if it happens again, give the `request_id` to the operator, who finds the cause in the log "
        "under it.",
    ),
    ProblemType(
        "database-unavailable",
        503,
        "The database cannot be reached",
        "Postgres did not answer, so the request could not be carried out.",
        "The database is restarting, unreachable, or out of connections. Deliveries go on when it is back; an "
        "event that was accepted is safe.",
        "Send the same request again after `Retry-After` seconds. With an Idempotency-Key or an event `uid`, "
        "repeating is safe even if the first one did get through.",
    ),
    ProblemType(
        "too-busy",
        503,
        "The server is busy",
        "More work is waiting than this server takes on; this request was turned away and nothing of it stored.",
        "Requests come faster than the database can store them, or something holds a lock for long.",
        "Send the same request again after `Retry-After` seconds, and slow down if it happens often.",
    ),
)

_BY_SLUG = {problem.slug: problem for problem in PROBLEM_TYPES}
