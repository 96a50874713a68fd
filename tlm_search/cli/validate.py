"""``tlm-search validate``: the resolved space, and the cost of its study."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.cli.options import STUDIES, DataDir, Overrides, StudiesDir, overrides_of

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.cost.plan import Plan
    from tlm_search.space.parameters import Searched
    from tlm_search.space.schema import Space


def validate(
    space: Annotated[Path, typer.Argument(metavar="SPACE", help="The YAML file of a space.")],
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    set_: Overrides = None,
    time: Annotated[
        bool,
        typer.Option(
            "--time", help="Prepare the data, time a few updates on this machine, and predict the time of the study."
        ),
    ] = False,
    studies_dir: StudiesDir = STUDIES,
    data_dir: DataDir = None,
) -> None:
    """Check a space; print the resolved space and the most that its study can cost."""
    from rich.console import Console

    from tlm_search.cost.plan import DataSizes, plan
    from tlm_search.data.rows import account_words
    from tlm_search.data.sources.place import not_here, use_data_dir
    from tlm_search.search.display import Display
    from tlm_search.space.schema import load_space

    loaded = load_space(space, overrides=overrides_of(set_))
    if loaded.is_own_trainer:
        from tlm_search.members.own import try_own  # slow to import

        try_own(loaded)
    if data_dir is not None:
        use_data_dir(data_dir)
    missing = not_here(loaded.sources())
    timing = None
    if time:
        with Display().steps() as say:
            timing = timed(loaded, studies_dir, say)
    costs = plan(loaded, DataSizes.of_space(loaded)) if timing is None else timing.plan
    if json_:
        document: dict[str, Any] = {
            "space": loaded.to_document(),
            "cost": None if loaded.is_own_trainer else costs.to_document(),
        }
        if timing is not None:
            document |= {"time": timing.to_document(), "rows": timing.rows}
        print(json.dumps(document, indent=2))
        return
    console = Console(highlight=False)
    soft = not console.is_terminal  # a terminal breaks lines between words
    tables = [sections_table(loaded), settings_table(loaded)]
    if not loaded.is_own_trainer:  # nothing is known of the costs of a user's own trainer
        tables.append(cost_table(costs, loaded.budget.trials))
    for table in tables:
        console.print(table)
        console.print()
    if missing:
        where = "the working folder, or to that of --data-dir"
        console.print(f"Missing: {', '.join(missing)}. Paths are relative to {where}.", markup=False, soft_wrap=soft)
    if loaded.is_own_trainer:
        return
    console.print(f"This holds if the store is empty and {_joined(costs.assumptions)}.", markup=False, soft_wrap=soft)
    if timing is None:
        console.print("--time reads the data and measures on this machine.", markup=False, soft_wrap=soft)
    else:
        if timing.rows is not None:
            console.print(f"Rows of the task: {account_words(timing.rows)}.", markup=False, soft_wrap=soft)
        console.print(timing.words(), markup=False, soft_wrap=soft)


@dataclass(frozen=True)
class Timing:
    """A plan with seconds measured on ``machine``, and the number of trials ``at_once``.

    ``wall_seconds`` is the wall time of the study. ``rows`` is the account of the task's rows.
    """

    plan: Plan
    machine: Mapping[str, Any]
    at_once: int
    wall_seconds: Mapping[str, float]
    rows: Mapping[str, Any] | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the fields that the plan lacks, as JSON."""
        return {"machine": dict(self.machine), "trials_at_once": self.at_once, "wall_seconds": dict(self.wall_seconds)}

    def words(self) -> str:
        """Return the predicted time of the study in words."""
        from tlm_search.search.progress import rough_duration

        wall = {name: rough_duration(seconds) for name, seconds in self.wall_seconds.items()}
        return (
            f"On this machine ({self.machine['device']}, trials at once: {self.at_once}) about {wall['expected']}, at "
            f"least {wall['at_least']}, at most {wall['at_most']}. Ray needs some more seconds to start, and trials "
            "that run at once may slow each other."
        )


def timed(space: Space, studies_dir: str, say: Callable[[str], None]) -> Timing:
    """Prepare the data as ``run`` does, and predict seconds from a few updates on this machine.

    ``say`` takes each step as it begins.

    Raises:
        UserError: nothing can be timed here: the trainer is simulated, or trials need a GPU that this machine lacks.
    """
    from tlm_search.committee.metrics import metric_of
    from tlm_search.cost.machine import this_machine
    from tlm_search.cost.plan import DataSizes, plan
    from tlm_search.cost.shares import Shares
    from tlm_search.cost.wall_time import chunks_of, jobs_of, wall_seconds
    from tlm_search.data.prepare import prepare
    from tlm_search.data.rows import account_of
    from tlm_search.errors import UserError
    from tlm_search.remote.mount import studies_folder
    from tlm_search.search.baseline import class_weights_of
    from tlm_search.search.trial import chunk_sizes
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import store_root

    resources = space.resources
    if not space.has_weights:
        raise UserError(
            f"--time cannot predict the time: the trainer of this space is {space.trainer}",
            hint="set trainer to bert, or leave out --time",
        )
    here = this_machine(with_gpus=bool(resources.gpus_per_trial))
    shares = Shares(space, [here])
    concurrent = shares.concurrent()
    root = store_root(studies_folder(studies_dir))
    data = prepare(space, root, progress=say)
    metric_of(space.task, data.labels)  # refuses a label that the data lack
    class_weights_of(space, data.labels)
    say("timing a few updates of each kind of training")
    from tlm_search.cost.timing import StepTimes

    threads, device = max(1, int(resources.cpus_per_trial)), "cuda" if resources.gpus_per_trial else "cpu"
    share = 1.0 if resources.gpus_per_trial == "auto" else min(1.0, resources.gpus_per_trial)
    chunks = chunks_of(space, slots=concurrent, jobs=jobs_of(space))
    asked = partial(chunk_sizes, prunable=space.pruner.name != "none", chunks=chunks)
    step_times = StepTimes(data, open_store(root), threads=threads, device=device, share=share, chunk_sizes=asked)
    costs = plan(space, DataSizes.of_data(data), step_times)
    wall = wall_seconds(costs, space, concurrent=concurrent, stacked=shares.least_stacked())
    return Timing(costs, step_times.machine, min(concurrent, jobs_of(space)), wall, account_of(data.to_document()))


def sections_table(space: Space) -> Table:
    """Return a table of all sections except ``search``."""
    document = space.to_document()
    table = _table(f"study {space.name}", "section", "value")
    for name in (key for key in document if key not in ("name", "search")):
        table.add_row(*_cells(name, _text(document[name])))
    return table


def settings_table(space: Space) -> Table:
    """Return a table of the settings: searched, fixed or default, with their roles."""
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
    """Return the plan as a table with a row for each measure."""
    reference = f"reference, {costs.reference_tries} tries" if costs.reference_tries > 1 else "reference"
    table = _table(f"cost of {trials} trials", "measure", reference, "at least", "expected", "at most")
    columns = costs.columns()
    for name in columns["at_most"]:
        table.add_row(*_cells(name.replace("_", " "), *(short(column[name]) for column in columns.values())))
    return table


def short(number: float) -> str:
    """Write a number with three digits and a unit: 1234567 is 1.23 M."""
    for power, unit in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:.3g}"


def _defaults(space: Space) -> dict[str, Any]:
    from tlm_search.space.checks import SHAPE
    from tlm_search.space.settings import ONLY_WITH, SETTINGS, TOKENS

    given = {**space.searched(), **space.fixed()}
    idle = [name for name, (other, _) in ONLY_WITH.items() if not given.get(other)]
    # The settings of tokens are in the section tokenizer.
    others = {name: setting for name, setting in SETTINGS.items() if name not in (*given, *idle, *TOKENS)}
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

    return [Text(text) for text in texts]  # the user's words are not markup


def _text(value: Any) -> str:
    if isinstance(value, dict):
        given = {key: item for key, item in value.items() if item is not None}
        return ", ".join(f"{key} {_text(item)}" for key, item in given.items())
    if isinstance(value, list | tuple):
        return "; ".join(_text(item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)


def _joined(parts: Iterable[str]) -> str:
    return " and ".join(parts)
