"""Word vectors from counts, stored once for each prefix of a corpus, vocabulary and width.

Members of all depths, seeds, trials and studies start from the same vectors. torch is imported only to compute them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tlm_search.data.tokens import TokenArray
from tlm_search.digest import digest
from tlm_search.members.spec import PretrainSpec
from tlm_search.store.local import Entry, Store

KIND = "word_vectors"
_METHOD = 1  # increase it when tlm_search.training.cooccurrence computes other vectors from equal texts
_STEM = _NAME = "vectors"


def vectors_key(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the key of the word vectors that a pre-training starts from, or None if it starts at random.

    ``spec`` is the document of a ``PretrainSpec``. The digest of the key names the vectors in the store.
    """
    if "initial_embeddings" not in spec["settings"]:
        return None
    shape = spec["architecture"]
    return {
        "corpus": spec["corpus"],
        "documents": spec["documents"],
        "vocabulary": shape["vocabulary"],
        "width": shape["heads"] * shape["head_size"],
        "method": _METHOD,
    }


def obtain_vectors(spec: PretrainSpec, *, store: Store, corpus: TokenArray, special: Mapping[str, int]) -> Entry | None:
    """Return the entry of the word vectors for ``spec``, stored or computed now; None if it starts at random.

    ``corpus`` holds the texts of ``spec``. If several callers want the same vectors, the first computes them and the
    others wait.

    Raises:
        StoreError: the store cannot be read or written.
    """
    key = vectors_key(spec.to_document())
    if key is None:
        return None
    name = digest(key)
    with store.lock(KIND, name):
        entry = store.read(KIND, name)
        if entry is None:
            from tlm_search.training.cooccurrence import word_vectors

            began = time.perf_counter()
            vectors = word_vectors(
                corpus, vocabulary=key["vocabulary"], width=key["width"], special=list(special.values())
            )
            document = {"key": key, "seconds": time.perf_counter() - began}
            entry = store.write(KIND, name, document, {_STEM: {_NAME: vectors}})
        return entry


def vectors_of(entry: Entry) -> Any:
    """Return the word vectors of an entry, float32 ``(vocabulary, width)``."""
    return entry.arrays(_STEM)[_NAME]
