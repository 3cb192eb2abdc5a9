"""`python -m app.cli` is `bellwire`, with the Python that one chooses."""

from __future__ import annotations

from app.cli import main

main()
