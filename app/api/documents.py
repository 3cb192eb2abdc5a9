"""`/openapi.json`, `/docs` and `/problems/{slug}`: pages of this server, made once and open to everybody."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Self

import orjson
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.api.html import Html, join, page, prose, tag
from app.api.openapi import describe
from app.api.problem_types import PROBLEM_TYPES, ProblemType, find_problem_type
from app.api.reference import render_reference
from app.api.theme import theme_of
from app.core.errors import NotFound

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
# How every page of `app.api.html` begins; the colours are put in here, since the pages are made once for all.
_ROOT = b'<html lang="en">'

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Documents:
    """What is made of the routes, once per process."""

    openapi: bytes
    reference: bytes

    @classmethod
    def of(cls, app: FastAPI, *, base_url: str) -> Self:
        """Describe an application."""
        document = describe(app)
        return cls(openapi=orjson.dumps(document), reference=render_reference(document, base_url=base_url))


@router.get("/openapi.json")
async def get_openapi_document(request: Request) -> Response:
    """Return the OpenAPI 3.1 document."""
    return Response(_documents(request).openapi, media_type="application/json", headers=_PAGE_HEADERS)


@router.get("/docs")
async def get_reference(request: Request) -> Response:
    """Return the reference, as a page."""
    return _html(_documents(request).reference, request)


@router.get("/docs/reference.css")
async def get_style() -> Response:
    """Return the style of these pages."""
    return Response(_style(), media_type="text/css; charset=utf-8", headers=_PAGE_HEADERS)


@router.get("/problems")
async def list_problems(request: Request) -> Response:
    """Return all kinds of problem, as a page."""
    rows = [
        tag(
            "tr",
            tag("td", tag("code", str(kind.status))),
            tag("td", tag("a", kind.slug, href=f"/problems/{kind.slug}")),
            tag("td", kind.title),
        )
        for kind in PROBLEM_TYPES
    ]
    heads = tag("thead", tag("tr", [tag("th", name, scope="col") for name in ("Status", "Type", "Title")]))
    return _html(
        page(
            title="Problems of the Bellwire API",
            main=join([tag("h1", "Problems"), tag("table", heads, tag("tbody", rows)), _back()]),
        ),
        request,
    )


@router.get("/problems/{slug}")
async def get_problem(slug: str, request: Request) -> Response:
    """Return what one kind of problem means and what to do about it, as a page."""
    kind = find_problem_type(slug)
    if kind is None:
        raise NotFound(f"There is no problem type {slug!r}. All of them are listed at /problems.")
    return _html(_problem_page(kind), request)


@router.get("/")
async def get_root() -> Response:
    """Lead who opens the bare address to the dashboard; who is not signed in gets to the door from there."""
    return RedirectResponse("/dashboard/", status_code=307)


def _problem_page(kind: ProblemType) -> bytes:
    main = join(
        [
            tag("h1", kind.title),
            tag(
                "p",
                "Status ",
                tag("code", str(kind.status)),
                ", type ",
                tag("code", f"/problems/{kind.slug}"),
            ),
            tag("dl", [[tag("dt", head), tag("dd", prose(text))] for head, text in _parts(kind)]),
            _back(),
        ]
    )
    return page(title=f"{kind.title} – Bellwire", main=main)


def _parts(kind: ProblemType) -> tuple[tuple[str, str], ...]:
    return (("What happened", kind.what), ("Why", kind.why), ("What to do next", kind.next_step))


def _back() -> Html:
    return tag(
        "p",
        tag("a", "Dashboard", href="/dashboard/"),
        " · ",
        tag("a", "API reference", href="/docs"),
        " · ",
        tag("a", "All problems", href="/problems"),
    )


def _documents(request: Request) -> Documents:
    state = request.app.state
    if not hasattr(state, "documents"):
        state.documents = Documents.of(request.app, base_url=state.settings.public_url)
    documents: Documents = state.documents
    return documents


def _html(content: bytes, request: Request) -> Response:
    theme = theme_of(request)
    if theme is not None:
        content = content.replace(_ROOT, _ROOT[:-1] + f' data-theme="{theme}">'.encode(), 1)
    headers = _PAGE_HEADERS | {"Vary": "Cookie"}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@lru_cache(maxsize=1)
def _style() -> bytes:
    return (files("app.api") / "static" / "reference.css").read_bytes()
