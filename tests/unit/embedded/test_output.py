"""What the supervisor writes on the terminal."""

from __future__ import annotations

import asyncio
import io

import pytest

from app.embedded.output import LINE_BYTES, Output


async def copied(*chunks: bytes, name: str = "api") -> str:
    """What is written of what a child says in these chunks."""
    stream, reader = io.StringIO(), asyncio.StreamReader()
    copying = asyncio.create_task(Output(stream).copy(reader, name=name))
    for chunk in chunks:
        reader.feed_data(chunk)
        await asyncio.sleep(0)
    reader.feed_eof()
    await copying
    return stream.getvalue()


@pytest.mark.parametrize(
    "chunks",
    [(b"one\ntwo\n",), (b"o", b"ne\nt", b"wo\n"), (b"one\n", b"two")],
    ids=["at once", "in pieces", "without an end"],
)
async def test_each_line_has_the_name_of_who_says_it(chunks: tuple[bytes, ...]) -> None:
    """Lines are whole, however they arrive."""
    assert await copied(*chunks) == "api      │ one\napi      │ two\n"


async def test_a_line_without_end_does_not_grow_for_ever() -> None:
    """A child that never ends its line cannot fill the supervisor's memory: the line is broken."""
    text = await copied(*[b"x" * LINE_BYTES] * 4)

    assert text.count("x") == 4 * LINE_BYTES
    assert max(len(line) for line in text.splitlines()) <= 3 * LINE_BYTES


async def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    """Nothing that a child writes can end the copying."""
    assert await copied(b"caf\xc3\xa9 \xff\n") == "api      │ café \N{REPLACEMENT CHARACTER}\n"


def test_names_are_coloured_on_a_terminal_only() -> None:
    """A file or a pipe gets plain text."""
    terminal, file = io.StringIO(), io.StringIO()

    Output(terminal, colour=True).write("api", "up")
    Output(file).write("api", "up")

    assert terminal.getvalue() == "\x1b[36mapi     \x1b[0m │ up\n"
    assert file.getvalue() == "api      │ up\n"


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`make run | head` ends the reading, not the running."""

    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    output = Output(Broken())

    output.say("nobody hears this")
    output.say("nor this")

    assert output.closed
