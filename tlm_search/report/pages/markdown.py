"""The report as Markdown: the answer and the tables that fit on a page."""

from __future__ import annotations

import re

import pandas as pd

from tlm_search.committee.logits import SPLITS
from tlm_search.committee.metrics import metric_words
from tlm_search.report.claims.answer import rows_sentence, summary_line, what_matching_means
from tlm_search.report.figures.students import students_frame
from tlm_search.report.formatting import plain_text
from tlm_search.report.pages.build import Report
from tlm_search.report.tables.frames import (
    Frame,
    claims_frame,
    configurations_frame,
    frame_of,
    saturation_frame,
)
from tlm_search.space.task import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL
from tlm_search.study.record import StudyRecord

MAX_ROWS = 20
ACCURACIES = tuple(f"{split}_{name}" for name in METRICS_OF_ALL_LABELS + METRICS_OF_ONE_LABEL for split in SPLITS)

_PAPER = """@article{tiny-language-models,
  title   = {Tiny language models},
  author  = {Gross and Tzach and Halevi and Koresh and Kanter},
  journal = {Physica A},
  volume  = {681},
  pages   = {131102},
  note    = {arXiv 2507.14871}
}"""


def markdown(record: StudyRecord, report: Report) -> str:
    """Return the page as Markdown: sentences and tables."""
    answer = report.answer
    configurations, caption = configurations_frame(record, report.tables["trials"])
    parts = [
        f"# {plain_text(record.name)}",
        plain_text(summary_line(record)),
        plain_text(rows_sentence(record)),
        f"## {plain_text(answer.headline)}",
        *(plain_text(sentence) for sentence in answer.verdict),
        *(f"> {plain_text(caution.words)}" for caution in answer.cautions),
        _answer_table(answer.table),
        plain_text(what_matching_means(metric_words(record.space.task.metric))),
        plain_text(report.mixed or ""),
        "## Configurations",
        plain_text(caption) + ".",
        table_lines(configurations),
    ]
    for title, frame in (
        ("One student in place of a committee", students_frame(report.tables["students"])),
        ("What more members promise", saturation_frame(report.tables["saturation"])),
        ("Claims", claims_frame(report.tables["claims"])),
        ("Tries of the reference", frame_of(report.tables["reference_tries"], percents=ACCURACIES)),
        ("How the trials ended", frame_of(report.tables["outcomes"], percents=("share",))),
        ("Provenance", frame_of(report.tables["provenance"])),
    ):
        if frame.rows:
            parts += [f"## {title}", table_lines(frame)]
    parts += ["## Cite", f"```bibtex\n{bibtex(record)}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _answer_table(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    rows = [[str(title), *(str(cell) for cell in table.loc[title])] for title in table.index]
    return _lines(["", *(str(column) for column in table.columns)], rows)


def table_lines(frame: Frame) -> str:
    """Return a Markdown table of at most ``MAX_ROWS`` rows."""
    rows = [[cell.text for cell in row] for row in frame.rows[:MAX_ROWS]]
    text = _lines([column.title for column in frame.columns], rows)
    return text if len(frame.rows) <= MAX_ROWS else f"{text}\n\nThe first {MAX_ROWS} of {len(frame.rows)}."


def _lines(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell if line is lines[1] else plain_text(cell) for cell in line) + " |" for line in lines
    )


def bibtex(record: StudyRecord) -> str:
    """Return two BibTeX entries: the paper that asked the question, and this study."""
    version = str(record.versions.get("tlm-search", "")).strip()
    task, corpus = (str(record.data.get(f"{part}_name", "unknown")) for part in ("task", "corpus"))
    key = re.sub(r"[^a-z0-9]+", "-", record.name.lower()).strip("-") or "study"
    method = (
        f"Search over soft committees of shallow models, task {task}, corpus {corpus}, "
        f"sampler {record.space.sampler.name}, {len(record.in_state('complete'))} complete trials, "
        f"seed {record.space.seed}, space {record.space.digest}"
    )
    lines = [f"@misc{{tlm-search-{key},", f"  title   = {{The study {_braced(record.name)}}},"]
    lines.append("  howpublished = {tlm-search" + (f" {_braced(version)}" if version else "") + "},")
    lines += [f"  note    = {{{_braced(method)}}}", "}"]
    return _PAPER + "\n\n" + "\n".join(lines)


def _braced(text: str) -> str:
    """Escape what BibTeX would interpret in a field."""
    return re.sub(r"[{}\\\"%@]", "", text).replace("&", r"\&").replace("_", r"\_").replace("#", r"\#")
