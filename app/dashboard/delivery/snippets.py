"""Code to verify a request with, in the languages that receivers are written in: files that tests run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

_NAMES = {
    "python.py.txt": "Python",
    "shell.sh.txt": "Shell, openssl",
    "node.mjs.txt": "Node.js",
    "go.go.txt": "Go",
    "ruby.rb.txt": "Ruby",
    "php.php.txt": "PHP",
    "java.java.txt": "Java",
    "csharp.cs.txt": "C#, .NET 8",
    "rust.rs.txt": "Rust",
}


@dataclass(frozen=True, slots=True)
class Snippet:
    """One language's code; `key` names it in the page."""

    key: str
    language: str
    code: str


@lru_cache(maxsize=2)
def snippets(kind: str) -> tuple[Snippet, ...]:
    """Return the code for a kind of signature, `hmac` or `ed25519`."""
    folder = files("app.dashboard") / "templates" / "dashboard" / "delivery" / "verify" / kind
    found = {part.name: part for part in folder.iterdir()}
    return tuple(
        Snippet(key=name.partition(".")[0], language=language, code=found[name].read_text())
        for name, language in _NAMES.items()
        if name in found
    )
