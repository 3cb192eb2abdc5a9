"""The pages of the documentation, and what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `name` is its path in the repository."""

    name: str
    text: str

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    def blocks(self, *languages: str) -> list[str]:
        """Return the blocks of code in these languages."""
        return [
            re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
            for found in _FENCE.finditer(self.text)
            if found["language"] in languages
        ]

    def snippet(self, name: str) -> str:
        """Return the Python block that a comment names."""
        (found,) = re.findall(rf"<!-- {name} -->\n```python\n(.*?)```", self.text, re.DOTALL)
        return str(found)


def read_page(name: str) -> Page:
    """Return one page."""
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


PAGES = [
    read_page(str(path.relative_to(ROOT)))
    for path in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        ROOT / "receiver" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
]
