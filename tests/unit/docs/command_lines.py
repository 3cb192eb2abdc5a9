"""Reading command lines as the real command does, without running them."""

from __future__ import annotations

import shlex

from typer.main import get_command

from app.cli import cli


def fault_of(line: str) -> str | None:
    """Return why `bellwire ...` would be refused as wrong usage, or None."""
    command = get_command(cli)
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "bellwire", line
    path = "bellwire"
    while commands := getattr(command, "commands", None):
        if not words or words[0] not in commands:
            return f"{path!r} has no command {words[:1]}"
        path = f"{path} {words[0]}"
        command = commands[words.pop(0)]
    try:
        command.make_context(path, words)
    except Exception as error:  # noqa: BLE001 - typer brings its own copy of click's errors
        return f"{path!r}: {getattr(error, 'message', error)}"
    return None


def fault_of_mention(text: str) -> str | None:
    """Return why `bellwire ...` in a sentence names nothing that exists, or None; arguments may be left out."""
    command = get_command(cli)
    for word in text.removeprefix("bellwire").split():
        if word.startswith("-"):
            known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
            if word not in known | {"--help"}:
                return f"{text!r}: there is no option {word}"
        elif commands := getattr(command, "commands", None):
            if word in {"…", "..."}:
                continue
            if word not in commands:
                return f"{text!r}: there is no command {word}"
            command = commands[word]
    return None
