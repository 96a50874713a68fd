"""For tests of your own trainers: `check_trainer` tries one on a few texts."""

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
    """Train two members of ``variant`` and ``settings`` on ninety texts, and check what a study asks of a trainer.

    It returns finite numbers for each text and label, the same ones for the same request, others for another seed,
    leaves the request as it is, names the ``settings`` that it reads, and learns: it is right on more than half of the
    validation texts, of three labels.

    Raises:
        AssertionError: it does not; the message says what.
        TrainingError: an answer has another form.
        UserError: the class's ``version`` or ``settings`` have another form.

    Examples:
        >>> def test_my_trainer():
        ...     check_trainer(MyTrainer(), variant="nb", settings={"alpha": 0.1})
    """
    who = type(trainer).__name__
    reads = OwnMembers(who, trainer).reads
    unread = [name for name in settings or {} if name not in reads]
    assert not unread, f"{who} does not name {', '.join(unread)} in its attribute settings, which are {reads}"
    first, again, other = (request_of(seed, variant=variant, settings=settings) for seed in (0, 0, 1))
    answers = [
        checked(trainer.train(one), {split: len(one.texts[split]) for split in SPLITS}, labels=len(_NAMES), who=who)
        for one in (first, again, other)
    ]
    untouched = request_of(0, variant=variant, settings=settings)
    assert first.texts == untouched.texts, f"{who} changed the texts of its request"
    assert first.settings == untouched.settings, f"{who} changed the settings of its request"
    assert (first.labels == untouched.labels).all(), f"{who} changed the labels of its request"
    for split in SPLITS:
        assert np.array_equal(answers[0][split], answers[1][split]), (
            f"{who} answered the same request otherwise on {split}: draw all that is random from request.seed"
        )
    assert any(not np.array_equal(answers[0][split], answers[2][split]) for split in SPLITS), (
        f"{who} answered two seeds alike, so that all members of a committee are one: let the seed draw training rows"
    )
    right = (answers[0]["validation"].argmax(axis=1) == first.validation_labels).mean()
    assert right > 1 / 2, f"{who} is right on {right:.0%} of the validation texts: are labels in the order of names?"


def request_of(seed: int, *, variant: str = "default", settings: Mapping[str, Value] | None = None) -> Request:
    """Return a request for a member: texts of three labels, which have words of their own."""
    generator = np.random.default_rng(0)
    texts, labels = {}, {}
    for split in ("train", *SPLITS):
        labels[split] = np.arange(30) % 3
        texts[split] = [" ".join(generator.choice(_WORDS[label], 5)) for label in labels[split]]
    return Request(texts, labels["train"], labels["validation"], _NAMES, variant, seed, dict(settings or {}))
