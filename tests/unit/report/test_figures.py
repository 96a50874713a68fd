from dataclasses import replace

import builders
import pytest

from tlm_search.report.evidence import Evidence
from tlm_search.report.figures import cost as figures
from tlm_search.report.figures import frontier as frontier_figures
from tlm_search.report.figures import inside as inside_figures
from tlm_search.report.figures import search as search_figures
from tlm_search.report.figures.style import BASELINE_COLOUR, COLOURS, REFERENCE_COLOUR, colours_of
from tlm_search.report.pages.build import build_report
from tlm_search.report.tables import tables
from tlm_search.report.tables.costs import COSTS


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
    figure = frontier_figures.frontier_figure(frontiers, colours_of(frontiers))
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == frontier_figures.LISTED
    assert [trace.visible for trace in lines] == [True] * frontier_figures.SHOWN + ["legendonly"] * (
        frontier_figures.LISTED - frontier_figures.SHOWN
    )
    best = frontiers[frontiers["trial"] == frontiers["trial"].iloc[0]]
    assert list(lines[0].y) == best["test_accuracy"].tolist()
    assert list(lines[0].x) == best["size"].tolist()
    [reference] = [trace for trace in figure.data if trace.line.dash == "dash"]
    assert set(reference.y) == {record.reference.metrics["test_accuracy"]}
    assert figure.layout.title.text == "Test accuracy against committee size"


def test_the_linear_model_is_a_line_of_its_own_and_no_reference(record):
    linear = replace(record, baseline=builders.baseline())
    table = tables.frontiers_table(linear)
    for figure in (
        frontier_figures.frontier_figure(table, colours_of(table)),
        *frontier_figures.facet_figures(table, colours_of(table)).values(),
    ):
        [line] = [trace for trace in figure.data if trace.line.dash == "dot" and trace.visible is None]
        assert set(line.y) == {linear.baseline.metrics["test_accuracy"]}
        assert line.line.color == BASELINE_COLOUR
        assert line.name == "linear model: TF-IDF of words, C = 10"
        assert "subset" not in line.text
        [reference] = [trace for trace in figure.data if trace.line.dash == "dash"]
        assert set(reference.y) == {record.reference.metrics["test_accuracy"]}
    tradeoffs = tables.tradeoffs_table(linear)
    of_linear = tradeoffs[tradeoffs["trial"] == -3]
    assert len(of_linear) == 1
    assert not of_linear[[f"front_{cost}" for cost in COSTS]].to_numpy().any()
    figure = figures.tradeoff_figure(tradeoffs, "parameters", colours_of(table))
    [point] = [trace for trace in figure.data if trace.name == "reference"]
    assert len(point.x) == 1
    assert table["trial"].iloc[-1] == -3
    assert table["rank"].isna().tolist() == (table["trial"] < 0).tolist()


def drawn(record, name="frontier"):
    return build_report(record, Evidence(record, None)).figures[name]


def thick(figure):
    return [trace.name for trace in figure.data if trace.mode == "lines+markers" and trace.line.width == 3]


@pytest.mark.parametrize("name", ["frontier", "gain"])
def test_the_best_configuration_of_a_figure_is_that_of_the_answer(name):
    deep = builders.trial(0, depth=6, heads=8, pretrain_size=4000, committee_size=8)
    large = builders.trial(1, depth=2, heads=8, pretrain_size=4000, committee_size=4)
    small = builders.trial(2, depth=1, heads=2, committee_size=2)
    bound = f"parameters <= {large.metrics['parameters'] / 4 - 1}"
    record = builders.study(
        [deep, large, small],
        reference_trial=builders.reference(),
        search={**builders.SEARCH, "depth": {"choices": [1, 2, 6]}},
    )
    [label] = thick(drawn(record, name))
    assert label.startswith("#1: ")
    figure = drawn(replace(record, space=builders.space(constraints=[bound])), name)
    [label] = thick(figure)
    assert label.startswith("#2: ")
    symbols = {trace.name[:2]: trace.marker.symbol for trace in figure.data if trace.mode == "lines+markers"}
    if name == "frontier":
        assert set(symbols["#2"]) == {"circle"}
        assert set(symbols["#1"]) == set(symbols["#0"]) == {"circle-open"}
    assert not figure.layout.annotations  # no bare comparison of means on test
    assert thick(drawn(replace(record, space=builders.space(constraints=["parameters <= 1"])), name)) == []


def test_the_band_of_subsets_waits_for_its_button(frontiers):
    traces = {trace.name: trace for trace in frontier_figures.frontier_figure(frontiers, {}).data}
    best = frontiers[frontiers["trial"] == frontiers["trial"].iloc[0]]
    band = traces["95% of the committees of the best"]
    assert band.visible == "legendonly"
    assert list(band.y[: len(best)]) == best["subset_low"].tolist()


def test_each_size_of_pre_training_has_a_facet_with_the_same_axes(frontiers):
    facets = frontier_figures.facet_figures(frontiers, colours_of(frontiers))
    assert list(facets) == [0, 1000, 4000]
    assert len({figure.layout.yaxis.range for figure in facets.values()}) == 1
    for size, figure in facets.items():
        names = {trace.name for trace in figure.data if trace.mode == "lines+markers"}
        expected = frontiers[(frontiers["pretrain_size"] == size) & (frontiers["trial"] >= 0)]["configuration"]
        assert names == set(expected.drop_duplicates().head(frontier_figures.FACET_LINES))
    assert frontier_figures.facet_figures(frontiers[frontiers["pretrain_size"] == 0], {}) == {}


def test_gains_are_the_steps_between_sizes(frontiers):
    best = frontiers[frontiers["trial"] == frontiers["trial"].iloc[0]]
    first = frontier_figures.gain_figure(frontiers, {}).data[0]
    assert list(first.x) == best["size"].tolist()[1:]
    assert list(first.y) == pytest.approx(best["test_accuracy"].diff().tolist()[1:])


def test_what_constraints_forbid_is_shaded(record):
    table = tables.tradeoffs_table(record)
    middle = float(table["parameters"].median())
    [shape] = figures.tradeoff_figure(table, "parameters", {}, most=middle).layout.shapes
    assert shape.x0 == middle
    assert shape.x1 > table["parameters"].max()
    [shape] = figures.tradeoff_figure(table, "parameters", {}, least=middle).layout.shapes
    assert shape.x1 == middle
    assert not figures.tradeoff_figure(table, "parameters", {}, most=1e12, least=1).layout.shapes


def test_parallel_lines_cross_every_axis_once(record):
    table = tables.trials_table(record)
    figure = search_figures.parallel_figure(table, ["heads", "finetune_learning_rate"], logs={"finetune_learning_rate"})
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lines] == list(search_figures.QUARTERS)
    points = [(x, y) for trace in lines for x, y in zip(trace.x, trace.y, strict=True) if x is not None]
    assert len(points) == 3 * len(record.in_state("complete"))
    assert all(0 <= y <= 1 for _, y in points)
    best = [y for x, y in zip(lines[-1].x, lines[-1].y, strict=True) if x == 2]
    others = [y for trace in lines[:-1] for x, y in zip(trace.x, trace.y, strict=True) if x == 2]
    assert min(best) >= max(others)


def test_the_gain_of_pre_training_is_drawn_against_both_overlaps():
    import pandas as pd

    rows = [(1000, 0.5, 0.8, 0.01, 2), (4000, 0.7, 0.9, float("nan"), 0), (8000, 0.9, 0.99, 0.03, 3)]
    table = pd.DataFrame(rows, columns=["pretrain_size", "type_share", "token_share", "gain", "pairs"])
    plain, weighted = figures.overlap_figure(table).data
    assert list(plain.x) == [0.5, 0.9]
    assert list(weighted.x) == [0.8, 0.99]
    assert list(weighted.y) == [0.01, 0.03]


@pytest.mark.parametrize("cost", COSTS)
def test_a_trade_off_has_the_front_the_others_and_the_reference(record, cost):
    table = tables.tradeoffs_table(record)
    others, front, reference = figures.tradeoff_figure(table, cost, {}).data
    assert (others.name, front.name, reference.name) == ("other committees", "Pareto front", "reference")
    assert len(front.x) == table[f"front_{cost}"].sum()
    assert list(front.x) == sorted(front.x)
    assert list(reference.x) == table[table["trial"] < 0][cost].tolist()
    if cost in record.reference.metrics:
        assert list(reference.x) == [record.reference.metrics[cost]]
    assert others.marker.opacity < front.marker.opacity


def test_pairs_of_pre_training_are_joined(record):
    table = tables.pretraining_table(record, Evidence(record, None))
    joined, points = figures.pretraining_figure(table, {}).data
    assert None in joined.x
    assert len(points.x) == len(table)


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
    assert list(inside_figures.label_figure(table).data[0].y) == ["&lt;b&gt;bold&lt;/b&gt;"]
