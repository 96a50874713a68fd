"""One study and one export for all tests of the room."""

import pytest
from finished import finished_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def exported(finished, tmp_path_factory):
    from tlm_search.export.choose import choose
    from tlm_search.export.write import export_committee
    from tlm_search.report.evidence import Evidence

    out = tmp_path_factory.mktemp("exports") / "tiny"
    chosen = choose(finished.record, Evidence(finished.record, finished.store), number=0)
    export_committee(finished.record, finished.store, chosen, out=out)
    return out
