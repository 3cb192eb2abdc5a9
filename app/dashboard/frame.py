"""What templates of the dashboard find beside what their page gives them."""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import urlencode

from app.api import templating
from app.dashboard import words
from app.dashboard.assets import asset, scripts
from app.dashboard.json_view import json_html

# Key of the page, path below /dashboard, what it is called, the letter that goes there after `g`.
NAVIGATION: tuple[tuple[str, str, str, str], ...] = (
    ("overview", "/", "Overview", "o"),
    ("events", "/events", "Events", "e"),
    ("deliveries", "/deliveries", "Deliveries", "d"),
    ("dead", "/dead", "Dead letters", "x"),
    ("live", "/live", "Live tail", "l"),
    ("endpoints", "/endpoints", "Endpoints", "p"),
    ("applications", "/applications", "Applications", "t"),
    ("keys", "/keys", "API keys", "k"),
    ("audit", "/audit", "Audit log", "a"),
    ("system", "/system", "System", "s"),
)
# Pages for admins only: who may not open one does not see it.
ADMIN_PAGES = frozenset({"keys", "audit", "people"})


def address(path: str, query: dict[str, str], /, **changes: str | None) -> str:
    """Return an address with some of its query changed; None takes a name out."""
    merged: dict[str, str | None] = {**query, **changes}
    kept = {name: value for name, value in merged.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path


def install() -> None:
    """Make the templates and their helpers known."""
    templating.extend(
        folder=str(files("app.dashboard") / "templates"),
        names={
            "NAVIGATION": NAVIGATION,
            "ADMIN_PAGES": ADMIN_PAGES,
            "address": address,
            "ago": words.ago,
            "asset": asset,
            "capped": words.capped,
            "json_html": json_html,
            "plural": words.plural,
            "scripts": scripts,
            "time_tag": words.time_tag,
        },
        filters=words.FILTERS,
    )
