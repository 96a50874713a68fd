"""A trainer of your own: scikit-learn's models on words, in the committee search.

    PYTHONPATH=examples tlm-search run examples/words.yaml
    PYTHONPATH=examples tlm-search best words

Each member learns a bootstrap sample of the training texts, drawn by its seed, so that members differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import Pipeline, make_pipeline

from tlm_search.members.own import Request


class WordsTrainer:
    """TF-IDF with logistic regression (``regression``, or on characters ``characters``) or naive Bayes (``bayes``)."""

    version = "1"
    settings = ("C",)  # in the space: own_C

    def train(self, request: Request) -> Mapping[str, NDArray[np.float64]]:
        """Train on a bootstrap sample, and return log-probabilities of validation and test."""
        generator = np.random.default_rng(request.seed)
        rows = generator.integers(0, len(request.labels), len(request.labels))
        # At least one row of each label, so that the model knows all labels.
        rows = np.concatenate([rows, np.unique(request.labels, return_index=True)[1]])
        model = _model(request.variant, c=float(request.settings.get("C", 10)))
        model.fit([request.texts["train"][row] for row in rows], request.labels[rows])
        return {split: model.predict_log_proba(request.texts[split]) for split in ("validation", "test")}


def _model(variant: str, *, c: float) -> Pipeline:
    if variant == "bayes":
        return make_pipeline(TfidfVectorizer(), ComplementNB())
    if variant == "characters":
        return make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)), LogisticRegression(C=c))
    if variant == "regression":
        return make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=c))
    raise ValueError(f"variant {variant}; allowed: regression, characters, bayes")
