"""`bellwire users` straight in the database."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from app.access.tokens import digest_of
from app.core import ids
from tests.integration.cli.test_keys import (  # noqa: F401 - fixtures
    FIRST,
    SECOND,
    database,
    execute,
    workspace,
)

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Run

OWNER = "ada@example.com"


def create(run: Run, *arguments: str, email: str = OWNER, role: str = "owner") -> dict[str, Any]:
    """Add a person; return what was shown."""
    result = run("users", "create", "--email", email, "--role", role, *arguments)
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def token_of(link: dict[str, Any]) -> str:
    return str(link["url"]).rpartition("/login/link/")[2]


def test_the_first_owner_has_a_link_and_no_password(run: Run, workspace: str) -> None:  # noqa: F811
    """What is printed is the link whose digest is stored; there is no password that somebody could know."""
    person = create(run, "--name", "Ada")

    assert (person["email"], person["role"], person["has_password"]) == (OWNER, "owner", False)
    token = token_of(person["login_link"])
    assert execute(workspace, "SELECT digest FROM login_links") == [(digest_of(token),)]
    assert execute(workspace, "SELECT password_hash FROM users") == [(None,)]


def test_the_link_leads_to_the_public_address(
    run: Run,
    workspace: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BELLWIRE_BASE_URL, where people reach the API; without it the usual place on this machine."""
    here = create(run)["login_link"]["url"]
    monkeypatch.setenv("BELLWIRE_BASE_URL", "https://hooks.example.com/")
    there = json.loads(run("users", "link", OWNER).stdout)["url"]

    assert re.fullmatch(r"http://127\.0\.0\.1:8400/login/link/[\w-]{43}", here)
    assert re.fullmatch(r"https://hooks\.example\.com/login/link/[\w-]{43}", there)


def test_who_is_locked_out_gets_a_new_link(run: Run, workspace: str) -> None:  # noqa: F811
    """By address or id; the earlier link is gone, and the audit log names the command line."""
    person = create(run)

    token = token_of(json.loads(run("users", "link", person["id"]).stdout))

    assert execute(workspace, "SELECT digest FROM login_links") == [(digest_of(token),)]
    assert execute(workspace, "SELECT actor_kind, action FROM audit_log ORDER BY action") == [
        ("command_line", "login_link.created"),
        ("command_line", "login_link.created"),
        ("command_line", "user.created"),
    ]


def test_people_are_listed_without_a_secret(run: Run, workspace: str) -> None:  # noqa: F811
    """Newest first, and no link."""
    link = create(run)["login_link"]
    create(run, email="bea@example.com", role="viewer")

    listed = run("users", "list").stdout

    assert [row["email"] for row in json.loads(listed)["data"]] == ["bea@example.com", OWNER]
    assert token_of(link) not in listed


def test_people_are_disabled_enabled_and_given_roles(run: Run, workspace: str) -> None:  # noqa: F811
    """Each of these ends the sessions where it takes something away."""
    create(run)
    person = create(run, email="bea@example.com", role="viewer")
    execute(
        workspace,
        "INSERT INTO sessions (id, workspace_id, user_id, digest, method, expires_at)"
        " SELECT id, workspace_id, id, '\\x00', 'link', now() + interval '1 h' FROM users WHERE email = %s",
        "bea@example.com",
    )

    disabled = json.loads(run("users", "disable", "bea@example.com").stdout)
    refused = run("users", "link", "bea@example.com")
    enabled = json.loads(run("users", "enable", person["id"]).stdout)
    promoted = json.loads(run("users", "role", "bea@example.com", "owner").stdout)

    assert (disabled["disabled"], enabled["disabled"], promoted["role"]) == (True, False, "owner")
    assert execute(workspace, "SELECT count(*) FROM sessions") == [(0,)]
    assert refused.exit_code == 1
    assert "Enable the person first" in refused.stderr


@pytest.mark.parametrize("named_by", ["id", "email"])
def test_a_person_is_removed(run: Run, workspace: str, named_by: str) -> None:  # noqa: F811
    """With sessions and links, only after --yes where nobody can be asked; the log keeps who it was."""
    create(run)
    person = create(run, email="bea@example.com", role="viewer")

    asked = run("users", "delete", person[named_by])
    removed = run("users", "delete", person[named_by], "--yes")
    again = run("users", "delete", person[named_by], "--yes")

    assert (asked.exit_code, removed.exit_code, again.exit_code) == (2, 0, 4)
    assert "Add --yes" in asked.stderr
    assert json.loads(removed.stdout) == {"id": person["id"], "email": "bea@example.com", "deleted": True}
    assert execute(workspace, "SELECT email FROM users") == [(OWNER,)]
    assert execute(
        workspace, "SELECT actor_kind, before->>'email' FROM audit_log WHERE action = 'user.deleted'"
    ) == [("command_line", "bea@example.com")]


@pytest.mark.parametrize(("command", "more"), [("disable", ()), ("role", ("admin",)), ("delete", ("--yes",))])
def test_the_last_owner_stays_here_too(
    run: Run,
    workspace: str,  # noqa: F811
    command: str,
    more: tuple[str, ...],
) -> None:
    """A sentence that says what to do first; exit code 1, and nothing is changed."""
    create(run)

    result = run("users", command, OWNER, *more)

    assert result.exit_code == 1
    assert "Make somebody else an owner first" in result.stderr
    assert execute(workspace, "SELECT role, disabled_at FROM users") == [("owner", None)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "--email", "nonsense", "--role", "owner"), 2, "ada@example.com"),
        (("create", "--email", OWNER, "--role", "emperor"), 2, ""),
        (("create", "--email", OWNER, "--role", "owner", "--name", "x" * 300), 2, "--name"),
        (("link", "nobody@example.com"), 4, "bellwire users list"),
        (("disable", "usr_nonsense"), 4, "bellwire users list"),
    ],
)
def test_what_cannot_be_done(
    run: Run,
    workspace: str,  # noqa: F811
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    """Wrong usage is 2, nobody of that name 4, each with a next step; nobody is added."""
    result = run("users", *arguments)

    assert result.exit_code == code
    assert words in result.stderr
    assert execute(workspace, "SELECT count(*) FROM users") == [(0,)]


def test_an_address_that_is_taken(run: Run, workspace: str) -> None:  # noqa: F811
    """Exit code 1, in whatever case it is written."""
    create(run)

    result = run("users", "create", "--email", OWNER.upper(), "--role", "viewer")

    assert result.exit_code == 1
    assert "already" in result.stderr


def test_with_several_workspaces_one_is_named(run: Run, workspace: str) -> None:  # noqa: F811
    """People of another workspace are not found."""
    execute(workspace, "INSERT INTO workspaces (id, name) VALUES (%s, 'Second')", SECOND)
    first, second = (ids.to_text(ids.WORKSPACE, one) for one in (FIRST, SECOND))
    create(run, "--workspace", first)

    assert run("users", "list").exit_code == 2
    assert run("users", "link", OWNER, "--workspace", second).exit_code == 4
    assert run("users", "link", OWNER, "--workspace", first).exit_code == 0
