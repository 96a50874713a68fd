"""Several studies on one page: their answers, frontiers, costs and claims."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from tlm_search.committee.metrics import metric_words as of_metric
from tlm_search.errors import StudyError
from tlm_search.files import write_text, writing
from tlm_search.report.claims.answer import summary_line, what_matching_means
from tlm_search.report.evidence import Evidence
from tlm_search.report.figures.frontier import best_of, frontier_figure
from tlm_search.report.figures.style import COLOURS, colours_of, finish, log_axis, plain
from tlm_search.report.formatting import bounds, interval, judged_by, metric_words, percent, plural
from tlm_search.report.pages.build import Report, build_report
from tlm_search.report.pages.files import DEFAULT, check_formats, write_files
from tlm_search.report.pages.html import fill, notes_of
from tlm_search.report.pages.markdown import table_lines
from tlm_search.report.privacy import public, source_name
from tlm_search.report.tables.costs import COSTS
from tlm_search.report.tables.frames import Cell, Column, Frame, cells, claims_frame
from tlm_search.store.local import Store
from tlm_search.study.record import REFERENCE_NUMBER, StudyRecord

FACET_LINES = 4

StoreOf = Callable[[StudyRecord], Store | None]
Studies = Mapping[str, tuple[StudyRecord, Report]]


def write_comparison(
    records: Sequence[StudyRecord], store_of: StoreOf, out: Path, *, formats: Sequence[str] = DEFAULT
) -> Path:
    """Write the page and the tables of several studies into ``out``, as ``write_report`` does for one.

    Raises:
        StudyError: the folder cannot be written.
        UserError: pictures are requested and the packages that draw them are not installed.
    """
    check_formats(formats)
    names = _names(records)
    studies = {
        name: (record, build_report(public(record), Evidence(record, store_of(record))))
        for name, record in zip(names, records, strict=True)
    }
    by_name = {name: _joined(studies, name) for name in ("frontiers", "tradeoffs", "saturation", "claims")}
    drawn = _figures(studies)
    answers = _answers(studies)
    with writing(StudyError, f"the report in {out}", otherwise="choose another folder with --out"):
        if "md" in formats:
            write_text(out / "report.md", f"# {' and '.join(names)}\n\n{table_lines(answers)}\n")
        if "html" in formats:
            write_text(out / "report.html", _page(studies, drawn, answers))
        write_files(by_name, drawn, out, formats=formats)
    return out / "report.html" if "html" in formats else out


def _names(records: Sequence[StudyRecord]) -> list[str]:
    """Return a name for each study: its own, with its folder if two are equal."""
    plainly = [record.name for record in records]
    common = os.path.commonpath([record.folder for record in records])
    return [
        name if plainly.count(name) == 1 else f"{name} ({record.folder.relative_to(common)})"
        for name, record in zip(plainly, records, strict=True)
    ]


def _joined(studies: Studies, table: str) -> pd.DataFrame:
    parts = [report.tables[table].assign(study=name) for name, (_, report) in studies.items()]
    known = [part for part in parts if len(part)] or parts[:1]
    whole = pd.concat([part.astype(object) for part in known], ignore_index=True)
    return whole[["study", *(column for column in whole.columns if column != "study")]]


def _page(studies: Studies, drawn: Mapping[str, go.Figure], answers: Frame) -> str:
    claims, differences = _claims(studies), _differences(studies)
    costs = [cost for cost in COSTS if cost in drawn]
    metric = " or ".join(dict.fromkeys(of_metric(record.space.task.metric) for record, _ in studies.values()))
    titles = {
        "frontier": (f"{metric[0].upper()}{metric[1:]} by committee size", "together" in drawn),
        "cost": (f"{metric[0].upper()}{metric[1:]} and cost", bool(costs)),
        "claims": ("The claims", bool(claims.rows)),
        "differences": ("How the studies differ", bool(differences.rows)),
    }
    return fill(
        "compare.html.j2",
        drawn,
        names=list(studies),
        summaries=[f"{name}: {summary_line(record)}" for name, (record, _) in studies.items()],
        notes=[f"{name}: {note}" for name, (record, _) in studies.items() for note in notes_of(public(record))],
        sections=[(name, title) for name, (title, shown) in titles.items() if shown],
        headlines=[(name, report.answer.headline) for name, (_, report) in studies.items()],
        answers_table=answers,
        metric=metric,
        matching=what_matching_means(metric),
        facets=[name for name in drawn if name.startswith("study_")],
        tasks=len({record.data.get("task_name") for record, _ in studies.values()}),
        costs=costs,
        claims_table=claims,
        differences_table=differences,
    )


def _answers(studies: Studies) -> Frame:
    answers = {
        f"{name}: {str(which).lower()}": report.answer.table[which]
        for name, (_, report) in studies.items()
        for which in report.answer.table.columns
    }
    facts = dict.fromkeys(str(fact) for answer in answers.values() for fact in answer.index)
    columns = [Column("", False), *(Column(title, False) for title in answers)]
    return Frame(columns, [cells([fact, *(answer.get(fact, "") for answer in answers.values())]) for fact in facts])


def _figures(studies: Studies) -> dict[str, go.Figure]:
    drawn: dict[str, go.Figure] = {}
    with_results = {
        name: report for name, (_, report) in studies.items() if (report.tables["frontiers"]["trial"] >= 0).any()
    }
    colours = dict(zip(studies, COLOURS * (1 + len(studies) // len(COLOURS)), strict=False))
    if not with_results:
        return drawn
    drawn["together"] = _together(with_results, colours)
    drawn.update(_facets({name: studies[name] for name in with_results}))
    for cost in COSTS:
        if any(report.tables["tradeoffs"][f"front_{cost}"].any() for report in with_results.values()):
            drawn[cost] = _fronts(with_results, cost, colours)
    return drawn


def _facets(studies: Studies) -> dict[str, go.Figure]:
    """Draw the frontiers of each study on common axes, with the studies of one task next to each other."""
    tasks = {name: str(record.data.get("task_name", "")) for name, (record, _) in studies.items()}
    several = len(set(tasks.values())) > 1
    figures = {}
    for name in sorted(studies, key=lambda name: list(tasks.values()).index(tasks[name])):
        frontiers = studies[name][1].tables["frontiers"]
        shown = frontiers["trial"].drop_duplicates().tolist()[:FACET_LINES]
        rows = frontiers[frontiers["trial"].isin([*shown, REFERENCE_NUMBER])]
        figure = frontier_figure(rows, colours_of(frontiers), listed=FACET_LINES)
        figure.update_layout(title={"text": f"Task {source_name(tasks[name])}: {name}" if several else name})
        figures[f"study_{list(studies).index(name)}"] = figure, rows
    low = min(float(rows["test_metric_low"].min()) for _, rows in figures.values())
    high = max(float(rows["test_metric_high"].max()) for _, rows in figures.values())
    largest = max(float(figure.layout.xaxis.range[1]) for figure, _ in figures.values())
    for figure, _ in figures.values():
        figure.update_yaxes(range=[low, high])
        figure.update_xaxes(range=[0.8, largest], dtick=max(1, round(largest / 8)))
    return {name: figure for name, (figure, _) in figures.items()}


def _together(reports: Mapping[str, Report], colours: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    largest = max(int(report.tables["frontiers"]["size"].max()) for report in reports.values())
    for name, report in reports.items():
        frontiers = report.tables["frontiers"]
        rows = frontiers[frontiers["trial"] == best_of(frontiers)]
        figure.add_scatter(
            x=rows["size"],
            y=rows["test_metric"],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rows["test_metric_high"] - rows["test_metric"],
                "arrayminus": rows["test_metric"] - rows["test_metric_low"],
                "thickness": 1,
            },
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": colours[name], "width": 2.5},
            marker={"size": 7, "color": colours[name]},
            text=[
                f"<b>{plain(name)}</b><br>{plain(row['configuration'])}<br>{plural(int(row['size']), 'member')}: "
                f"{percent(row['test_metric'])}, 95% interval {interval(*bounds(row))}"
                for row in rows.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
        for row in frontiers[frontiers["trial"] == REFERENCE_NUMBER].tail(1).to_dict("records"):
            label = f"reference of {name}"
            figure.add_scatter(
                x=[0.8, largest + 0.2],
                y=[row["test_metric"]] * 2,
                name=label,
                legendgroup=label,
                mode="lines",
                line={"color": colours[name], "width": 2, "dash": "dash"},
                hovertemplate=f"{plain(label)}: {percent(row['test_metric'])}, 95% interval "
                f"{interval(*bounds(row))}<extra></extra>",
            )
    judged = _judged_by(reports, "frontiers")
    finish(figure, "The best configuration of each study", "committee size (members)", f"test {judged}")
    figure.update_xaxes(range=[0.8, max(largest, 2) + 0.2], dtick=max(1, round(largest / 8)))
    return figure


def _judged_by(reports: Mapping[str, Report], table: str) -> str:
    """Return the metrics of the studies, which can differ, joined by or."""
    return " or ".join(dict.fromkeys(judged_by(report.tables[table]) for report in reports.values()))


def _fronts(reports: Mapping[str, Report], cost: str, colours: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    seen = []
    for name, report in reports.items():
        table = report.tables["tradeoffs"]
        front = table[table[f"front_{cost}"]].sort_values(cost)
        reference = table[(table["trial"] == REFERENCE_NUMBER) & table["whole"] & table[cost].notna()]
        for rows, mode, symbol, size in ((front, "lines+markers", "circle", 8), (reference, "markers", "diamond", 13)):
            figure.add_scatter(
                x=rows[cost],
                y=rows["test_metric"],
                name=name,
                legendgroup=name,
                mode=mode,
                line={"color": colours[name], "width": 1.5, "dash": "dot"},
                marker={"size": size, "symbol": symbol, "color": colours[name]},
                text=[
                    f"<b>{plain(name)}</b><br>{plain(row['configuration'])}, {plural(int(row['size']), 'member')}<br>"
                    f"{percent(row['test_metric'])}, 95% interval {interval(*bounds(row))}"
                    for row in rows.to_dict("records")
                ],
                hovertemplate="%{text}<extra></extra>",
            )
            seen.append(rows[cost])
    words, judged = metric_words(cost), _judged_by(reports, "tradeoffs")
    finish(figure, f"Test {judged} against {words}", words, f"test {judged}")
    costs = pd.concat(seen)
    if costs.min() > 0 and costs.max() / costs.min() > 8:
        log_axis(figure, costs)
    return figure


def _claims(studies: Studies) -> Frame:
    frames = {name: claims_frame(report.tables["claims"]) for name, (_, report) in studies.items()}
    metrics = {record.space.task.metric for record, _ in studies.values()}
    by_claim: dict[str, dict[str, str]] = {}
    for name, frame in frames.items():
        of = frame.columns[2].title if len(metrics) > 1 else ""
        for claim, verdict, effect, span, *_ in frame.rows:
            measured = f": {effect.text}{f' {of}' if of else ''} ({span.text})" if span.value != "" else ""
            by_claim.setdefault(claim.text, {})[name] = verdict.text + measured
    columns = [Column("claim", False), *(Column(name, False) for name in studies)]
    return Frame(
        columns, [cells([claim, *(verdicts.get(n, "") for n in studies)]) for claim, verdicts in by_claim.items()]
    )


def _differences(studies: Studies) -> Frame:
    facts: dict[str, dict[str, str]] = {}
    for name, (record, report) in studies.items():
        provenance = report.tables["provenance"]
        for fact, value in zip(provenance["fact"], provenance["value"], strict=True):
            if not str(fact).startswith(("first trial", "last trial")):
                facts.setdefault(str(fact), {})[name] = str(value)
        for setting, entry in record.space.to_document().get("search", {}).items():
            facts.setdefault(f"search {setting}", {})[name] = str(entry)
    rows = [
        [Cell(fact, fact), *cells([values.get(name, "") for name in studies])]
        for fact, values in facts.items()
        if len({values.get(name) for name in studies}) > 1
    ]
    return Frame([Column("fact", False), *(Column(name, False) for name in studies)], rows)
