"""The tables, one noun a file. Import from here."""

from app.core.roles import PersonRole, Role
from app.models.access import ApiKey, AuditEntry, IdempotencyKey, Workspace
from app.models.attempt import Attempt
from app.models.base import Base, OfEndpoint, OfWorkspace
from app.models.catalogue import (
    DEFAULT_APPLICATION_UID,
    OPERATIONS_APPLICATION_UID,
    Application,
    EventType,
)
from app.models.delivery import Delivery, QueuedDelivery
from app.models.endpoint import Endpoint, EndpointRuntime, EndpointSecret, Subscription
from app.models.event import Event, EventKey, Fanout
from app.models.operations import CircuitTransition, Notice
from app.models.people import LoginLink, SignInBucket, User, UserSession
from app.models.rollup import AttemptRollup, BacklogMinute, RollupProgress, SavedView, Undelivered
from app.models.scope import OutsideTheWorkspace, confine
from app.models.worker import WorkerHeartbeat

__all__ = [
    "DEFAULT_APPLICATION_UID",
    "OPERATIONS_APPLICATION_UID",
    "ApiKey",
    "Application",
    "Attempt",
    "AttemptRollup",
    "AuditEntry",
    "BacklogMinute",
    "Base",
    "CircuitTransition",
    "Delivery",
    "Endpoint",
    "EndpointRuntime",
    "EndpointSecret",
    "Event",
    "EventKey",
    "EventType",
    "Fanout",
    "IdempotencyKey",
    "LoginLink",
    "Notice",
    "OfEndpoint",
    "OfWorkspace",
    "OutsideTheWorkspace",
    "PersonRole",
    "QueuedDelivery",
    "Role",
    "RollupProgress",
    "SavedView",
    "SignInBucket",
    "Subscription",
    "Undelivered",
    "User",
    "UserSession",
    "WorkerHeartbeat",
    "Workspace",
    "confine",
]
