"""Ray Tune runs the driver's trials, on this machine or on a cluster. Ray's own output is hidden."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.cost.machine import this_machine
from tlm_search.cost.shares import Shares
from tlm_search.errors import TlmSearchError
from tlm_search.search.driver import Driver
from tlm_search.search.ray_tune.cluster import cluster, machines, watched
from tlm_search.search.ray_tune.interrupts import REASON, Interrupts
from tlm_search.search.ray_tune.leftovers import remove_leftovers, temporary_folder
from tlm_search.search.workplace import Workplace
from tlm_search.space.schema import Space

if TYPE_CHECKING:
    from tlm_search.search.ray_tune.searcher import Hooks


def run_driver(
    driver: Driver,
    workplace: Workplace,
    space: Space,
    *,
    address: str | None,
    announce: Callable[[str], None],
) -> bool:
    """Run the driver's jobs until it has ended; return whether the user interrupted it.

    Raises:
        ResourceError: no machine of the cluster can hold one trial.
        StudyError: there is no cluster at ``address``.
        ClusterError: the cluster died.
    """
    # Silence Ray, because the driver reports errors of trials.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    interrupts = Interrupts(driver.stop, announce)
    hooks: Hooks | None = None
    remove_leftovers(Path(tempfile.gettempdir()))

    def collapse(error: TlmSearchError) -> None:
        assert hooks is not None
        hooks.fail(error)
        interrupts.collapse()

    with temporary_folder() as scratch:
        with interrupts.heard(), suppress(KeyboardInterrupt):
            with interrupts.put_off():
                # Import it before Ray starts, because Ray's processes give up on a busy processor.
                from tlm_search.search.ray_tune.searcher import Hooks, make_tuner
            with cluster(address, announce) as there:
                try:
                    with interrupts.put_off():  # a half-started Ray cannot be ended
                        here = this_machine(with_gpus=bool(space.resources.gpus_per_trial))
                        there()
                        interrupts.take()
                        shares = Shares(space, [here] if address is None else machines())
                        hooks = Hooks(driver, interrupts, workplace.logs, shares)
                    with watched(announce, collapse, joined=address is not None):
                        slots = driver.progress.slots = shares.concurrent()
                        make_tuner(hooks, workplace, limit=slots, scratch=scratch).fit()
                finally:
                    interrupts.end()
                    if hooks is None or hooks.problem is None:
                        driver.abandon(REASON if interrupts.count else "its runner ended")
        if hooks is not None and hooks.problem is not None:
            raise hooks.problem
        return interrupts.count > 0
