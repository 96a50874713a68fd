"""The names of members: those of earlier versions stay, and every setting that changes a member changes its name."""

from typing import Any

import pytest

from tlm_search.members.spec import LinearSpec, MemberSpec, committee_specs, students
from tlm_search.space.settings import complete

# The digests of the first version. Stores contain such members: a change here means that they are trained again.
NAMES = [
    ({"pretrain_size": 1000}, "dc80934eab497b8038b294592944f36d", "06df6135edaa53272a74d5b5c4887afa"),
    ({"depth": 2, "pooling": "mean", "width": 64}, "cca10cdbd38ec3b597fe14313b718029", None),
    (
        {"convolution_layers": 2, "pretrain_size": 5, "convolution_kernel": "16x3"},
        "b0f470325ac2f42752242b853a77e13d",
        "fb32071376ea94018a200ea2e64046b9",
    ),
]
# its first digest, from the version that introduced spans
SPANS = ({"pooling": "spans"}, "a552982023a5e3e66baa5f7e9cf855cf", None)
LATER = {
    "normalisation": "pre",
    "layer_weights": "shared",
    "pretrain_schedule": "cosine",
    "pretrain_optimiser": "muon",
    "pretrain_softmax": "sampled",
    "initial_embeddings": "cooccurrence",
}


def spec_of(given: dict[str, Any]) -> MemberSpec:
    sizes = {"vocabulary": 100, "positions": 16, "labels": 3}
    (spec,) = committee_specs(complete(given), **sizes, corpus="corpus", task="task", seeds=(7,))
    return spec


@pytest.mark.parametrize(("given", "member", "pretrained"), [*NAMES, SPANS])
def test_members_keep_their_names(given: dict[str, Any], member: str, pretrained: str | None) -> None:
    spec = spec_of(given)
    assert spec.digest == member
    assert (spec.pretrained and spec.pretrained.digest) == pretrained


@pytest.mark.parametrize("name", LATER)
def test_what_came_later_is_in_the_name_where_it_was_chosen(name: str) -> None:
    plain, chosen = (
        spec_of({"pretrain_size": 1000, "depth": 2}),
        spec_of({"pretrain_size": 1000, "depth": 2, name: LATER[name]}),
    )
    assert plain.digest != chosen.digest
    assert plain.pretrained is not None
    assert chosen.pretrained is not None
    assert plain.pretrained.digest != chosen.pretrained.digest


@pytest.mark.parametrize(
    "given",
    [{"initial_embeddings": "cooccurrence"}, {"pretrain_size": 1000, "pretrain_epochs": 0}],
    ids=["nothing to count", "no epochs from a random table"],
)
def test_what_changes_nothing_is_a_member_without_pre_training(given: dict[str, Any]) -> None:
    assert spec_of(given) == spec_of({})


def test_counts_alone_are_one_start_whatever_would_follow() -> None:
    counts = {"pretrain_size": 1000, "pretrain_epochs": 0, "initial_embeddings": "cooccurrence"}
    alone = spec_of(counts)
    assert alone == spec_of({**counts, "pretrain_learning_rate": 1e-4, "masking_probability": 0.4})
    assert alone.digest not in (spec_of({}).digest, spec_of({**counts, "pretrain_epochs": 1}).digest)


def test_members_share_pre_trainings_in_turn() -> None:
    sizes = {"vocabulary": 100, "positions": 16, "labels": 3}

    def of(shared: int) -> tuple[MemberSpec, ...]:
        given = complete({"pretrain_size": 1000, "pretrain_seeds": shared})
        return committee_specs(given, **sizes, corpus="corpus", task="task", seeds=range(20, 24))

    starts = {shared: [member.pretrained.seed for member in of(shared) if member.pretrained] for shared in (0, 1, 2, 9)}
    assert starts == {0: [20, 21, 22, 23], 1: [20] * 4, 2: [20, 21, 20, 21], 9: [20, 21, 22, 23]}
    assert of(9) == of(0), "as many pre-trainings as members, or more, are one for each member"
    assert [member.seed for member in of(1)] == [20, 21, 22, 23], "fine-tuning differs"
    assert of(1)[0] == of(0)[0], "the first member is found again"
    assert len({member.digest for member in of(1)}) == 4


def test_the_linear_model_is_in_the_name_of_hybrids_alone() -> None:
    plain, hybrid = spec_of({"depth": 2}), spec_of({"depth": 2, "linear_member": True})
    assert plain.digest == spec_of({"depth": 2, "linear_member": False}).digest != hybrid.digest
    assert hybrid.plain == plain == plain.plain
    assert hybrid.linear == LinearSpec("task", "", 3)
    assert "linear" not in plain.to_document()


def test_students_and_linear_members_have_class_weights_where_they_matter() -> None:
    given = {"class_weights": "balanced", "linear_member": True, "self_training": 1}
    plain, weighted = (spec_of({**given, "class_weights": value}) for value in ("none", "balanced"))
    assert plain.digest == spec_of({"linear_member": True, "self_training": 1}).digest != weighted.digest
    assert "class_weights" not in plain.to_document()["settings"]
    assert plain.linear is not None
    assert weighted.linear is not None
    assert "class_weights" not in plain.linear.to_document()
    assert weighted.linear.to_document()["class_weights"] == "balanced"
    [student] = students((weighted,), (weighted,), complete(given), unlabelled="texts")
    assert student.settings.class_weights == "none"  # it learns probabilities, not labels
