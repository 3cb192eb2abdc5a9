"""`/dashboard/dead`."""

from __future__ import annotations

from app.dashboard.page import make_router

router = make_router()
