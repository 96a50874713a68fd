"""The linear baseline: TF-IDF and logistic regression on the raw training texts. No torch here.

People would use it instead of a committee. So it gets the same rows and the same care: validation chooses the kind of
features and the strength of the regularisation. The kinds of features are

    words          words of two or more letters, in lower case
    word pairs     words, and pairs of neighbouring words
    characters     sequences of one to four characters within a word; for scripts without spaces
    words by role  if texts mark two entities as [E1] .. [/E1] and [E2] .. [/E2]: each word, and again with its role:
                   in the head, in the tail, between them, among the four words to their left or to their right;
                   if texts are pairs: each word, and again with the text (first or second) that it is in
    words by role and order   the same for marked texts; the roles between, left and right also tell which entity comes
                   first

all with sublinear term frequencies, smoothed inverse document frequencies and rows of length 1 (scikit-learn's
``TfidfVectorizer``). Only the most frequent features are used, so that features times labels stay below a bound. The
work of each fit is bounded too. So the time grows only with the number of rows.
"""

from __future__ import annotations

import hashlib
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.pairs import Line, Pair, TextOrPair, characters_of, segments_of
from tlm_search.data.prepared import SPLITS
from tlm_search.digest import digest, without_defaults
from tlm_search.store.entry import Entry
from tlm_search.training.settings import scaled_weights

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from tlm_search.data.rows import Split, Task

KIND = "baselines"
UNWEIGHTED = ("none",)  # class weights to try by default
METHOD = 1  # increase it when a change of code fits another baseline to the same texts
WORDS, PAIRS, CHARACTERS, ROLES = "words", "word pairs", "characters", "words by role"
ORDERED = "words by role and order"
STRENGTHS = (1.0, 10.0, 100.0)  # C, the inverse of the regularisation, in the order of trying
_WEAKEST, _STRONGEST = 1000.0, 0.1  # tried if the last, or the first, of STRENGTHS is best

MOST_COEFFICIENTS = 5_000_000  # features times labels: 20 MB in the store
FEWEST_FEATURES = 5_000
_MOST_CHARACTERS = 100_000_000  # in all training texts; longer texts are cut
_PAIRS_UP_TO, _CHARACTERS_UP_TO = 30_000_000, 3_000_000  # characters of the training texts; more would take minutes
_LONGEST_WORD = 20  # mean characters between spaces; above it the script has no spaces
_WORK_OF_A_FIT = 3e8  # nonzero features x labels x passes; about two seconds
LONG_PASS = 6e7  # nonzero features x labels; a fit takes four seconds or more above it
_FEWEST_PASSES, _MOST_PASSES = 10, 100  # over the rows; more than ten change the accuracy by a few tenths of a point
_NEVER = -30.0  # logit of a label without training texts
_CODEC, _ERRORS = "utf-8", "surrogatepass"  # JSON can contain half of a surrogate pair
_DIGITS = 9  # of cross-entropies: smaller differences are ties

_MARKER = re.compile(r"\[/?e[12]\]")
_WORD = re.compile(r"\b\w\w+\b")
_MARKED_WORD = re.compile(r"\[/?e[12]\]|\b\w\w+\b")
_NEAR = 4  # words on each side of the entities

Floats = NDArray[np.float32]
Score = Callable[[Floats, NDArray[np.integer]], float]  # of log probabilities (texts, labels) and the true labels


@dataclass(frozen=True)
class Linear:
    """A fitted linear model with the logits ``weights @ features + intercepts``.

    ``weights`` is float32 (labels, features), ``intercepts`` (labels,), and ``frequencies`` has the inverse document
    frequencies (features,). Features are in the order of ``vocabulary``.
    """

    features: str
    vocabulary: tuple[str, ...]
    frequencies: Floats
    weights: Floats
    intercepts: Floats

    def log_probabilities(self, texts: Sequence[TextOrPair]) -> Floats:
        """Return the log-probability of each label for each text, (texts, labels)."""
        return self.answer(self.read(texts))

    def read(self, texts: Sequence[TextOrPair]) -> Any:
        """Return the features of ``texts``, a sparse matrix (texts, features)."""
        return self._vectoriser.transform(texts)

    def answer(self, rows: Any) -> Floats:
        """Return the log-probabilities (texts, labels) for the features of ``read``."""
        return _log_probabilities(rows, self._columns, self.intercepts)

    @cached_property
    def _columns(self) -> Floats:
        # A sparse product needs this layout, and would otherwise copy all weights at each call.
        return np.ascontiguousarray(self.weights.T)

    @cached_property
    def _vectoriser(self) -> TfidfVectorizer:
        vectoriser = _vectoriser(self.features, vocabulary={word: index for index, word in enumerate(self.vocabulary)})
        vectoriser.idf_ = self.frequencies
        return vectoriser

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the model as arrays for the store; ``of_entry`` reads them."""
        # A line feed can separate features, because words and parts of words contain none.
        words = np.frombuffer("\n".join(self.vocabulary).encode(_CODEC, _ERRORS), dtype=np.uint8)
        return {
            "vocabulary": words,
            "frequencies": self.frequencies,
            "weights": self.weights,
            "intercepts": self.intercepts,
        }

    @classmethod
    def of_entry(cls, entry: Entry) -> Linear:
        """Read the model from an entry of the store.

        Raises:
            StoreError: its arrays are missing.
        """
        arrays = entry.arrays("model")
        words = arrays["vocabulary"].tobytes().decode(_CODEC, _ERRORS).split("\n")
        numbers = (arrays[name] for name in ("frequencies", "weights", "intercepts"))
        return cls(str(entry.document["features"]), tuple(words), *numbers)


@dataclass(frozen=True)
class Fit:
    """The best model on validation, its ``strength`` C, the number of fits ``tried``, and their total ``seconds``."""

    model: Linear
    strength: float
    tried: int
    seconds: float


def baseline_digest(task: Task, *, judged_by: Any = None, class_weights: Sequence[str] = UNWEIGHTED) -> str:
    """Return a digest of the baseline of ``task``: the raw texts and labels of its splits, and the method.

    ``judged_by`` is the metric that chooses, as JSON, or None for accuracy. ``class_weights`` are the weights to try.
    """
    splits = {part: [_fingerprint(getattr(task, part)), list(getattr(task, part).labels)] for part in SPLITS}
    ordered = ORDERED in kinds_of(task.train.texts)  # later versions try it
    later = {"judged_by": judged_by, "class_weights": list(class_weights), "ordered": ordered}
    given = without_defaults(later, {"judged_by": None, "class_weights": list(UNWEIGHTED), "ordered": False})
    return digest({"method": METHOD, "labels": len(task.labels), **splits, **given})


def _accuracy(logits: Floats, labels: NDArray[np.integer]) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def fit_baseline(task: Task, *, score: Score = _accuracy, class_weights: Sequence[str] = UNWEIGHTED) -> Fit:
    """Fit each kind of features with each strength and each of the ``class_weights``, and return the best by ``score``.

    ``score`` is computed on validation. Cross-entropy decides between equal scores, then the order of trying. A kind of
    features that would take long is skipped, unless it is the first.

    Raises:
        ValueError: all training texts have the same label, or no features.
    """
    began = time.perf_counter()
    if len(set(task.train.labels)) < 2:
        raise ValueError("all training texts have one label")
    texts = _cut(task.train.texts)
    best: tuple[tuple[float, float], Linear, float] | None = None
    tried = 0
    words = 0
    for features in kinds_of(texts):
        if features == PAIRS and 2 * words * len(task.labels) > LONG_PASS:
            continue  # the pairs are more than twice as many, and take long even to count
        for weights in class_weights:
            path = _Path(features, texts, task, score, weights)
            words = path.size if features == WORDS else words
            if best is not None and path.is_too_large:
                continue
            for strength in path.strengths():
                tried += 1
                reached, model = path.fit(strength)
                if best is None or reached > best[0]:
                    best = reached, model, strength
    if best is None:
        raise ValueError("the training texts hold neither words nor characters")
    return Fit(best[1], best[2], tried, time.perf_counter() - began)


def kinds_of(texts: Sequence[TextOrPair]) -> tuple[str, ...]:
    """Return the kinds of features to try on these training texts, the simplest first."""
    size = sum(map(characters_of, texts))
    words = sum(len(part.split()) for text in texts for part in segments_of(text))
    if size > _LONGEST_WORD * words:
        return CHARACTERS, WORDS
    kinds = [WORDS]
    if size <= _PAIRS_UP_TO:
        kinds.append(PAIRS)
    if size <= _CHARACTERS_UP_TO:
        kinds.append(CHARACTERS)
    if 2 * sum(_is_marked(text) for text in texts) >= len(texts):
        kinds += [ORDERED, ROLES]
    elif 2 * sum(isinstance(text, Pair) for text in texts) >= len(texts):
        kinds.append(ROLES)
    return tuple(kinds)


class _Path:
    """The fits of a kind of features. Each strength starts from the previous fit."""

    def __init__(
        self,
        features: str,
        texts: Sequence[TextOrPair],
        task: Task,
        score: Score = _accuracy,
        class_weights: str = "none",
    ) -> None:
        self._features, self._labels, self._score = features, len(task.labels), score
        self._train = np.asarray(task.train.labels)
        self._validation = np.asarray(task.validation.labels)
        most = max(MOST_COEFFICIENTS // self._labels, FEWEST_FEATURES)
        self._vectoriser = _vectoriser(features, max_features=most)
        self._scores: list[tuple[float, float]] = []
        self.size, self.is_too_large = 0, False
        try:
            self._rows = self._vectoriser.fit_transform(texts)
        except ValueError:  # scikit-learn raises it for an empty vocabulary
            self._rows = None
            return
        self.size = self._rows.nnz
        self.is_too_large = self.size * self._labels > LONG_PASS
        self._held_out = self._vectoriser.transform(task.validation.texts)
        weights = of_classes(class_weights, self._train, self._labels)
        self._model = regression(passes_of(self._rows, self._labels), weights=weights)

    def strengths(self) -> Iterator[float]:
        """Yield the strengths to try, given the scores of the previous fits."""
        if self._rows is None:
            return
        for strength in STRENGTHS:
            yield strength
            before = self._scores[-2:-1]
            if before and all(now < then for now, then in zip(self._scores[-1], before[0], strict=True)):
                break  # weaker regularisation worsens both scores
        best = self._scores.index(max(self._scores))
        if best == 0:
            yield _STRONGEST
        elif best == len(STRENGTHS) - 1:
            yield _WEAKEST

    def fit(self, strength: float) -> tuple[tuple[float, float], Linear]:
        """Return the score on validation, with the negative cross-entropy, and the model."""
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            # The passes are bounded: a fit that stops before it converges is only slightly more regularised.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.set_params(C=strength).fit(self._rows, self._train)
        weights, intercepts = of_all_labels(self._model, self._labels)
        said = _log_probabilities(self._held_out, weights.T, intercepts)
        entropy = -float(said[np.arange(len(said)), self._validation].mean(dtype=np.float64))
        self._scores.append((self._score(said, self._validation), -round(entropy, _DIGITS)))
        names = tuple(str(name) for name in self._vectoriser.get_feature_names_out())
        frequencies = np.asarray(self._vectoriser.idf_, dtype=np.float32)
        return self._scores[-1], Linear(self._features, names, frequencies, weights, intercepts)


def of_classes(class_weights: str, labels: NDArray[np.integer], classes: int) -> dict[int, float] | str | None:
    """Return class weights in scikit-learn's form; ``labels`` are the labels of the training texts."""
    if class_weights in ("none", "balanced"):
        return None if class_weights == "none" else class_weights
    return dict(enumerate(scaled_weights(class_weights, np.bincount(labels, minlength=classes)).tolist()))


def regression(passes: int, *, weights: dict[int, float] | str | None = None) -> Any:
    """Return a logistic regression whose fits make ``passes`` over the rows and start from the previous fit.

    ``weights`` are the class weights from ``of_classes``.
    """
    from sklearn.linear_model import LogisticRegression

    # Stochastic average gradient (Schmidt, Le Roux and Bach 2017): its work grows with the words in the rows. The work
    # of L-BFGS grows with all features times all labels, forty times as much for 64 labels.
    return LogisticRegression(solver="sag", max_iter=passes, warm_start=True, random_state=0, class_weight=weights)


def passes_of(rows: Any, labels: int) -> int:
    """Return how many passes over the ``rows`` (texts, features) a fit may take."""
    return int(np.clip(_WORK_OF_A_FIT // max(rows.nnz * labels, 1), _FEWEST_PASSES, _MOST_PASSES))


def of_all_labels(model: Any, labels: int) -> tuple[Floats, Floats]:
    """Return weights and intercepts for every label of the task. scikit-learn has only the labels in training."""
    weights = np.zeros((labels, model.coef_.shape[1]), dtype=np.float32)
    intercepts = np.full(labels, _NEVER, dtype=np.float32)
    seen = np.asarray(model.classes_)
    if len(seen) == 2:  # scikit-learn has a single row: the second label against 0
        weights[seen[1]], intercepts[seen] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        weights[seen], intercepts[seen] = model.coef_, model.intercept_
    return weights, intercepts


def _log_probabilities(rows: Any, columns: Floats, intercepts: Floats) -> Floats:
    from scipy.special import log_softmax

    return np.asarray(log_softmax(rows @ columns + intercepts, axis=1), dtype=np.float32)


def _vectoriser(features: str, **options: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    how: dict[str, Mapping[str, Any]] = {
        WORDS: {},
        PAIRS: {"ngram_range": (1, 2)},
        CHARACTERS: {"analyzer": "char_wb", "ngram_range": (1, 4)},
        ROLES: {"analyzer": words_by_role},
        ORDERED: {"analyzer": partial(words_by_role, ordered=True)},
    }
    plain = {} if features in (ROLES, ORDERED) else {"preprocessor": without_markers}
    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **plain, **how[features], **options)


def without_markers(text: TextOrPair) -> str:
    """Return the text, or both texts of a pair, in lower case without entity markers."""
    return _MARKER.sub(" ", "\n".join(segments_of(text)).lower())


def words_by_role(text: TextOrPair, *, ordered: bool = False) -> list[str]:
    """Return the words of a text, and if it marks two entities each word again with its role.

    If ``ordered``, the roles of words outside of the entities also tell which entity comes first. In a pair the role of
    a word is the text that it is in.
    """
    if isinstance(text, Pair):
        both = {role: _WORD.findall(part.lower()) for role, part in zip(Pair._fields, text, strict=True)}
        words = [word for part in both.values() for word in part]
        return [*words, *(f"{role}:{word}" for role, part in both.items() for word in part)]
    return _words_by_entity(text, ordered=ordered)


def _words_by_entity(text: str, *, ordered: bool) -> list[str]:
    words: list[str] = []
    positions: dict[str, int] = {}
    for found in _MARKED_WORD.findall(text.lower()):
        if found.startswith("["):
            positions.setdefault(found, len(words))
        else:
            words.append(found)
    if len(positions) < 4:
        return words
    head, tail = ((positions[f"[e{number}]"], positions[f"[/e{number}]"]) for number in (1, 2))
    first, last = sorted((head, tail))
    order = "" if not ordered else ", head first" if head < tail else ", tail first"
    roles = {
        "head": words[slice(*head)],
        "tail": words[slice(*tail)],
        f"between{order}": words[first[1] : last[0]],
        f"left{order}": words[max(first[0] - _NEAR, 0) : first[0]],
        f"right{order}": words[last[1] : last[1] + _NEAR],
    }
    return [*words, *(f"{role}:{word}" for role, with_role in roles.items() for word in with_role)]


def _is_marked(text: TextOrPair) -> bool:
    return isinstance(text, str) and all(marker in text for marker in ("[E1]", "[/E1]", "[E2]", "[/E2]"))


def _cut(texts: Sequence[TextOrPair]) -> list[TextOrPair]:
    longest = max(_MOST_CHARACTERS // max(len(texts), 1), 1)

    def cut(text: TextOrPair) -> TextOrPair:
        if isinstance(text, str):
            return text[:longest]
        if isinstance(text, Line):
            return Line(text.first[-longest:], text.second[:longest])
        return Pair(*(part[:longest] for part in text))

    return [cut(text) for text in texts]


def _fingerprint(split: Split) -> str:
    hashed = hashlib.sha256()
    for text in split.texts:
        for part in segments_of(text):
            data = part.encode(_CODEC, _ERRORS)
            hashed.update(f"{len(data)}\n".encode() + data)
    return hashed.hexdigest()
