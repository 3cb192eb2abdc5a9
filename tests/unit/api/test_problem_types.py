"""The kinds of problem: a contract with clients."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import app
from app.api.problem_types import PROBLEM_TYPES, find_problem_type
from app.core.errors import RequestError

ROOT = Path(app.__file__).parent


def slugs_in_the_code():
    """Yield every slug that code raises: `slug="..."` and `slug = "..."`, with its file."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.keyword) and node.arg == "slug"
            assigned = isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "slug" for target in node.targets
            )
            value = node.value if named or assigned else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value, path.relative_to(ROOT)


def test_every_slug_that_is_raised_has_a_page():
    """A new error cannot be raised without a status and a page."""
    missing = {(slug, str(path)) for slug, path in slugs_in_the_code() if find_problem_type(slug) is None}
    assert missing == set()


def test_every_class_of_error_has_a_page():
    """The default slug of each RequestError is known."""

    def all_below(kind):
        return [kind, *(inner for child in kind.__subclasses__() for inner in all_below(child))]

    assert {kind.slug for kind in all_below(RequestError)} <= {kind.slug for kind in PROBLEM_TYPES}


@pytest.mark.parametrize("kind", PROBLEM_TYPES, ids=lambda kind: kind.slug)
def test_page_says_what_why_and_what_next(kind):
    """Each text is made of whole sentences."""
    assert 400 <= kind.status < 600
    assert not kind.title.endswith(".")
    for text in (kind.what, kind.why, kind.next_step):
        assert text.endswith(".")


def test_slugs_are_unique():
    """One slug, one meaning."""
    slugs = [kind.slug for kind in PROBLEM_TYPES]
    assert len(slugs) == len(set(slugs))
