"""Secrets and ports that are chosen once."""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

from app.embedded.kept import choose_port, keep_text, kept_port, kept_secret, port_is_free

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    """The second call returns what the first one made."""
    made = iter(["first", "second"])

    secrets = [kept_secret(tmp_path / "deep" / "secret", make=lambda: next(made)) for _ in range(2)]

    assert secrets == ["first", "first"]


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else can read it, not even after its mode was loosened by hand."""
    path = tmp_path / "secret"
    kept_secret(path, make=lambda: "hidden")
    path.chmod(0o644)

    kept_secret(path, make=lambda: "hidden")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_file_is_not_a_secret(tmp_path: Path) -> None:
    """What a full disk or a hand left empty is made anew, never used as an empty secret."""
    (tmp_path / "secret").touch()

    assert kept_secret(tmp_path / "secret", make=lambda: "made") == "made"


def test_keeping_replaces_the_whole_file(tmp_path: Path) -> None:
    """A shorter text leaves nothing of the longer one, and no draft stays behind."""
    keep_text(tmp_path / "port", "12345")

    keep_text(tmp_path / "port", "80")

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("port", "80")]


def test_a_port_stays_the_same_while_it_is_free(tmp_path: Path) -> None:
    """Notes and bookmarks of a port stay right over restarts."""
    ports = {kept_port(tmp_path / "port") for _ in range(3)}

    assert len(ports) == 1


def test_a_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    """Another program on the kept port does not stop the start; the new choice is kept."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        keep_text(tmp_path / "port", str(taken))

        port = kept_port(tmp_path / "port")

        assert port != taken
        assert (tmp_path / "port").read_text() == str(port)


def test_a_damaged_port_file_is_replaced(tmp_path: Path) -> None:
    """A file that holds no number counts as none."""
    (tmp_path / "port").write_text("not a number")

    assert port_is_free(kept_port(tmp_path / "port"))


def test_chosen_ports_are_not_those_of_outgoing_connections() -> None:
    """Ports that the system gives to outgoing connections would be found taken again and again."""
    assert all(20_000 <= choose_port() < 30_000 for _ in range(50))
