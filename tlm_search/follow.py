"""Import one module right after another, so that a committee registers with ``transformers`` only if that is used.

Importing the models of ``transformers`` takes seconds, which ``tlm-search --help`` and the workers must avoid. So the
module that registers a committee is imported right after the module that it registers in.
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
    """Import ``follower`` right after ``leader`` is imported, or now if it already is."""
    if leader in sys.modules:
        import_module(follower)
        return
    _followers[leader] = follower
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Lets the other finders find a leader, and adds the import of the follower to its loading."""

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
