"""A study in Python: run it or open it, ask what it found, take the winner home.

The commands ``run``, ``best`` and ``export`` do the same with the same functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.errors import InterruptedStudyError
from tlm_search.search.folder import find_study, read_study, store_root
from tlm_search.search.record import StudyRecord

if TYPE_CHECKING:
    import pandas as pd

    from tlm_search.committee.select import Selection
    from tlm_search.export.write import Exported
    from tlm_search.members.store import Store
    from tlm_search.report.evidence import Evidence
    from tlm_search.space.schema import Space

STUDIES = Path("studies")


@dataclass(frozen=True)
class Study:
    """A study as it stood when it was opened; ``record`` is all of it as plain data."""

    record: StudyRecord

    @classmethod
    def open(cls, study: str, *, studies_dir: Path | str = STUDIES, storage: str | None = None) -> Study:
        """Read a study by its name under ``studies_dir`` (a folder or a URL), or by its folder or URL.

        Raises:
            StudyError: there is none, or it cannot be read.
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
        """Run the study of ``space`` (or of its file), or continue it, until it holds the trials of its budget.

        ``announce`` is told each event; by default they are printed on standard error. A study that is complete is only
        opened.

        Raises:
            UserError: something that you can mend; results stay as they were.
            NoTrialSucceededError: no trial succeeded.
            InterruptedStudyError: it was interrupted; call again to continue.
        """
        from tlm_search.search.session import run_study
        from tlm_search.space.load import load_space

        session = run_study(
            load_space(Path(space)) if isinstance(space, str | Path) else space,
            studies_dir=studies_dir,
            storage=storage,
            address=address,
            fresh=fresh,
            announce=announce or _on_standard_error,
            show=lambda _: nullcontext(),
        )
        if session.interrupted:
            raise InterruptedStudyError("the study was interrupted", hint="call Study.run again to continue it")
        session.driver.check_result(continue_with="Study.run(...)")
        return cls(read_study(session.folder, storage))

    @property
    def store(self) -> Store:
        """The members of this study and of all beside it."""
        from tlm_search.members.shared_store import open_store

        return open_store(store_root(self.record.folder.parent))

    def frontier(self) -> pd.DataFrame:
        """Return accuracy and cost by committee size of each configuration, best on validation first.

        Configurations that ``best`` does not choose from come after the others. A row is a configuration and a size;
        the last rows are those of the reference, with ``trial`` -1, and of the linear baseline, with -3.
        """
        from tlm_search.report.tables import frontiers_table

        return frontiers_table(self.record)

    def best(
        self,
        *,
        match_reference: bool = False,
        max_latency_ms: float | None = None,
        max_parameters: float | None = None,
        top: int = 10,
    ) -> Selection:
        """Return the best configurations, a committee size for each, and the reasons; chosen on validation.

        What does not keep to the constraints of the study is left out, and the reasons say so. With
        ``match_reference`` those that match the reference, the cheapest first.
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
            votes_of=self.evidence.votes_of,
        )

    def distil(
        self,
        *,
        trial: int | None = None,
        size: int | None = None,
        documents: int = 0,
        storage: str | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> Study:
        """Train students of a committee, and return the study with them in its record.

        The committee is the best on validation, that of ``trial``, or its first ``size`` members. Students learn its
        mean probabilities on the training texts, and on the first ``documents`` of the corpus. What is trained already
        is not trained again. ``storage`` and ``announce`` are those of ``run``.

        Raises:
            UserError: there is no such committee, it has one member, or the study is being run.
            TrainingError: a student could not be trained.
        """
        from tlm_search.export.choose import choose
        from tlm_search.search.distil import distil

        chosen = choose(self.record, self.evidence, number=trial, size=size)
        announce = announce or _on_standard_error
        distil(self.record, chosen.trial, chosen.size, documents=documents, storage=storage, announce=announce)
        return Study(read_study(self.record.folder, storage))

    def export(
        self,
        out: Path | str,
        *,
        trial: int | None = None,
        size: int | None = None,
        student: bool = False,
        onnx: bool = False,
        int8: bool = False,
    ) -> Exported:
        """Write a committee to the new folder ``out``: the best on validation.

        ``trial`` asks for that of another trial (-1 is the reference), ``size`` for its first members only. With
        ``student`` it is the best model on validation that was distilled, of any committee or of that one.

        Raises:
            ExportError: there is no such committee, or ``out`` holds something.
        """
        from tlm_search.export.choose import choose, choose_student
        from tlm_search.export.write import export_committee

        if student:
            chosen = choose_student(self.record, number=trial, size=size)
        else:
            chosen = choose(self.record, self.evidence, number=trial, size=size)
        return export_committee(self.record, self.store, chosen, out=Path(out), onnx=onnx, int8=int8)

    @property
    def evidence(self) -> Evidence:
        """What the store knows beyond the record: logits and losses of the members."""
        from tlm_search.report.evidence import Evidence

        return Evidence(self.record, self.store)


def _on_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
