"""``tlm-search schema``: the JSON Schema of a space file."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of a space file. Editors complete and check spaces with it."""
    from tlm_search.space.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
