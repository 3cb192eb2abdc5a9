"""Makes a worker die of one payload: Python loads this when PYTHONPATH names the folder.

The process ends at once, as with a fault in C code, when it is about to send a body that holds POISON.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_POISON = os.environ["POISON"].encode()
_MODULE = "workers.sender"


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module that sends, and has it changed when it was loaded."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            _poison(module.Sender)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def _poison(sender: Any) -> None:
    send = sender.send

    async def send_or_die(self: Any, claimed: Any, *, settings: Any, event: Any, deadline: float) -> Any:
        if _POISON in event.encoded(settings.format):
            os._exit(1)
        return await send(self, claimed, settings=settings, event=event, deadline=deadline)

    sender.send = send_or_die


sys.meta_path.insert(0, _Finder())
