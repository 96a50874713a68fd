"""Test your own trainer: `check_trainer` tries it on a few texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tlm_search.members.own import SPLITS, OwnMembers, OwnTrainer, Request, checked
from tlm_search.space.settings import Value

_WORDS = (("stars", "planet", "orbit", "moon"), ("bread", "flour", "oven", "salt"), ("goal", "match", "team", "ball"))
_NAMES = ("space", "kitchen", "sports")


def check_trainer(
    trainer: OwnTrainer, *, variant: str = "default", settings: Mapping[str, Value] | None = None
) -> None:
    """Train two members of ``variant`` and ``settings`` on ninety texts, and check what a study needs of a trainer.

    A trainer returns finite numbers for each text and label: the same ones for the same request, others for another
    seed. It does not change the request, and it names the ``settings`` that it reads. It learns: it is right on more
    than half of the validation texts, which have three labels.

    Raises:
        AssertionError: the trainer fails a check; the message says which.
        TrainingError: an answer has the wrong form.
        UserError: ``version`` or ``settings`` of the class have the wrong form.

    Examples:
        >>> def test_my_trainer():
        ...     check_trainer(MyTrainer(), variant="nb", settings={"alpha": 0.1})
    """
    name = type(trainer).__name__
    reads = OwnMembers(name, trainer).reads
    unread = [setting for setting in settings or {} if setting not in reads]
    assert not unread, f"{name} does not list {', '.join(unread)} in its attribute settings, which are {reads}"
    first, again, other = (request_of(seed, variant=variant, settings=settings) for seed in (0, 0, 1))
    answers = [
        checked(trainer.train(one), {split: len(one.texts[split]) for split in SPLITS}, labels=len(_NAMES), who=name)
        for one in (first, again, other)
    ]
    untouched = request_of(0, variant=variant, settings=settings)
    assert first.texts == untouched.texts, f"{name} changed the texts of its request"
    assert first.settings == untouched.settings, f"{name} changed the settings of its request"
    assert (first.labels == untouched.labels).all(), f"{name} changed the labels of its request"
    for split in SPLITS:
        assert np.array_equal(answers[0][split], answers[1][split]), (
            f"{name} answered the same request differently on {split}: draw all random numbers from request.seed"
        )
    assert any(not np.array_equal(answers[0][split], answers[2][split]) for split in SPLITS), (
        f"{name} answered two seeds alike, so all members of a committee would be equal: draw the training rows by seed"
    )
    right = (answers[0]["validation"].argmax(axis=1) == first.validation_labels).mean()
    assert right > 1 / 2, f"{name} is right on {right:.0%} of the validation texts: are labels in the order of names?"


def request_of(seed: int, *, variant: str = "default", settings: Mapping[str, Value] | None = None) -> Request:
    """Return a request for a member: texts of three labels, each with its own words."""
    generator = np.random.default_rng(0)
    texts, labels = {}, {}
    for split in ("train", *SPLITS):
        labels[split] = np.arange(30) % 3
        texts[split] = [" ".join(generator.choice(_WORDS[label], 5)) for label in labels[split]]
    return Request(texts, labels["train"], labels["validation"], _NAMES, variant, seed, dict(settings or {}))
