"""``tlm-search validate``: the resolved space, and what its study would cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.cli.options import Overrides, overrides_of

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.members.plan import Plan
    from tlm_search.space.parameters import Searched
    from tlm_search.space.schema import Space


def validate(
    space: Annotated[Path, typer.Argument(metavar="SPACE", help="The YAML file of a space.")],
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    set_: Overrides = None,
) -> None:
    """Check a space; print what it resolves to and what it would cost at most."""
    from rich.console import Console

    from tlm_search.members.plan import DataSizes, plan
    from tlm_search.space.load import load_space

    loaded = load_space(space, overrides=overrides_of(set_))
    costs = plan(loaded, DataSizes.of_space(loaded))
    if json_:
        print(json.dumps({"space": loaded.to_document(), "cost": costs.to_document()}, indent=2))
        return
    console = Console(highlight=False)
    for table in (sections_table(loaded), settings_table(loaded), cost_table(costs, loaded.budget.trials)):
        console.print(table)
        console.print()
    console.print(f"If nothing is in the store yet and {_joined(costs.assumptions)}.", markup=False, soft_wrap=True)


def sections_table(space: Space) -> Table:
    """Lay out all sections but ``search``."""
    document = space.to_document()
    table = _table(f"study {space.name}", "section", "value")
    for name in (key for key in document if key not in ("name", "search")):
        table.add_row(*_cells(name, _text(document[name])))
    return table


def settings_table(space: Space) -> Table:
    """Lay out the settings: what is searched and fixed, and in which role."""
    searched = space.searched()
    table = _table("settings", "setting", "value", "role", "when")
    for name, parameter in searched.items():
        when = _joined(f"{parent} is {_listed(values)}" for parent, values in parameter.when.items())
        table.add_row(*_cells(name, _domain(parameter), parameter.role, when))
    for name, value in space.fixed().items():
        table.add_row(*_cells(name, str(value), "fixed", ""))
    for name, value in _defaults(space).items():
        table.add_row(*_cells(name, str(value), "default", ""), style="dim")
    return table


def cost_table(costs: Plan, trials: int) -> Table:
    """Lay out the plan: a row for each measure."""
    table = _table(f"cost of {trials} trials", "measure", "reference", "at least", "expected", "at most")
    columns = (costs.reference, costs.at_least, costs.expected, costs.at_most)
    for name in costs.at_most.__dataclass_fields__:
        table.add_row(*_cells(name.replace("_", " "), *(short(getattr(column, name)) for column in columns)))
    return table


def short(number: float) -> str:
    """Write a number with three digits and a unit: 1234567 is 1.23 M."""
    for power, unit in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:.3g}"


def _defaults(space: Space) -> dict[str, Any]:
    from tlm_search.space.checks import SHAPE
    from tlm_search.space.settings import SETTINGS

    others = {name: setting for name, setting in SETTINGS.items() if name not in {**space.searched(), **space.fixed()}}
    derived = "width = heads x head_size"
    return {name: derived if name in SHAPE else setting.default for name, setting in others.items()}


def _domain(parameter: Searched) -> str:
    from tlm_search.space.parameters import Choices

    if isinstance(parameter, Choices):
        return _listed(parameter.choices)
    step = "" if parameter.step is None else f" in steps of {parameter.step:g}"
    return f"{parameter.low:g} to {parameter.high:g}{step}{', log scale' if parameter.log else ''}"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    return table


def _cells(*texts: str) -> list[Any]:
    from rich.text import Text

    return [Text(text) for text in texts]  # what the user wrote is no markup


def _text(value: Any) -> str:
    if isinstance(value, dict):
        given = {key: item for key, item in value.items() if item is not None}
        return ", ".join(f"{key} {_text(item)}" for key, item in given.items())
    if isinstance(value, list | tuple):
        return "; ".join(_text(item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)


def _joined(parts: Iterable[str]) -> str:
    return " and ".join(parts)
