"""Find the committee of tiny, shallow language models that does the work of a deep one.

``Space.load`` checks a space. ``Study.run`` and ``Study.open`` return a study, with its tables (``frontier``), its
choice (``best``) and ``export``. ``SoftCommittee.from_pretrained`` loads an export. Heavy packages are imported only
when they are needed.

``import tlm_search`` also lets the Auto classes and pipelines of ``transformers`` load exported committees, in either
order of the two imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tlm_search.follow import import_after

if TYPE_CHECKING:
    from tlm_search.api import Study
    from tlm_search.errors import TlmSearchError
    from tlm_search.export.modeling import SoftCommittee
    from tlm_search.space.schema import Space

__all__ = ["SoftCommittee", "Space", "Study", "TlmSearchError"]

_HOMES = {
    "SoftCommittee": "tlm_search.export.modeling",
    "Space": "tlm_search.space.schema",
    "Study": "tlm_search.api",
    "TlmSearchError": "tlm_search.errors",
}

import_after("transformers.models.auto.configuration_auto", "tlm_search.export.configuration")
import_after("transformers.models.auto.modeling_auto", "tlm_search.export.modeling")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
