"""A study in Python: run or open it, read its tables and figures, export the best committee.

The commands ``run``, ``best``, ``report`` and ``export`` call the same functions, so the numbers are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.errors import InterruptedStudyError, UserError
from tlm_search.study.location import StudyLocation, find_study, read_study, store_root
from tlm_search.study.record import StudyRecord

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    import plotly.graph_objects as go

    from tlm_search.committee.select import Selection
    from tlm_search.export.write import Exported
    from tlm_search.report.evidence import Evidence
    from tlm_search.report.pages.build import Report
    from tlm_search.space.schema import Space
    from tlm_search.store.local import Store

STUDIES = Path("studies")


@dataclass(frozen=True, repr=False)
class Study:
    """A study as it was when it was opened; ``record`` has all of it as plain data.

    Tables are pandas DataFrames, the same as in ``tables/`` of the report. Accuracies and other metrics are shares from
    0 to 1, times are seconds unless a column ends in ``_ms``, cross-entropies are nats. Figures are Plotly figures, the
    same as on the page of the report. Without data yet, tables are empty and figures raise a UserError.

    Examples:
        >>> study = Study.open("committee")
        >>> study.frontier().query("size == 4")[["configuration", "test_accuracy"]]
        >>> study.plot_frontier().show()
    """

    record: StudyRecord

    def __post_init__(self) -> None:
        """Refuse a name: ``Study("committee")`` is easily written for ``Study.open("committee")``."""
        if not isinstance(self.record, StudyRecord):
            raise TypeError(f"Study takes a StudyRecord; to open a study, call Study.open({str(self.record)!r})")

    def __repr__(self) -> str:
        """Write the name of the study, its progress and its folder."""
        from tlm_search.report.claims.answer import summary_line

        return f"<Study {self.record.name!r}: {summary_line(self.record)}; {self.record.folder}>"

    def _repr_html_(self) -> str:
        """Show the answer of the report and its table in a notebook."""
        from html import escape

        answer = self._report.answer
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in (answer.headline, *answer.verdict))
        table = answer.table.to_html(border=0) if len(answer.table) else ""
        return f"<h4>{escape(self.record.name)}</h4>{sentences}{table}"

    @classmethod
    def open(cls, study: str, *, studies_dir: Path | str = STUDIES, storage: str | None = None) -> Study:
        """Read a study by its name under ``studies_dir`` (a folder or a URL), or by its folder or URL.

        Raises:
            StudyError: the study does not exist, or it cannot be read.
        """
        return cls(read_study(find_study(str(study), studies_dir), storage))

    @classmethod
    def run(
        cls,
        space: Space | Path | str,
        *,
        studies_dir: Path | str = STUDIES,
        storage: str | None = None,
        address: str | None = None,
        fresh: bool = False,
        announce: Callable[[str], None] | None = None,
    ) -> Study:
        """Run or continue the study of ``space`` (or of its file) until it has the trials of its budget.

        Events and progress appear on standard error, as on the command line: bars in a terminal, otherwise (for example
        in a notebook) a line every 30 seconds. If you give ``announce``, it is called with each event instead. A
        complete study is only opened.

        Raises:
            UserError: a problem that you can solve; the results stay as they were.
            NoTrialSucceededError: no trial succeeded.
            InterruptedStudyError: the run was interrupted; call again to continue.
        """
        from tlm_search.search.display import Display
        from tlm_search.search.session import run_study
        from tlm_search.space.schema import load_space

        display = Display()
        session = run_study(
            load_space(Path(space)) if isinstance(space, str | Path) else space,
            studies_dir=studies_dir,
            storage=storage,
            address=address,
            fresh=fresh,
            announce=announce or display.announce,
            show=display.show if announce is None else lambda _: nullcontext(),
        )
        if session.interrupted:
            raise InterruptedStudyError("the study was interrupted", hint="call Study.run again to continue it")
        session.driver.check_result(continue_with="Study.run(...)")
        return cls(read_study(session.folder, storage))

    @property
    def store(self) -> Store:
        """The store with the members of all studies in the same folder."""
        from tlm_search.store.shared import open_store

        return open_store(store_root(self.record.folder.parent))

    def frontier(self) -> pd.DataFrame:
        """Return accuracy and cost by committee size: a row for each configuration and size, the best first.

        Validation decides the order. Configurations that ``best`` may not choose come after the others. The last rows
        are those of the reference, with ``trial`` -1, and of the linear baseline, with -3.

        Columns: ``trial``, ``rank``, ``configuration``, ``pretrain_size`` (documents), ``size`` (members), ``eligible``
        (``best`` may choose it); ``validation_metric`` and ``test_metric``, the task's metric, with ``test_metric_low``
        and ``test_metric_high``, its 95% interval; the accuracies with ``test_accuracy_low`` and so on;
        ``subset_low`` and ``subset_high``, the range of 95% of the ``subsets`` of this size; ``test_gain`` over the
        size before; cross-entropies (nats), macro F1, calibration error; the costs ``latency_ms`` (one text),
        ``serving_flops`` (one text), ``parameters``, ``training_flops``, ``training_seconds``.
        """
        from tlm_search.report.tables.tables import frontiers_table

        return frontiers_table(self.record)

    def trials_dataframe(self) -> pd.DataFrame:
        """Return a row for each trial, by number.

        Columns: ``trial``, ``state`` (complete, pruned, failed, running), a column for each searched setting, the
        metrics of the whole committee on validation and test, ``feasible`` (within the constraints),
        ``members_trained``, ``members_reused``, ``seconds``, ``started`` and ``finished`` (local times),
        ``interrupted``, ``retry_of`` (the trial that it repeats), ``error``.
        """
        from tlm_search.report.tables.tables import trials_table

        return trials_table(self.record)

    def members_dataframe(self) -> pd.DataFrame:
        """Return a row for each single member of each configuration and of the reference.

        Trials that differ only in their committee size share their members, so the largest of them represents all.

        Columns: ``trial`` (-1 is the reference), ``configuration``, ``member`` (1 is the first), ``digest`` (its name
        in the store), ``metric`` (the task's) with ``validation_metric`` and ``test_metric``, ``validation_accuracy``,
        ``test_accuracy``, ``test_cross_entropy`` (nats). The logits of all members are read. Trials with members that
        the store lacks are left out.
        """
        from tlm_search.report.tables.inside import members_table
        from tlm_search.report.tables.ranking import ranked

        reference = () if self.record.reference is None else (self.record.reference,)
        return members_table(self.record, [*ranked(self.record), *reference], self.evidence)

    def claims(self) -> pd.DataFrame:
        """Return a row for each claim and open question of the paper, with the verdict of this study.

        Columns: ``claim``, ``metric``, ``effect`` with ``low`` and ``high`` (95% interval; shares), ``seeds`` (members
        of the smaller side; missing in comparisons of the models of the answer), ``verdict``, ``measured_on``.
        """
        return self._report.tables["claims"]

    def plot_frontier(self) -> go.Figure:
        """Draw test accuracy (or the task's metric) against committee size, with reference and baseline."""
        return self._figure("frontier", "it needs a complete trial")

    def plot_tradeoff(self, cost: str = "latency_ms") -> go.Figure:
        """Draw the metric on test against a cost, with the Pareto front of validation.

        ``cost`` is latency_ms, serving_flops, parameters, training_flops or training_seconds.
        """
        from tlm_search.report.tables.costs import COSTS

        if cost not in COSTS:
            raise UserError(f"{cost} is not a cost of a committee", hint=f"allowed: {', '.join(COSTS)}")
        return self._figure(cost, f"it needs a complete trial with a known {cost}")

    def plot_pretraining(self) -> go.Figure:
        """Draw the test accuracy of single members against the size of their pre-training."""
        return self._figure("pretraining", "it needs complete trials with two sizes of pre-training or more")

    def plot_history(self) -> go.Figure:
        """Draw the metric on validation by trial, and the best so far."""
        return self._figure("history", "it needs a complete trial")

    def plot_importance(self) -> go.Figure:
        """Draw the share of each searched setting in the variance of the metric on validation (PED-ANOVA)."""
        from tlm_search.report.tables.insight import MIN_TRIALS

        return self._figure("importance", f"it needs at least {MIN_TRIALS} complete trials that differ in the metric")

    def plot_parallel(self) -> go.Figure:
        """Draw each complete trial as a line across its settings, coloured by quarters of the metric on validation."""
        return self._figure("parallel", "it needs four complete trials and two settings that vary")

    def plot_confusion(self) -> go.Figure:
        """Draw the share of the test texts of each label that the best committee takes for each label."""
        from tlm_search.report.figures.inside import MAX_LABELS

        return self._figure("confusion", f"it needs a best committee, its logits, and at most {MAX_LABELS} labels")

    def plot_calibration(self) -> go.Figure:
        """Draw accuracy against confidence on test, for several sizes of the best committee."""
        return self._figure("calibration", "it needs a best committee and its logits")

    def report(self, out: Path | str, *, formats: Sequence[str] | None = None) -> Path:
        """Write the report into the folder ``out``, and return the path of its page.

        ``formats`` are some of html, csv, tex, md, png and svg; the first four by default.

        Raises:
            StudyError: the folder cannot be written.
            UserError: a format is unknown, or the packages that draw pictures are not installed.
        """
        from tlm_search.report.pages.files import DEFAULT, read_formats
        from tlm_search.report.pages.html import write_report

        chosen = DEFAULT if formats is None else read_formats(",".join(formats))
        return write_report(self.record, self.store, Path(out), formats=chosen)

    def optuna_study(self, *, storage: str | None = None) -> optuna.Study:
        """Return a copy of the study in memory as an ``optuna.Study``, for Optuna's own tools.

        Changes to the copy do not affect the study. Pass ``storage`` if the study is in a database whose password is
        not stored.
        """
        return StudyLocation.of(self.record.folder, storage).copy()

    def best(
        self,
        *,
        match_reference: bool = False,
        max_latency_ms: float | None = None,
        max_parameters: float | None = None,
        top: int = 10,
    ) -> Selection:
        """Return the best configurations on validation, one committee size each, and the reasons.

        Committees outside of the study's constraints are left out, and the reasons say so. With ``match_reference``,
        return only committees that match the reference on validation, the cheapest first.
        """
        from tlm_search.committee.select import select

        return select(
            self.record.trials,
            self.record.reference,
            baseline=self.record.baseline,
            constraints=self.record.space.constraints,
            match_reference=match_reference,
            max_latency_ms=max_latency_ms,
            max_parameters=max_parameters,
            top=top,
            logits_of=self.evidence.logits_of,
            confirmed=self.record.confirmed,
        )

    def distil(
        self,
        *,
        trial: int | None = None,
        size: int | None = None,
        pool: str | None = None,
        documents: int = 0,
        storage: str | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> Study:
        """Train students of a committee, and return the study with them in its record.

        The committee is the best on validation, or that of ``trial``, or its first ``size`` members. With ``pool`` it
        is a mixed committee as in `export`, and its students have the configuration that is best on validation.
        Students learn the mean probabilities on the training texts, and on the first ``documents`` of the corpus.
        Existing students are not trained again. ``storage`` and ``announce`` are as in ``run``.

        Raises:
            UserError: the committee does not exist or has one member, or a process runs the study.
            TrainingError: a student could not be trained.
        """
        from tlm_search.export.choose import choose, teachers_of
        from tlm_search.search.distil import distil

        chosen = choose(self.record, self.evidence, number=trial, size=size, pool=pool)
        announce = announce or _on_standard_error
        distil(
            self.record,
            teachers_of(self.record, self.evidence, chosen),
            documents=documents,
            storage=storage,
            announce=announce,
        )
        return Study(read_study(self.record.folder, storage))

    def export(
        self,
        out: Path | str,
        *,
        trial: int | None = None,
        size: int | None = None,
        student: bool = False,
        pool: str | None = None,
        members: Sequence[str | tuple[int, int]] | None = None,
        onnx: bool = False,
        int8: bool = False,
    ) -> Exported:
        """Write a committee to the new folder ``out``, by default the best on validation.

        ``trial`` selects the committee of another trial (-1 is the reference), ``size`` its first members. With
        ``student``, export the best student on validation, of any committee or of the selected one.

        A mixed committee has members of several trials. ``pool`` chooses them on validation from the members of the
        best configurations, as in the report's table of committees: ``"greedy"`` takes one after the other, some of
        them more than once; ``"weighted"`` gives each a fitted weight. ``members`` names them by digest, as in
        `members_dataframe`, or as (trial, member), where 1 is the first. A member that is named twice counts twice.

        Raises:
            ExportError: the committee does not exist, or ``out`` is not empty.
        """
        from tlm_search.export.choose import choose, choose_student
        from tlm_search.export.write import check_has_weights, export_committee

        check_has_weights(self.record)
        if student and members is None:
            chosen = choose_student(self.record, number=trial, size=size, pool=pool)
        elif student:
            raise UserError("members and student both choose what to export", hint="give only one of them")
        else:
            chosen = choose(self.record, self.evidence, number=trial, size=size, pool=pool, members=members)
        return export_committee(self.record, self.store, chosen, out=Path(out), onnx=onnx, int8=int8)

    @cached_property
    def evidence(self) -> Evidence:
        """What the store adds to the record: logits and losses of the members."""
        from tlm_search.report.evidence import Evidence

        return Evidence(self.record, self.store)

    @cached_property
    def _report(self) -> Report:
        from tlm_search.report.pages.build import build_report

        return build_report(self.record, self.evidence)

    def _figure(self, name: str, needed: str) -> go.Figure:
        from tlm_search.report.pages.files import standalone

        if name not in self._report.figures:
            raise UserError(f"the study {self.record.name} cannot draw this figure: {needed}")
        return standalone(self._report.figures[name])


def _on_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
