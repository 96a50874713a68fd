"""Studies compared: the frontiers of several tasks as facets."""

from dataclasses import replace

import builders
import pytest

from tlm_search.report.evidence import Evidence
from tlm_search.report.pages import compare
from tlm_search.report.pages.build import build_report


@pytest.fixture(scope="module")
def studies():
    """Return three studies of two tasks, of different sizes and accuracies."""
    made = {}
    for name, task, sizes in (("a", "pydocs", (2, 8)), ("b", "fewrel", (1, 4)), ("c", "pydocs", (2, 4))):
        trials = [
            builders.trial(number, committee_size=size, heads=2 + 6 * (name == "a"))
            for number, size in enumerate(sizes)
        ]
        record = builders.study(trials, reference_trial=builders.reference(), name=name)
        record = replace(record, data={**record.data, "task_name": task})
        made[name] = record, build_report(record, Evidence(record, None))
    return made


def test_tasks_are_facets_on_common_axes(studies):
    figures = compare._facets(studies)
    titles = [figure.layout.title.text for figure in figures.values()]
    assert titles == ["Task pydocs: a", "Task pydocs: c", "Task fewrel: b"]
    assert list(figures) == ["study_0", "study_2", "study_1"]
    assert len({figure.layout.yaxis.range for figure in figures.values()}) == 1
    assert len({figure.layout.xaxis.range for figure in figures.values()}) == 1
    low, high = figures["study_0"].layout.yaxis.range
    right = figures["study_0"].layout.xaxis.range[1]
    assert right >= 8
    for figure in figures.values():
        for trace in figure.data:
            if trace.mode == "lines+markers":
                assert all(low <= y <= high for y in trace.y)


def test_a_study_without_a_reference_leaves_its_cells_empty(studies):
    alone = builders.study([builders.trial(0)], name="alone", reference="none")
    frame = compare._answers({"alone": (alone, build_report(alone, Evidence(alone, None))), "a": studies["a"]})
    assert [column.title for column in frame.columns] == [
        "",
        "alone: best committee",
        "a: best committee",
        "a: reference",
    ]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in frame.rows}
    assert rows["Matches the reference"][0] == ""
    assert rows["Matches the reference"][1] != ""
    assert all(rows["Test accuracy"])


def test_studies_of_one_task_have_their_names_alone(studies):
    figures = compare._facets({name: studies[name] for name in ("a", "c")})
    assert [figure.layout.title.text for figure in figures.values()] == ["a", "c"]
