"""One working request for every route that changes or reveals something, for tests that walk all of them.

A route that is in the OpenAPI document and in neither table makes the tests fail: whoever adds one says here how it is
called, or why its use is not on record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.integration.api.conftest import INSTANCE_KEY
from tests.integration.api.traffic import URL, Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Changes that are not in the audit log, and why.
EXEMPT = {
    "publish": "the event itself is the record: it keeps who it came from, when, and every attempt",
    "publish_batch": "as above",
}
# Routes that change nothing, but show what few may see.
REVEALING = {"get_secret", "export_audit_log"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and the action that it is to leave in the audit log."""

    action: str
    method: str
    path: str
    body: Any = None
    by_instance: bool = False


async def endpoint(traffic: Traffic, suffix: str = "", **fields: Any) -> str:
    """Make an endpoint; return a path below it."""
    return f"/v1/endpoints/{(await traffic.endpoint(**fields))['id']}{suffix}"


async def with_call(traffic: Traffic, suffix: str, call: str) -> str:
    """Make an endpoint, POST to a path below it, and return another path below it."""
    path = await endpoint(traffic)
    await traffic.post(f"{path}{call}", status=200)
    return f"{path}{suffix}"


async def delivery(traffic: Traffic, suffix: str) -> str:
    """Make a delivery that waits; return a path below it."""
    await traffic.endpoint()
    made = await traffic.delivery_of(await traffic.publish())
    return f"/v1/deliveries/{made['id']}{suffix}"


async def subscription(traffic: Traffic) -> str:
    """Make a second subscription; return its path."""
    path = await endpoint(traffic, "/subscriptions")
    made = await traffic.post(path, {"event_types": ["a.*"]}, status=201)
    return f"{path}/{made['id']}"


async def application(traffic: Traffic) -> str:
    """Make an application; return its path."""
    made = await traffic.post("/v1/applications", {"name": "Shop"}, status=201)
    return f"/v1/applications/{made['id']}"


async def event_type(traffic: Traffic) -> str:
    """Put an event type into the catalogue; return its path."""
    await traffic.post("/v1/event-types", {"name": "order.placed"}, status=201)
    return "/v1/event-types/order.placed"


async def api_key(traffic: Traffic) -> str:
    """Make an API key; return its path."""
    made = await traffic.post("/v1/api-keys", {"name": "CI", "role": "viewer"}, status=201)
    return f"/v1/api-keys/{made['id']}"


async def event(traffic: Traffic) -> str:
    """Publish an event; return its path."""
    return f"/v1/events/{(await traffic.publish())['id']}"


async def opened_circuit(traffic: Traffic) -> str:
    """Hold an endpoint's circuit open; return the path below it."""
    path = await endpoint(traffic, "/circuit")
    await traffic.post(f"{path}/open", status=200)
    return path


async def _erase(traffic: Traffic) -> Call:
    return Call("event.data_erased", "DELETE", f"{await event(traffic)}/data")


async def _retry(traffic: Traffic) -> Call:
    return Call("delivery.retried", "POST", await delivery(traffic, "/retry"))


async def _cancel(traffic: Traffic) -> Call:
    return Call("delivery.cancelled", "POST", await delivery(traffic, "/cancel"))


async def _create_endpoint(_: Traffic) -> Call:
    return Call("endpoint.created", "POST", "/v1/endpoints", {"url": URL})


async def _update_endpoint(traffic: Traffic) -> Call:
    return Call("endpoint.updated", "PATCH", await endpoint(traffic), {"description": "x"})


async def _delete_endpoint(traffic: Traffic) -> Call:
    return Call("endpoint.deleted", "DELETE", await endpoint(traffic))


async def _get_secret(traffic: Traffic) -> Call:
    return Call("endpoint.secret_revealed", "GET", await endpoint(traffic, "/secret"))


async def _rotate(traffic: Traffic) -> Call:
    return Call("secret.rotated", "POST", await endpoint(traffic, "/secret/rotate"))


async def _revoke(traffic: Traffic) -> Call:
    path = await with_call(traffic, "/secret/revoke-previous", "/secret/rotate")
    return Call("secret.previous_revoked", "POST", path)


async def _test(traffic: Traffic) -> Call:
    return Call("endpoint.tested", "POST", await endpoint(traffic, "/test"))


async def _enable(traffic: Traffic) -> Call:
    return Call("endpoint.enabled", "POST", await with_call(traffic, "/enable", "/disable"))


async def _disable(traffic: Traffic) -> Call:
    return Call("endpoint.disabled", "POST", await endpoint(traffic, "/disable"))


async def _pause(traffic: Traffic) -> Call:
    return Call("endpoint.paused", "POST", await endpoint(traffic, "/pause"))


async def _resume(traffic: Traffic) -> Call:
    return Call("endpoint.resumed", "POST", await with_call(traffic, "/resume", "/pause"))


async def _open_circuit(traffic: Traffic) -> Call:
    return Call("endpoint.circuit_opened", "POST", await endpoint(traffic, "/circuit/open"))


async def _close_circuit(traffic: Traffic) -> Call:
    return Call("endpoint.circuit_closed", "POST", f"{await opened_circuit(traffic)}/close")


async def _probe_circuit(traffic: Traffic) -> Call:
    return Call("endpoint.circuit_probed", "POST", f"{await opened_circuit(traffic)}/probe")


async def _create_subscription(traffic: Traffic) -> Call:
    path = await endpoint(traffic, "/subscriptions")
    return Call("subscription.created", "POST", path, {"event_types": ["a.*"]})


async def _update_subscription(traffic: Traffic) -> Call:
    return Call("subscription.updated", "PATCH", await subscription(traffic), {"event_types": ["b.*"]})


async def _delete_subscription(traffic: Traffic) -> Call:
    return Call("subscription.deleted", "DELETE", await subscription(traffic))


async def _create_application(_: Traffic) -> Call:
    return Call("application.created", "POST", "/v1/applications", {"name": "Shop"})


async def _update_application(traffic: Traffic) -> Call:
    return Call("application.updated", "PATCH", await application(traffic), {"name": "Other"})


async def _delete_application(traffic: Traffic) -> Call:
    return Call("application.deleted", "DELETE", await application(traffic))


async def _create_event_type(_: Traffic) -> Call:
    return Call("event_type.created", "POST", "/v1/event-types", {"name": "order.paid"})


async def _update_event_type(traffic: Traffic) -> Call:
    return Call("event_type.updated", "PATCH", await event_type(traffic), {"description": "x"})


async def _delete_event_type(traffic: Traffic) -> Call:
    return Call("event_type.deleted", "DELETE", await event_type(traffic))


async def _create_api_key(_: Traffic) -> Call:
    return Call("api_key.created", "POST", "/v1/api-keys", {"name": "CI", "role": "viewer"})


async def _revoke_api_key(traffic: Traffic) -> Call:
    return Call("api_key.revoked", "DELETE", await api_key(traffic))


async def _roll_api_key(traffic: Traffic) -> Call:
    return Call("api_key.rolled", "POST", f"{await api_key(traffic)}/roll")


async def _create_workspace(_: Traffic) -> Call:
    return Call("workspace.created", "POST", "/v1/workspaces", {"name": "Other"}, by_instance=True)


async def user(traffic: Traffic, suffix: str = "") -> str:
    """Invite a person; return a path below it."""
    made = await traffic.post("/v1/users", {"email": "ada@example.com", "role": "viewer"}, status=201)
    return f"/v1/users/{made['id']}{suffix}"


async def _invite_user(_: Traffic) -> Call:
    return Call("user.created", "POST", "/v1/users", {"email": "ada@example.com", "role": "viewer"})


async def _update_user(traffic: Traffic) -> Call:
    return Call("user.updated", "PATCH", await user(traffic), {"name": "Ada"})


async def _delete_user(traffic: Traffic) -> Call:
    return Call("user.deleted", "DELETE", await user(traffic))


async def _create_login_link(traffic: Traffic) -> Call:
    return Call("login_link.created", "POST", await user(traffic, "/login-link"))


async def _end_user_sessions(traffic: Traffic) -> Call:
    return Call("user.signed_out_everywhere", "DELETE", await user(traffic, "/sessions"))


async def _update_workspace(traffic: Traffic) -> Call:
    answer = await traffic.client.get("/v1/workspaces", headers={"Authorization": f"Bearer {INSTANCE_KEY}"})
    path = f"/v1/workspaces/{answer.json()['data'][0]['id']}"
    return Call("workspace.quotas_changed", "PATCH", path, {"quotas": {"endpoints": 100}}, by_instance=True)


async def _export_audit_log(_: Traffic) -> Call:
    return Call("audit_log.exported", "GET", "/v1/audit-log/export")


# By the operation's name in the OpenAPI document.
CALLS: dict[str, Callable[[Traffic], Awaitable[Call]]] = {
    "cancel_delivery": _cancel,
    "close_circuit": _close_circuit,
    "create_api_key": _create_api_key,
    "create_application": _create_application,
    "create_endpoint": _create_endpoint,
    "create_event_type": _create_event_type,
    "create_login_link": _create_login_link,
    "create_subscription": _create_subscription,
    "create_workspace": _create_workspace,
    "delete_application": _delete_application,
    "delete_endpoint": _delete_endpoint,
    "delete_event_type": _delete_event_type,
    "delete_subscription": _delete_subscription,
    "delete_user": _delete_user,
    "disable_endpoint": _disable,
    "enable_endpoint": _enable,
    "end_user_sessions": _end_user_sessions,
    "erase_event_data": _erase,
    "export_audit_log": _export_audit_log,
    "get_secret": _get_secret,
    "invite_user": _invite_user,
    "open_circuit": _open_circuit,
    "pause_endpoint": _pause,
    "probe_circuit": _probe_circuit,
    "resume_endpoint": _resume,
    "retry_delivery": _retry,
    "revoke_api_key": _revoke_api_key,
    "revoke_previous_secrets": _revoke,
    "roll_api_key": _roll_api_key,
    "rotate_secret": _rotate,
    "send_test": _test,
    "update_application": _update_application,
    "update_endpoint": _update_endpoint,
    "update_event_type": _update_event_type,
    "update_subscription": _update_subscription,
    "update_user": _update_user,
    "update_workspace": _update_workspace,
}
