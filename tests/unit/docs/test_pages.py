"""The documentation can be followed: links lead somewhere, commands parse, names exist, snippets compile."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from xml.etree import ElementTree as ET

import pytest

from app.api.openapi import describe
from app.core.settings import Settings
from app.main import create_app
from tests.unit.docs.command_lines import fault_of, fault_of_mention
from tests.unit.docs.conftest import PAGES, ROOT, Page

# Names that no setting of the server has, and the file in which each is read.
OTHER_NAMES = {
    "BELLWIRE_URL": "app/cli/surroundings.py",
    "BELLWIRE_API_KEY": "app/cli/surroundings.py",
    "BELLWIRE_DEMO_SECRET": "app/cli/surroundings.py",
    "BELLWIRE_WEBHOOK_SECRET": "app/cli/signatures.py",
    "BELLWIRE_IMAGE": "docker-compose.yml",
    "BELLWIRE_SECRET": "receiver/README.md",
    "BELLWIRE_OLD_SECRET": "receiver/README.md",
    "BELLWIRE_PUBLIC_KEY": "receiver/README.md",
}
SVG = "{http://www.w3.org/2000/svg}"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def lines_of(page: Page) -> list[str]:
    """The command lines of a page, each whole."""
    joined = "\n".join(page.blocks("sh")).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def anchor_of(heading: str) -> str:
    """What a heading is linked by."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_page
def test_links_lead_somewhere(page: Page) -> None:
    """Every relative link names a file that is there, and a heading in it."""
    folder = (ROOT / page.name).parent
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else ROOT / page.name
        if not file.is_file():
            missing.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(anchor_of, headings):
                missing.append(target)
    assert missing == []


@every_page
def test_commands_parse(page: Page) -> None:
    """Every `bellwire` line in a block is one that the command accepts."""
    calls = [
        line[line.index("bellwire") :]
        for line in lines_of(page)
        if re.match(r"(\.venv/bin/|docker compose exec api )?bellwire ", line)
    ]
    faults = [fault for line in calls if (fault := fault_of(line)) is not None]

    assert faults == []


@every_page
def test_commands_in_sentences_exist(page: Page) -> None:
    """`bellwire ...` in a sentence names a command, and options that it has."""
    mentioned = re.findall(r"`(bellwire [^`]+)`", page.prose)
    faults = [fault for text in mentioned if (fault := fault_of_mention(text)) is not None]

    assert faults == []


@every_page
def test_make_tasks_exist(page: Page) -> None:
    """`make ...` names a task of the Makefile."""
    tasks = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = [line.split()[1] for line in lines_of(page) if line.startswith("make ")]
    named += re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", page.prose)

    assert set(named) <= set(tasks)


@every_page
def test_settings_exist(page: Page) -> None:
    """Every BELLWIRE_ name is a setting, or one of the few others."""
    named = set(re.findall(r"\bBELLWIRE_[A-Z_]*[A-Z]\b", page.text))
    settings = {f"BELLWIRE_{name.upper()}" for name in Settings.model_fields}

    assert named - settings - OTHER_NAMES.keys() == set()


@pytest.mark.parametrize(("name", "file"), OTHER_NAMES.items())
def test_other_names_are_read(name: str, file: str) -> None:
    """A name that is no setting is read where we say."""
    assert name in (ROOT / file).read_text(encoding="utf-8")


def test_there_is_something_to_read() -> None:
    """Blocks of Python and bodies for curl are found, so the two tests below look at something."""
    assert sum(len(list(page.blocks("python"))) for page in PAGES) > 3
    assert sum("-d" in shlex.split(line) for page in PAGES for line in lines_of(page)) > 3


@every_page
def test_python_compiles(page: Page) -> None:
    """Every Python block is Python."""
    for code in page.blocks("python"):
        compile(code, page.name, "exec")


@every_page
def test_json_bodies_are_json(page: Page) -> None:
    """What curl sends with -d, and what is published with --data, can be read."""
    for line in lines_of(page):
        words = shlex.split(line)
        for option, value in itertools.pairwise(words):
            if option in {"-d", "--data"}:
                json.loads(value)


@every_page
def test_routes_exist(page: Page) -> None:
    """Every `GET /v1/...` in a sentence and every address in a block is a route of the API."""
    paths = describe(create_app(Settings.model_construct()))["paths"]
    routes = {
        (method.upper(), re.sub(r"\{\w+\}", "*", path))
        for path, operations in paths.items()
        for method in operations
    } | {("GET", "/openapi.json"), ("GET", "/docs")}
    named = re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`?\s]*)", page.prose)
    for line in lines_of(page):
        if found := re.search(r"http://127\.0\.0\.1:8400(/[^\s?'\"]*)", line):
            named.append(("POST" if "-X POST" in line else "GET", found[1]))
    wanted = {
        (method, re.sub(r"\{\w+\}|(?<=/)[a-z]+_[0-9a-z]{26}(?=/|$)", "*", path)) for method, path in named
    }

    assert wanted - routes == set()


def test_the_index_lists_every_page() -> None:
    """docs/README.md links to everything below docs/."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w/.-]+\.md)\)", index))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} - {"README.md"}

    assert there - linked == set()


def test_decisions_have_their_four_parts() -> None:
    """Context, Decision, Consequences, What was measured; numbered without a gap."""
    decisions = [page for page in PAGES if page.name.startswith("docs/decisions/")]

    assert [page.name.split("/")[-1][:4] for page in decisions] == [
        f"{n:04}" for n in range(1, len(decisions) + 1)
    ]
    for page in decisions:
        headings = re.findall(r"^## (.+)$", page.text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "What was measured"], page.name


def test_the_picture_stands_alone() -> None:
    """The SVG has a text for those who do not see it, a dark form, and loads nothing."""
    source = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    picture = ET.fromstring(source)  # noqa: S314 - our own file

    labels = picture.attrib["aria-labelledby"].split()
    texts = {
        element.get("id"): element.text for element in picture if element.tag in {f"{SVG}title", f"{SVG}desc"}
    }
    assert all(texts[label] for label in labels)
    assert "@media (prefers-color-scheme: dark)" in source
    assert re.findall(r"(?:href|src)=|url\((?!#)", source) == []
