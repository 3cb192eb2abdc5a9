"""The dashboard's own style and script, served from here: their addresses change with their content."""

import gzip
import hashlib
from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import header_of
from app.core.errors import NotFound

router = APIRouter(include_in_schema=False)

_TYPES = {"svg": "image/svg+xml", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_NAMES = ("dashboard.css", "dashboard.js", "dialogs.js", "live-tail.js", "icon.svg")


@lru_cache(maxsize=len(_NAMES))
def _content(name: str) -> tuple[bytes, bytes]:
    static = files("app.dashboard") / "static"
    if name == "dashboard.css":
        parts = sorted((static / "style").iterdir(), key=lambda part: part.name)
        plain = b"\n".join(part.read_bytes() for part in parts)
    else:
        plain = (static / name).read_bytes()
    return plain, gzip.compress(plain, mtime=0)


@lru_cache(maxsize=len(_NAMES))
def asset(name: str) -> str:
    """Return the address of a file of ours."""
    return f"/static/{name}?v={hashlib.sha256(_content(name)[0]).hexdigest()[:12]}"


@router.get("/static/{name}")
async def get_asset(name: str, request: Request) -> Response:
    """Return the style or the script."""
    if name not in _NAMES:
        raise NotFound(f"There is no file {name[:64]!r} here. Pages name the files that they need.")
    plain, packed = _content(name)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in (header_of(request, b"accept-encoding") or ""):
        headers["Content-Encoding"] = "gzip"
        plain = packed
    return Response(plain, media_type=_TYPES[name.rsplit(".", 1)[1]], headers=headers)
