"""What a report says to run next."""

import builders

from tlm_search.report.answer import answer_of
from tlm_search.report.evidence import Evidence


def test_the_first_command_takes_the_committee_out():
    record = builders.study(reference_trial=builders.reference())
    answer = answer_of(record, Evidence(record, None))
    chosen = (answer.cheapest or answer.best).candidate
    assert answer.next_commands[0] == (
        "take the committee out as files that load elsewhere",
        f"tlm-search export {record.name} --trial {chosen.trial.number} --size {chosen.size} "
        f"--out {record.name}-committee",
    )


def test_simulated_members_have_nothing_to_take_out():
    record = builders.study(trainer="simulated")
    assert not any("export" in command for _, command in answer_of(record, Evidence(record, None)).next_commands)
