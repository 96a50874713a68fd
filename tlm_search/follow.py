"""Import one module when another is imported, so that a committee registers with ``transformers`` at no cost.

Importing the models of ``transformers`` takes seconds, which ``tlm-search --help`` and the workers must avoid. So the
module that registers with ``transformers`` is imported right after the module that it registers in, and not at all if
that is never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_followers: dict[str, str] = {}


def import_after(leader: str, follower: str) -> None:
    """Import ``follower`` as soon as ``leader`` is imported; now, if that has happened."""
    if leader in sys.modules:
        import_module(follower)
        return
    _followers[leader] = follower
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """A finder that finds nothing itself: it lets the others find a leader, and adds a step to its loading."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        follower = _followers.pop(fullname, None)
        spec = None if follower is None else find_spec(fullname)
        if follower is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_both(module: ModuleType) -> None:
            execute(module)
            import_module(follower)

        spec.loader.exec_module = execute_both  # type: ignore[method-assign]
        return spec
