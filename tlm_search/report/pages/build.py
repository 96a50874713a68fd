"""Compute the content of a page: first the tables, then the figures from the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.claims.answer import Answer, answer_of
from tlm_search.report.claims.cautions import reference_tries_table
from tlm_search.report.claims.claims import claims
from tlm_search.report.evidence import Evidence
from tlm_search.report.figures import cost as cost_figures
from tlm_search.report.figures import frontier as frontier_figures
from tlm_search.report.figures import inside as inside_figures
from tlm_search.report.figures import search as search_figures
from tlm_search.report.figures.students import mark_students, students_table
from tlm_search.report.figures.style import Colours, colours_of
from tlm_search.report.formatting import judged_by
from tlm_search.report.tables import fit, inside, insight, tables
from tlm_search.report.tables.committees import committees_table
from tlm_search.report.tables.costs import COSTS
from tlm_search.report.tables.frames import provenance_table
from tlm_search.report.tables.mixed import export_words, mixed_committees
from tlm_search.report.tables.ranking import eligible
from tlm_search.space.parameters import Range
from tlm_search.study.record import StudyRecord

Tables = Mapping[str, pd.DataFrame]
Figures = dict[str, go.Figure]


@dataclass(frozen=True)
class Report:
    """The answer, the tables and figures by name, and a sentence on a better ``mixed`` committee."""

    answer: Answer
    tables: Tables
    figures: Mapping[str, go.Figure]
    mixed: str | None = None


def build_report(record: StudyRecord, evidence: Evidence) -> Report:
    """Compute the tables and the figures from them. A figure without data is left out."""
    answer = answer_of(record, evidence)
    votes = inside.logits_of(answer.best, evidence)
    best_first = eligible(record)
    pretraining = tables.pretraining_table(record, evidence)
    mixed = mixed_committees(record, evidence)
    by_name = {
        "trials": tables.trials_table(record),
        "frontiers": tables.frontiers_table(record),
        "students": students_table(record, evidence),
        "saturation": fit.saturation_table(record, best_first[: fit.MAX_CONFIGURATIONS], evidence),
        "tradeoffs": tables.tradeoffs_table(record),
        "pretraining": pretraining,
        "overlap": tables.overlap_table(pretraining, evidence),
        "labels": inside.labels_table(record, votes),
        "members": inside.members_table(record, best_first[: inside.MAX_CONFIGURATIONS], evidence),
        "diversity": inside.diversity_table(votes),
        "calibration": inside.calibration_table(votes),
        "confusion": inside.confusion_table(record, votes),
        "examples": inside.examples_table(record, votes, evidence),
        "importance": insight.importance_table(record),
        "boundaries": insight.boundaries_table(record),
        "reference_tries": reference_tries_table(record),
        "outcomes": tables.outcomes_table(record),
        "committees": committees_table(record, evidence, mixed),
        "claims": claims(record, evidence, answer.best),
        "provenance": provenance_table(record, evidence.provenance()),
    }
    best = None if answer.best is None else answer.best.candidate
    return Report(answer, by_name, _figures(record, by_name), export_words(record, mixed, best))


def _figures(record: StudyRecord, by_name: Tables) -> Figures:
    colours = colours_of(by_name["frontiers"])
    return {
        **_frontiers(by_name, colours),
        **_costs(record, by_name["tradeoffs"], colours),
        **_pretraining(by_name, colours),
        **_inside(by_name, colours),
        **_search(record, by_name),
    }


def _frontiers(by_name: Tables, colours: Colours) -> Figures:
    frontiers = by_name["frontiers"]
    drawn: Figures = {}
    if (frontiers["trial"] >= 0).any():
        drawn["frontier"] = frontier_figures.frontier_figure(frontiers, colours)
        mark_students(drawn["frontier"], by_name["students"], colours)
        if (frontiers["trial"].ge(0) & frontiers["test_gain"].notna()).any():
            drawn["gain"] = frontier_figures.gain_figure(frontiers, colours)
        for size, figure in frontier_figures.facet_figures(frontiers, colours).items():
            drawn[f"facet_{size}"] = figure
    return drawn


def _costs(record: StudyRecord, tradeoffs: pd.DataFrame, colours: Colours) -> Figures:
    drawn = {}
    for cost in COSTS:
        if tradeoffs.loc[tradeoffs["trial"] >= 0, cost].notna().any():
            of_cost = [c for c in record.space.constraints if c.metric == cost and c.bound is not None]
            most = min((c.bound for c in of_cost if c.operator == "<=" and c.bound is not None), default=None)
            least = max((c.bound for c in of_cost if c.operator == ">=" and c.bound is not None), default=None)
            drawn[cost] = cost_figures.tradeoff_figure(tradeoffs, cost, colours, most=most, least=least)
    return drawn


def _pretraining(by_name: Tables, colours: Colours) -> Figures:
    pretraining, overlap = by_name["pretraining"], by_name["overlap"]
    drawn: Figures = {}
    if pretraining["pretrain_size"].nunique() > 1:
        drawn["pretraining"] = cost_figures.pretraining_figure(pretraining, colours)
    if pretraining["pretraining_loss"].notna().sum() > 1:
        drawn["loss"] = cost_figures.loss_figure(pretraining, colours)
    if overlap["gain"].notna().sum() > 1:
        drawn["overlap"] = cost_figures.overlap_figure(overlap, judged_by(pretraining))
    return drawn


def _inside(by_name: Tables, colours: Colours) -> Figures:
    drawn: Figures = {}
    if len(by_name["diversity"]) > 1:
        drawn["diversity"] = inside_figures.diversity_figure(by_name["diversity"])
    if len(by_name["members"]):
        drawn["members"] = inside_figures.members_figure(by_name["members"], by_name["frontiers"], colours)
    if len(by_name["calibration"]):
        drawn["calibration"] = inside_figures.calibration_figure(by_name["calibration"])
    if len(by_name["labels"]):
        drawn["labels"] = inside_figures.label_figure(by_name["labels"])
    if 0 < by_name["confusion"]["label"].nunique() <= inside_figures.MAX_LABELS:
        drawn["confusion"] = inside_figures.confusion_figure(by_name["confusion"])
    return drawn


def _search(record: StudyRecord, by_name: Tables) -> Figures:
    trials, importance = by_name["trials"], by_name["importance"]
    complete = trials[(trials["state"] == "complete") & trials["validation_metric"].notna()]
    drawn: Figures = {}
    if complete.empty:
        return drawn
    metric = f"validation_{record.space.task.metric}"
    reference = None if record.reference is None else record.reference.metrics.get(metric)
    drawn["history"] = search_figures.history_figure(trials, reference)
    if len(importance):
        drawn["importance"] = search_figures.importance_figure(importance)
    searched = record.space.searched()
    logs = {name for name, domain in searched.items() if isinstance(domain, Range) and domain.log}
    varied = [name for name in insight.slice_names(record, importance) if complete[name].nunique() > 1]
    if len(varied) > 1 and len(complete) > 3:
        drawn["parallel"] = search_figures.parallel_figure(trials, varied, logs=logs)
    for name in varied:
        drawn[f"slice_{name}"] = search_figures.slice_figure(trials, name, log=name in logs)
    return drawn
