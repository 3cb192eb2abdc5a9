"""The dashboard's own style, script and icon, served from here: their addresses change with their content.

The script is a handful of modules that import each other by relative names, so the version of all of them is a part of
the path: what a module imports has the version of the module. The page names those that every page needs, and the
browser asks for all of them at once.
"""

import gzip
import hashlib
import re
from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import header_of
from app.core.errors import NotFound

router = APIRouter(include_in_schema=False)

_STATIC = files("app.dashboard") / "static"
_TYPES = {"svg": "image/svg+xml", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_FILES = ("dashboard.css", "icon.svg")
_MODULES = tuple(sorted(part.name for part in (_STATIC / "script").iterdir() if part.name.endswith(".js")))
_ENTRY = "dashboard.js"
_IMPORTED = re.compile(r'^import (?:.* from )?"\./(?P<name>[a-z-]+\.js)";$', re.MULTILINE)
_KEPT, _ASKED_ANEW = "public, max-age=31536000, immutable", "no-cache"


@lru_cache(maxsize=len(_FILES) + len(_MODULES))
def _content(name: str) -> tuple[bytes, bytes]:
    if name == "dashboard.css":
        parts = sorted((_STATIC / "style").iterdir(), key=lambda part: part.name)
        plain = b"\n".join(part.read_bytes() for part in parts)
    else:
        plain = (_STATIC / ("script" if name in _MODULES else "") / name).read_bytes()
    return plain, gzip.compress(plain, mtime=0)


def _version(*names: str) -> str:
    return hashlib.sha256(b"".join(_content(name)[0] for name in names)).hexdigest()[:12]


@lru_cache(maxsize=len(_FILES))
def asset(name: str) -> str:
    """Return the address of a file of ours."""
    return f"/static/{name}?v={_version(name)}"


@lru_cache(maxsize=1)
def scripts() -> tuple[str, ...]:
    """Return the addresses of the modules that every page loads: first the one that starts, then what that imports."""
    names = [_ENTRY]
    for name in names:
        imported = _IMPORTED.findall(_content(name)[0].decode())
        names += [each for each in imported if each not in names]
    version = _version(*_MODULES)
    return tuple(f"/static/script/{version}/{name}" for name in names)


@router.get("/static/{name}")
async def get_asset(name: str, request: Request) -> Response:
    """Return the style or the icon."""
    if name not in _FILES:
        raise NotFound(f"There is no file {name[:64]!r} here. Pages name the files that they need.")
    return _answer(name, request, current=request.query_params.get("v") == _version(name))


@router.get("/static/script/{version}/{name}")
async def get_script(version: str, name: str, request: Request) -> Response:
    """Return a part of the script."""
    if name not in _MODULES:
        raise NotFound(f"There is no script {name[:64]!r} here. Pages name the files that they need.")
    return _answer(name, request, current=version == _version(*_MODULES))


def _answer(name: str, request: Request, *, current: bool) -> Response:
    plain, packed = _content(name)
    # A page of another release asks for another content: this one must not be kept in its place.
    headers = {"Cache-Control": _KEPT if current else _ASKED_ANEW, "Vary": "Accept-Encoding"}
    if "gzip" in (header_of(request, b"accept-encoding") or ""):
        headers["Content-Encoding"] = "gzip"
        plain = packed
    return Response(plain, media_type=_TYPES[name.rsplit(".", 1)[1]], headers=headers)
