from typing import Any

import pytest
from driven import SEARCH, space_of

from tlm_search.cost.machine import Machine, Share
from tlm_search.cost.shares import Shares
from tlm_search.errors import ResourceError
from tlm_search.space.schema import Space

BOX = Machine(cpus=16, gpus=1, memory_gb=128, gpu_memory_gb=80)
LARGE = {"depth": 12, "heads": 16, "head_size": 64, "pretrain_size": 1000}


def simulated(**resources: Any) -> Space:
    return space_of(resources=resources)


def real(*, search: dict[str, Any] | None = None, vocabulary: int = 30_522, **resources: Any) -> Space:
    sections = {"tokenizer": {"vocabulary": vocabulary, "length": 128}, "resources": resources}
    return Space.from_document({"name": "test", "search": search or SEARCH, **sections})


@pytest.mark.parametrize(
    ("asked", "machines", "trials"),
    [
        ({}, [BOX], 16),
        ({"cpus_per_trial": 0.5}, [Machine(2, 0, 8)], 4),
        ({"cpus_per_trial": 2, "gpus_per_trial": 0.25}, [BOX], 4),
        ({"cpus_per_trial": 2, "gpus_per_trial": 0.1}, [BOX], 8),
        ({"gpus_per_trial": 1}, [BOX, BOX, Machine(64, 0, 64)], 2),
        ({"memory_gb": 50}, [BOX], 2),
        ({"concurrent_trials": 3}, [BOX], 3),
        ({"concurrent_trials": 300}, [BOX], 16),
        ({"cpus_per_trial": 3}, [Machine(4, 0, 8), Machine(4, 0, 8)], 2),
    ],
)
def test_as_many_trials_as_fit(asked: Any, machines: list[Machine], trials: int) -> None:
    assert Shares(simulated(**asked), machines).concurrent() == trials


@pytest.mark.parametrize("asked", [{"cpus_per_trial": 17}, {"gpus_per_trial": 2}, {"memory_gb": 129}])
def test_what_fits_on_no_machine_is_refused(asked: Any) -> None:
    with pytest.raises(ResourceError, match=r"the largest machine has 16 CPUs, 1 GPUs and 128.0 GB"):
        Shares(simulated(**asked), [BOX, BOX]).concurrent()


def test_memory_follows_from_the_configuration_in_coarse_steps() -> None:
    shares = Shares(real(vocabulary=2048), [BOX])
    small = shares.of(real(vocabulary=2048).settings({"depth": 1, "heads": 1, "pretrain_size": 0, "committee_size": 1}))
    assert small == Share(cpus=1, memory_gb=0.5)
    space = real(search={**LARGE, "committee_size": 8})
    assert Shares(space, [BOX]).of(space.settings({})).memory_gb in (4, 8, 16)
    assert (
        Shares(simulated(), [BOX])
        .of(simulated().settings({"depth": 1, "heads": 1, "pretrain_size": 0, "committee_size": 1}))
        .memory_gb
        == 0
    )


@pytest.mark.parametrize("resources", [{}, {"gpus_per_trial": 1}], ids=["CPU", "GPU"])
def test_a_trial_that_counts_words_has_the_memory_for_it(resources: Any) -> None:
    counts = {"depth": 1, "heads": 1, "committee_size": 1, "initial_embeddings": "cooccurrence"}

    def memory_gb(size: int) -> float:
        space = real(vocabulary=30_522, search={**counts, "pretrain_size": size}, **resources)
        return Shares(space, [BOX]).of(space.settings({})).memory_gb

    assert memory_gb(1000) == 2 > memory_gb(0)


def test_a_trial_takes_no_more_than_a_machine() -> None:
    space = real(search={**LARGE, "committee_size": 1})
    assert Shares(space, [Machine(4, 0, 6)]).of(space.settings({})).memory_gb == 6
    assert Shares(space, [Machine(4, 0, 6)]).concurrent() == 1


def test_memory_is_that_of_a_machine_with_enough_processors() -> None:
    """Otherwise the share of a trial fits on no machine, and Ray waits for ever."""
    space = real(search={**LARGE, "committee_size": 1}, cpus_per_trial=16)
    settings = space.settings({})
    machines = [Machine(4, 0, 256), Machine(64, 0, 6)]
    shares = Shares(space, machines)
    assert shares.concurrent() == 1
    shares.learn(settings, 20 * shares.estimated_gb(settings))
    assert shares.of(settings) == Share(16, 0, 6)
    assert any(shares.of(settings).fits(machine) for machine in machines)
    assert Shares(space, [Machine(4, 0, 256), Machine(64, 0, 12)]).concurrent() == 1


def test_what_fits_on_no_machine_is_told_by_those_with_enough_processors() -> None:
    deep = {**LARGE, "depth": 48, "heads": 32, "committee_size": 1}
    machines = [Machine(4, 0, 256), Machine(64, 0, 12)]
    with pytest.raises(ResourceError, match=r"a member of depth 48, .* the largest machine has 12.0 GB"):
        Shares(real(search=deep, cpus_per_trial=16), machines).concurrent()
    with pytest.raises(ResourceError, match=r"asks for 16 CPUs and 20 GB of memory; .* 64 CPUs, 0 GPUs and 12.0 GB"):
        Shares(simulated(cpus_per_trial=16, memory_gb=20), machines).concurrent()
    with pytest.raises(ResourceError, match=r"asks for 65 CPUs .* has 64 CPUs, 0 GPUs and 256"):
        Shares(real(search=deep, cpus_per_trial=65), machines).concurrent()


def test_a_member_that_no_machine_can_hold_is_refused_before_anything_is_queued() -> None:
    space = real(search={**LARGE, "depth": {"choices": [1, 48]}, "heads": 32, "committee_size": 1})
    with pytest.raises(ResourceError, match=r"a member of depth 48, width 2048, .* the largest machine has 8.0 GB"):
        Shares(space, [Machine(4, 0, 8)]).concurrent()
    uncounted = real(search={**LARGE, "depth": {"choices": [1, 48]}, "heads": 32, "committee_size": 1}, memory_gb=None)
    assert Shares(uncounted, [Machine(4, 0, 8)]).concurrent() == 4


def test_a_share_of_a_gpu_follows_from_the_members_that_are_stacked_on_it() -> None:
    space = real(search={**LARGE, "depth": 1, "committee_size": {"choices": [1, 8, 64]}}, gpus_per_trial="auto")
    shares = Shares(space, [BOX])
    one, eight, many = (shares.of(space.settings({"committee_size": size})).gpus for size in (1, 8, 64))
    assert 0 < one < eight <= 1
    assert many == eight, "eight at most are trained at once"
    assert shares.concurrent() == round(1 / one)


def test_memory_on_cpus_is_that_of_the_members_that_are_stacked() -> None:
    narrow = real(search={**SEARCH, "committee_size": {"choices": [1, 8, 64]}, "pretrain_batch_size": 4})
    wide = real(search={**LARGE, "committee_size": {"choices": [1, 8, 64]}})
    for space, stacks in ((narrow, True), (wide, False)):
        shares = Shares(space, [BOX])
        given = {"depth": 2, "heads": 4, "pretrain_size": 1000} if stacks else {}
        one, eight, many = (space.settings({**given, "committee_size": size}) for size in (1, 8, 64))
        assert shares.least_stacked() == (8 if stacks else 1)
        assert shares.of(eight) == shares.of(many)
        assert (shares.of(eight).memory_gb > shares.of(one).memory_gb) == stacks
        # A stack that needs what was estimated corrects nothing.
        shares.learn(eight, shares.estimated_gb(eight, members=8 if stacks else 1))
        assert shares.estimated_gb(one) == Shares(space, [BOX]).estimated_gb(one)


def test_auto_needs_a_gpu_whose_memory_is_known() -> None:
    with pytest.raises(ResourceError, match="no GPU with known memory") as refused:
        Shares(real(gpus_per_trial="auto"), [Machine(16, 1, 64)]).concurrent()
    assert refused.value.hint is not None
    assert "a number" in refused.value.hint


def test_what_was_measured_corrects_the_estimate() -> None:
    space = real(search={**LARGE, "committee_size": 1})
    shares, settings = Shares(space, [BOX]), space.settings({})
    estimate = shares.estimated_gb(settings)
    shares.learn(settings, 2 * estimate)
    assert shares.estimated_gb(settings) == pytest.approx(2 * estimate)
    assert shares.of(settings).memory_gb >= 2 * Shares(space, [BOX]).of(settings).memory_gb
    shares.learn(settings, estimate)  # a worker's peak never falls, but another worker's may be lower
    assert shares.estimated_gb(settings) == pytest.approx(2 * estimate)
    unknown = Shares(space, [BOX])
    unknown.learn(settings, 0.0)
    assert unknown.estimated_gb(settings) == estimate
