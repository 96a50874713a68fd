import builders
import pytest

from tlm_search.report import figures, search_figures, tables
from tlm_search.report.evidence import Evidence
from tlm_search.report.style import COLOURS, REFERENCE_COLOUR, colours_of


@pytest.fixture(scope="module")
def record():
    return builders.study(builders.grid(60), reference_trial=builders.reference())


@pytest.fixture(scope="module")
def frontiers(record):
    return tables.frontiers_table(record)


def test_the_best_have_a_colour_each_and_the_reference_its_own(frontiers):
    colours = colours_of(frontiers)
    assert list(colours.values()) == list(COLOURS)
    assert REFERENCE_COLOUR not in COLOURS


def test_the_frontier_shows_the_best_lists_the_rest_and_draws_the_reference(record, frontiers):
    figure = figures.frontier_figure(frontiers, colours_of(frontiers))
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == figures.LISTED
    assert [trace.visible for trace in lines] == [True] * figures.SHOWN + ["legendonly"] * (
        figures.LISTED - figures.SHOWN
    )
    best = frontiers[frontiers["trial"] == frontiers["trial"].iloc[0]]
    assert list(lines[0].y) == best["test_accuracy"].tolist()
    assert list(lines[0].x) == best["size"].tolist()
    [reference] = [trace for trace in figure.data if trace.line.dash == "dash"]
    assert set(reference.y) == {record.reference.metrics["test_accuracy"]}
    assert figure.layout.title.text == "Test accuracy against committee size"


def test_the_size_that_reaches_the_reference_is_marked(record, frontiers):
    figure = figures.frontier_figure(frontiers, {})
    best = frontiers[frontiers["trial"] == frontiers["trial"].iloc[0]]
    reached = best[best["test_accuracy"] >= record.reference.metrics["test_accuracy"]]["size"].iloc[0]
    [note] = figure.layout.annotations
    assert note.x == reached
    assert "reach the reference" in note.text


@pytest.mark.parametrize("cost", tables.COSTS)
def test_a_trade_off_has_the_front_the_others_and_the_reference(record, cost):
    table = tables.tradeoffs_table(record)
    others, front, reference = figures.tradeoff_figure(table, cost, {}).data
    assert (others.name, front.name, reference.name) == ("other committees", "Pareto front", "reference")
    assert len(front.x) == table[f"front_{cost}"].sum()
    assert list(front.x) == sorted(front.x)
    assert list(reference.x) == [record.reference.metrics[cost]]
    assert others.marker.opacity < front.marker.opacity


def test_pairs_of_pre_training_are_joined(record):
    table = tables.pretraining_table(record, Evidence(record, None))
    joined, points, mean = figures.pretraining_figure(table, {}).data
    assert None in joined.x
    assert len(points.x) == len(table)
    assert list(mean.y) == pytest.approx(table.groupby("pretrain_size")["test_accuracy"].mean().tolist())


def test_the_loss_is_drawn_where_it_is_known(record):
    table = tables.pretraining_table(record, Evidence(record, None))
    table.loc[:2, "pretraining_loss"] = [3.0, 4.0, 5.0]
    [points] = figures.loss_figure(table, {}).data
    assert list(points.x) == [3.0, 4.0, 5.0]


def test_the_history_has_the_best_so_far(record):
    table = tables.trials_table(record)
    traces = {trace.name: trace for trace in search_figures.history_figure(table, 0.5).data}
    assert list(traces) == ["complete", "pruned", "best so far", "reference"]
    assert list(traces["best so far"].y) == sorted(traces["best so far"].y)
    assert len(traces["pruned"].x) == len(record.in_state("pruned"))


def test_a_slice_of_few_values_has_categories_and_one_of_many_a_scale(record):
    table = tables.trials_table(record)
    heads = search_figures.slice_figure(table, "heads", log=False)
    assert heads.layout.xaxis.type == "category"
    assert list(heads.layout.xaxis.categoryarray) == ["2", "4", "8"]
    assert search_figures.slice_figure(table, "finetune_learning_rate", log=True).layout.xaxis.type == "log"


def test_what_the_user_named_is_no_markup_in_a_figure():
    import pandas as pd

    rows = [("<b>bold</b>", 10, 0.5, 0.6, -0.1)]
    table = pd.DataFrame(rows, columns=["label", "rows", "committee", "reference", "difference"])
    assert list(figures.label_figure(table).data[0].y) == ["&lt;b&gt;bold&lt;/b&gt;"]
