"""CEL's compiler, without the command line that its package brings along.

`import cel` also imports a terminal toolkit for a shell that nobody opens here: 7 MB in every process. The compiler is
one extension module, loaded from its file.
"""

from __future__ import annotations

from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from cel import Program


def _load() -> Any:
    package = find_spec("cel")
    places = package.submodule_search_locations if package is not None else None
    found = PathFinder.find_spec("cel.cel", places) if places else None
    if found is None or found.loader is None:
        return import_module("cel")  # Built in another way, or missing: then this says so.
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


compile_program: Callable[[str], Program] = _load().compile
