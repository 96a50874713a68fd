"""Tokenised texts in memory-mapped arrays that every process of a study shares. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlm_search.digest import DIGEST_LENGTH
from tlm_search.errors import StoreError

_IDS, _OFFSETS, _FIRSTS, _FACTS = "ids.bin", "offsets.npy", "firsts.npy", "tokens.json"


@dataclass(frozen=True)
class TokenArray:
    """The token ids of many texts in a single flat array.

    ``ids`` (uint16 for vocabularies below 65,536, else int32) contains [CLS] and [SEP]. Text ``i`` is
    ``ids[offsets[i]:offsets[i + 1]]``; ``offsets`` is int64 ``(texts + 1,)``. If the texts are pairs,
    ``[CLS] a [SEP] b [SEP]``, ``firsts``, int64 ``(texts,)``, has the number of tokens of each first segment; else it
    is None.
    """

    ids: NDArray[np.uint16] | NDArray[np.int32]
    offsets: NDArray[np.int64]
    firsts: NDArray[np.int64] | None = None

    @classmethod
    def write(
        cls,
        folder: Path,
        sequences: Iterable[Sequence[int]],
        *,
        vocabulary: int,
        firsts: Sequence[int] | None = None,
    ) -> TokenArray:
        """Write ``sequences`` of ids below ``vocabulary`` to ``folder``, and open it.

        The ids are streamed; only the offsets stay in memory. ``firsts`` has the number of tokens of each first segment
        if the texts are pairs. Writing is not atomic: write inside ``new_folder``.
        """
        dtype = np.dtype("<u2") if vocabulary < 2**16 else np.dtype("<i4")
        lengths = [0]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _IDS).open("wb") as file:
            for sequence in sequences:
                file.write(np.asarray(sequence, dtype=dtype).tobytes())
                lengths.append(len(sequence))
        np.save(folder / _OFFSETS, np.cumsum(lengths, dtype=np.int64), allow_pickle=False)
        facts: dict[str, object] = {"dtype": dtype.str, "texts": len(lengths) - 1}
        if firsts is not None:
            np.save(folder / _FIRSTS, np.asarray(firsts, dtype=np.int64), allow_pickle=False)
            facts["pairs"] = True
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> TokenArray:
        """Map ``folder`` into memory, read-only.

        Raises:
            StoreError: the folder is missing or incomplete.
        """
        try:
            facts = json.loads((folder / _FACTS).read_text())
            dtype = np.dtype(facts["dtype"])
            offsets = np.load(folder / _OFFSETS, allow_pickle=False)
            firsts = np.load(folder / _FIRSTS, allow_pickle=False) if facts.get("pairs") else None
            file = folder / _IDS
            whole = len(offsets) == facts["texts"] + 1 and file.stat().st_size == int(offsets[-1]) * dtype.itemsize
            whole = whole and (firsts is None or len(firsts) == facts["texts"])
            ids = np.memmap(file, dtype=dtype, mode="r") if int(offsets[-1]) else np.zeros(0, dtype=dtype)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, str(error)) from error
        if not whole:
            raise _damaged(folder, "the sizes of its files do not agree")
        return cls(ids, offsets, firsts)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> NDArray[np.uint16] | NDArray[np.int32]:
        if not -len(self) <= text < len(self):
            raise IndexError(f"no text {text}: there are {len(self)}")
        text %= len(self)
        return self.ids[self.offsets[text] : self.offsets[text + 1]]

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of each text."""
        return np.diff(self.offsets)

    def prefix(self, texts: int) -> TokenArray:
        """Return a view of the first ``texts`` texts.

        Raises:
            ValueError: the array has fewer texts.
        """
        if not 0 <= texts <= len(self):
            raise ValueError(f"{texts} texts asked for, but there are {len(self)}")
        firsts = None if self.firsts is None else self.firsts[:texts]
        return TokenArray(self.ids[: self.offsets[texts]], self.offsets[: texts + 1], firsts)

    def followed_by(self, others: TokenArray) -> TokenArray:
        """Return these texts followed by ``others``. All ids are copied into memory."""
        offsets = np.concatenate([self.offsets, self.offsets[-1] + others.offsets[1:]])
        both = (self, others)
        firsts = [array.lengths() if array.firsts is None else array.firsts for array in both]
        paired = any(array.firsts is not None for array in both)
        return TokenArray(np.concatenate([self.ids, others.ids]), offsets, np.concatenate(firsts) if paired else None)

    def fingerprint(self) -> str:
        """Return a digest of the ids and lengths of the texts, and of the segments of pairs."""
        hashed = hashlib.sha256(f"{self.ids.dtype.str} {len(self)}\n".encode())
        hashed.update(np.ascontiguousarray(self.offsets).data)
        hashed.update(np.ascontiguousarray(self.ids).data)
        if self.firsts is not None:
            hashed.update(b"pairs")
            hashed.update(np.ascontiguousarray(self.firsts).data)
        return hashed.hexdigest()[:DIGEST_LENGTH]


def _damaged(folder: Path, why: str) -> StoreError:
    return StoreError(f"{folder}: tokens cannot be read: {why}", hint="remove the folder and run again to create it")
