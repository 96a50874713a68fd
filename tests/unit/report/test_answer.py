"""The commands that a report suggests to run next."""

from dataclasses import replace

import builders

from tlm_search.committee.select import select
from tlm_search.report.claims.answer import answer_of
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import percent
from tlm_search.report.pages.build import build_report


def export_commands(answer):
    return [(purpose, command) for purpose, command in answer.next_commands if " export " in command]


def command(record, choice, out):
    candidate = choice.candidate
    return (
        f"tlm-search export {record.name} --trial {candidate.trial.number} --size {candidate.size} "
        f"--out {record.name}-{out}"
    )


def test_the_first_command_takes_the_best_committee_out():
    record = builders.study(reference_trial=builders.reference())
    answer = answer_of(record, Evidence(record, None))
    reached = percent(answer.best.candidate.test_accuracy)
    assert answer.next_commands[0] == (
        f"export the best committee ({reached} on test)",
        command(record, answer.best, "committee"),
    )


def test_the_cheapest_that_matches_is_suggested_only_where_test_confirms_it():
    for rows, confirmed in ((1000, True), (200, False)):
        record = builders.study(builders.grid(24, rows=rows), reference_trial=builders.reference(rows=rows))
        matching = select(record.trials, record.reference, match_reference=True).choices[0]
        answer = answer_of(record, Evidence(record, None))
        assert matching.matches_on_validation
        assert matching.matches_reference is confirmed
        assert answer.cheapest == (matching if confirmed else None)
        second = (
            f"or the cheapest that matches the reference ({percent(matching.candidate.test_accuracy)} on test)",
            command(record, matching, "cheapest"),
        )
        assert (second in answer.next_commands) is confirmed


def test_a_study_without_a_reference_is_compared_with_none():
    record = builders.study()
    record = replace(record, space=record.space.model_copy(update={"reference": None}))
    answer = answer_of(record, Evidence(record, None))
    assert "reference" not in " ".join([answer.headline, *answer.verdict])
    assert len(export_commands(answer)) == 1
    assert not [command for _, command in answer.next_commands if "--match-reference" in command]


def test_each_committee_is_placed_beside_the_interval_of_the_reference():
    record = builders.study(reference_trial=builders.reference())
    table = answer_of(record, Evidence(record, None)).table
    low, high = (record.reference.frontier[-1].figures[f"test_accuracy_{end}"] for end in ("low", "high"))
    accuracy = float(table.loc["Test accuracy", "Best committee"].split("%")[0]) / 100
    place = "above" if accuracy > high else "below" if accuracy < low else "within"
    assert table.loc["Against the reference", "Best committee"] == f"{place} its interval"
    assert table.loc["Against the reference", "Reference"] == ""


def test_a_reference_of_several_models_is_named_so_and_one_of_them_stands_beside_it():
    record = builders.study(reference_trial=builders.reference(committee_size=3))
    answer = answer_of(record, Evidence(record, None))
    one = percent(record.reference.frontier[0].figures["test_accuracy"])
    assert "the reference of 3 models of depth 6" in answer.headline
    assert any(f"One model of the reference alone reaches {one}" in sentence for sentence in answer.verdict)
    assert list(answer.table.columns)[-2:] == ["Reference", "One model of it"]
    assert answer.table.loc["Members", "One model of it"] == "1"
    assert answer.table.loc["Test accuracy", "One model of it"].startswith(one)


def test_an_answer_keeps_to_the_constraints_of_the_study():
    trials = [
        builders.trial(0, heads=8, pretrain_size=4000, committee_size=8),
        builders.trial(1, heads=2, committee_size=2),
    ]
    record = builders.study(trials, constraints=["parameters <= 1e6"], reference_trial=builders.reference())
    answer = answer_of(record, Evidence(record, None))
    assert answer.best.candidate.parameters <= 1e6
    assert any("left out by the constraints of the study" in sentence for sentence in answer.verdict)


def test_where_nothing_is_allowed_the_answer_says_so():
    record = builders.study(constraints=["parameters <= 1"], reference_trial=builders.reference())
    answer = answer_of(record, Evidence(record, None))
    assert answer.headline == "No committee meets the constraints of the study yet."
    assert answer.best is answer.cheapest is None
    assert "parameters <= 1" in answer.verdict[0]
    assert list(answer.table.columns) == ["Reference"]
    assert not any("export" in command for _, command in answer.next_commands)
    build_report(record, Evidence(record, None))  # the report has no store to read logits from


def test_simulated_members_have_nothing_to_take_out():
    record = builders.study(trainer="simulated")
    assert not any("export" in command for _, command in answer_of(record, Evidence(record, None)).next_commands)


def test_a_linear_model_that_is_as_good_is_the_first_sentence_and_has_a_column():
    best = builders.trial(0, heads=8, pretrain_size=4000, committee_size=8)
    plain = builders.study([best], reference_trial=builders.reference())
    told = answer_of(plain, Evidence(plain, None))
    accuracy = told.best.candidate.test_accuracy
    same = replace(builders.baseline(), frontier=(builders.baseline().frontier[0].having({"test_accuracy": accuracy}),))
    cases = (
        (builders.baseline(0.1), None, "yes"),
        (builders.baseline(9.0), "A linear model is better: TF-IDF", "no,"),
        (same, "The best committee is not shown to be above a linear model: ", "unsure"),
        (
            replace(same, frontier=(same.frontier[0].having({"test_accuracy": accuracy - 0.001}),)),
            "The best committee is not shown to be above a linear model: ",
            "unsure",
        ),
    )
    for linear, first, above in cases:
        record = builders.study([best], reference_trial=builders.reference(), linear=linear)
        answer = answer_of(record, Evidence(record, None))
        if first is None:
            assert (answer.headline, answer.verdict) == (told.headline, told.verdict)
        else:
            assert answer.headline.startswith(first)
            assert answer.verdict == (told.headline, *told.verdict)
        assert answer.table.loc["Above the linear model", "Best committee"].startswith(above)
        assert answer.table.loc["Configuration", "Linear model"] == "TF-IDF of words, C = 10"
        percents = percent(linear.frontier[0].figures["test_accuracy"])
        assert answer.table.loc["Test accuracy", "Linear model"].startswith(percents)
        assert list(answer.table.index) == [*told.table.index, "Above the linear model"]
        build_report(record, Evidence(record, None))
    assert "Linear model" not in told.table.columns
