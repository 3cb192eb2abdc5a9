"""What needs attention: failures of one class at one endpoint, with the words, links and picture of their row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import ids
from app.core.error_classes import ErrorClass, explain
from app.dashboard.frame import address
from app.dashboard.small_charts import spark
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from app.core.context import Caller
    from app.stats.rankings import Incident

# So many rows are read in a minute; who has more looks at the list of endpoints.
MOST_INCIDENTS = 10

# What a row says; the sentence with the next step is behind it.
_SHORTLY = {
    ErrorClass.DNS_ERROR: "Host name not found",
    ErrorClass.BLOCKED_ADDRESS: "Address is forbidden",
    ErrorClass.CONNECT_REFUSED: "Nothing is listening",
    ErrorClass.CONNECT_TIMEOUT: "No connection",
    ErrorClass.TLS_ERROR: "Certificate not trusted",
    ErrorClass.READ_TIMEOUT: "No answer in time",
    ErrorClass.HTTP_3XX: "Redirected",
    ErrorClass.HTTP_4XX: "Receiver refused us",
    ErrorClass.HTTP_410: "Receiver said stop",
    ErrorClass.HTTP_429: "Receiver limits us",
    ErrorClass.HTTP_5XX: "Receiver error",
    ErrorClass.PROTOCOL_ERROR: "Broken HTTP answer",
    ErrorClass.HEADERS_TOO_LARGE: "Answer’s headers too large",
    ErrorClass.WORKER_LOST: "Worker was lost",
    ErrorClass.EXPIRED: "Too old to be sent",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One incident, ready to be shown."""

    incident: Incident
    endpoint: str
    url: str
    what: str
    hint: str
    # The failed deliveries themselves.
    href: str
    spark: Markup


def rows_of(incidents: Sequence[Incident], caller: Caller, *, span_name: str, span_words: str) -> list[Row]:
    """Return the rows; an endpoint that was deleted needs nobody's attention any more."""
    rows: list[Row] = []
    for incident in incidents:
        if incident.deleted:
            continue
        _, hint = explain(ErrorClass(incident.error_class))
        endpoint = ids.to_text(ids.ENDPOINT, incident.endpoint_id)
        rows.append(
            Row(
                incident=incident,
                endpoint=endpoint,
                url=shown_url(incident.url, caller),
                what=_SHORTLY[ErrorClass(incident.error_class)],
                hint=hint,
                href=address(
                    "/dashboard/deliveries",
                    {"range": span_name, "endpoint": endpoint, "code": incident.error_class},
                ),
                spark=spark(
                    incident.sparks,
                    "bad",
                    says=f"Failures of this kind over the {span_words}: {incident.count:,}, oldest on the left.",
                ),
            )
        )
    return rows
