"""`docs/reference/cli.md`, made from the commands themselves: `python -m app.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.main import get_command

from app.cli import cli
from app.cli.outcome import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """\
# The `bellwire` command

Made from the code by `python -m app.cli.reference`; a test holds the two together.

On a terminal a command prints tables and sentences; piped, or with `--json`, one JSON document. Answers go to
standard output; errors and hints go to standard error.

## Where it looks

Settings are the environment variables of the server (`BELLWIRE_DATABASE_URL`, `BELLWIRE_BROKER_URL`, ...).
Commands that use the REST API take its address from `BELLWIRE_URL` (else `http://127.0.0.1:8400`, or the port
of `BELLWIRE_PORT`) and the key from `BELLWIRE_API_KEY`.

Where nothing of this is set, a command uses what `bellwire dev` keeps in `.bellwire/` of the current folder (or
the folder that `BELLWIRE_DATA_DIR` names): the embedded database and broker, the encryption key, and the API
key. So in the folder of `make run` everything is found. The kept API key is for the server beside it: it is
never sent to an address that you name.

## Exit codes

| code | meaning |
|---|---|
"""


def reference() -> str:
    """Return the page, in Markdown."""
    codes = "".join(f"| {code.value} | {code.meaning} |\n" for code in ExitCode)
    root = get_command(cli)
    sections = "".join(_section(path, command) for path, command in _commands("bellwire", root))
    return f"{_HEAD}{codes}\n## Commands\n{sections}"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with the words that call it."""
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        yield from _commands(f"{path} {name}", child)


def _section(path: str, command: Any) -> str:
    context = typer.Context(command, info_name=path)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    rows = "".join(
        f"| `{_cell(names)}` | {_cell(help_)} |\n"
        for names, help_ in filter(None, (param.get_help_record(context) for param in command.params))
    )
    table = f"\n| option or argument | meaning |\n|---|---|\n{rows}" if rows else ""
    text = " ".join((command.help or "").split())
    return f"\n### `{path}`\n\n{text}\n\n```\n{usage}\n```\n{table}"


def _cell(text: str) -> str:
    """Return a text for a cell of a table: on one line, with no bar that would end it."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
