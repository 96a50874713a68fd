"""Prepare the data of a study: tokenise them once into the store's data folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlm_search.data.markers import MARKERS
from tlm_search.data.pairs import Line, Pair, TextOrPair, own_segments
from tlm_search.data.prepared import LABELS, SPLITS, PreparedData, task_fingerprint
from tlm_search.data.rows import Task
from tlm_search.data.selection import document_order
from tlm_search.data.sources.place import hub_fingerprint, source_fingerprint
from tlm_search.data.tasks import load_task
from tlm_search.data.texts import DATA, FORMAT, Texts
from tlm_search.data.tokens import TokenArray
from tlm_search.data.unlabelled import Unlabelled, require_texts
from tlm_search.data.vocabulary import tokenizer
from tlm_search.data.vocabulary.losses import losses, unknown_tokens
from tlm_search.data.vocabulary.pruning import prune_tokenizer
from tlm_search.digest import digest
from tlm_search.errors import DataError, StoreError
from tlm_search.files import held, new_folder, write_text, writing
from tlm_search.remote import bundle
from tlm_search.remote.mount import remote_at
from tlm_search.space.task import JUDGED_BY

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tlm_search.space.schema import Space
    from tlm_search.space.sections import TokenizerSection
    from tlm_search.space.settings import Value

_TOKENIZER = "tokenizer.json"
_FACTS = "unlabelled.json"
_MOST_CUT = 0.25  # share of texts that may fill their length before a warning


def _silent(message: str) -> None:
    """Ignore a progress message. ``prepare`` calls it if the caller wants no messages."""


def _forget(task: Task) -> None:
    """Ignore the task. ``prepare`` calls it if the caller does not need the raw texts."""


def prepare(
    space: Space,
    root: Path,
    *,
    progress: Callable[[str], None] = _silent,
    on_task: Callable[[Task], None] = _forget,
) -> PreparedData:
    """Tokenise the data of ``space`` into the store at ``root``, once for each tokenizer, or reuse earlier results.

    Several processes may call it: one works, and the others wait and use its result. ``progress`` is called with a
    description of each step. ``on_task`` is called with the task and its raw texts if the task had to be read.

    Raises:
        DataError: corpus, tokenizer or task cannot be used, or the corpus has fewer documents than ``pretrain_size``.
        StoreError: the store cannot be written.
    """
    texts = Texts(root, space.corpus, space.tokenizer, space.task, space.largest_pretrain_size(), progress, on_task)
    several = len(space.tokenizers) > 1
    prepared = []
    for tokens, section in space.tokenizers:
        work = _Work(texts, section, words=_words(tokens) if several else "")
        found = work.find()
        if found is None:
            waiting = partial(progress, "waiting for another process that prepares data")
            with writing(StoreError, root / DATA), held(root / DATA / ".lock", waiting=waiting):
                found = work.find() or work.do()
        work.publish(found)
        prepared.append((tokens, found))
    return PreparedData.joined(prepared)


def read_task(space: Space, root: Path, *, progress: Callable[[str], None] = _silent) -> Task:
    """Read the raw texts of the task again, with the same splits as ``prepare``.

    Raises:
        DataError: the task can no longer be read.
    """
    progress(f"reading the task {space.task.source}")
    return load_task(space.task, root / DATA)


def changed_sources(noted: Mapping[str, Any], root: Path) -> list[str]:
    """Return the sources that have changed since a study recorded its data in ``noted`` (``to_document``).

    Sources that this machine lacks are skipped. So are those that the study read from the hub and that this machine has
    as a copy, or the other way round: their contents cannot be compared.
    """
    changed = []
    for source, fingerprint in noted.get("sources", {}).items():
        with suppress(DataError, StoreError):  # the store of another user may have no fingerprint of it
            now = source_fingerprint(source, root / DATA)
            if now != fingerprint and hub_fingerprint(source) not in (now, fingerprint):
                changed.append(source)
    return changed


def changed_words(changed: Sequence[str]) -> str:
    """Say which sources have ``changed``, and what follows for the study."""
    have = "has" if len(changed) == 1 else "have"
    return f"{', '.join(changed)} {have} changed since the study began. It can be continued with the old data only."


@dataclass(frozen=True)
class _Work:
    """The preparation for a single tokenizer, which ``words`` describe. A step whose result exists is skipped."""

    texts: Texts
    tokenizer: TokenizerSection
    words: str = ""

    def find(self) -> PreparedData | None:
        """Return the data of an earlier preparation if they are complete."""
        try:
            document = json.loads(self._record())
            prepared = PreparedData.from_document(document, self.texts.root)
            for part in ("corpus", *SPLITS, *(["unlabelled"] if prepared.unlabelled else [])):
                TokenArray.open(prepared.folder(part))
        except (OSError, StoreError, ValueError, KeyError, TypeError):
            return None
        if not (prepared.folder("tokenizer") / _TOKENIZER).is_file():
            return None
        self.texts.require_documents(prepared.documents)
        return prepared

    def _record(self) -> str:
        """Return the record of an earlier preparation, by this machine or another; empty if none exists."""
        with suppress(FileNotFoundError):
            return self._note.read_text(encoding="utf-8")
        remote = remote_at(self._note.parent)
        data = None if remote is None else remote.read(self._note.name)
        return "" if data is None else data.decode()

    def do(self) -> PreparedData:
        """Prepare the missing data, and write their record. Inputs that can be wrong are read before slow steps."""
        task_read = self.texts.labelled
        unlabelled_read = self.texts.unlabelled
        made = self._tokenizer_folder(task_read)
        loaded = tokenizer.open_tokenizer(self._cache / made)
        config = json.loads((self._cache / made / "tokenizer_config.json").read_text(encoding="utf-8"))
        special = tokenizer.special_ids(loaded, config, self.tokenizer.name or "trained")
        if self._is_marked:
            special |= tokenizer.marker_ids(loaded)
        if self.texts.task.pairs:
            tokenizer.require_pairs(loaded, self.tokenizer.name or "trained")
        ids = tokenizer.tokenizer_fingerprint(self._cache / made)
        task = self._task_folder(loaded, ids, task_read)
        unlabelled = {} if unlabelled_read is None else self._unlabelled_facts(loaded, task, unlabelled_read)
        corpus = self._corpus_folder(loaded, ids, task, special)
        folders = {"corpus": corpus, **{part: f"{task}/{part}" for part in SPLITS}}
        arrays = {part: TokenArray.open(self._cache / folder) for part, folder in folders.items()}
        facts = json.loads((self._cache / task / "task.json").read_text(encoding="utf-8"))
        self.texts.say(self._what_tokens_lose(task_read, arrays, special))
        prepared = PreparedData(
            root=self.texts.root,
            tokenizer=f"{DATA}/{made}",
            corpus=f"{DATA}/{folders['corpus']}",
            train=f"{DATA}/{folders['train']}",
            validation=f"{DATA}/{folders['validation']}",
            test=f"{DATA}/{folders['test']}",
            documents=len(arrays["corpus"]),
            vocabulary=tokenizer.vocabulary_size(loaded),
            length=self.tokenizer.length,
            labels=tuple(facts["labels"]),
            rows={part: len(arrays[part]) for part in SPLITS},
            tokens={part: len(array.ids) for part, array in arrays.items()},
            special=special,
            task_fingerprint=task_fingerprint(self._cache / task),
            tokenizer_fingerprint=ids,
            corpus_fingerprint=arrays["corpus"].fingerprint(),
            corpus_name=self.texts.corpus.source,
            task_name=self.texts.task.source,
            account=facts.get("account", {}),
            sources=self.texts.of_source,
            pairs=self.texts.task.pairs,
            context=None if self.texts.task.context is None else self.texts.task.context.model_dump(mode="json"),
            **unlabelled,
        )
        write_text(self._note, json.dumps(prepared.to_document(), indent=1))
        return prepared

    def _what_tokens_lose(
        self, task: Task, arrays: Mapping[str, TokenArray], special: Mapping[str, int]
    ) -> Iterator[str]:
        texts = [text for part in SPLITS for text in getattr(task, part).texts]
        rows = [row for part in SPLITS for row in _tuples(arrays[part])]
        which = f" ({self.words})" if self.words else ""
        where, corpus = f"task {self.texts.task.source}{which}", f"corpus {self.texts.corpus.source}{which}"
        length = self.tokenizer.length
        full = sum(len(row) == length for row in rows)
        if full > _MOST_CUT * len(rows):
            yield (
                f"warning: {where}: {full:,} of {len(rows):,} texts fill {length} tokens; "
                "the rest of these texts is cut off"
            )
        yield from losses(texts, rows, special, length=length, where=where)
        yield from unknown_tokens(arrays["corpus"].ids, special, where=corpus)

    def publish(self, prepared: PreparedData) -> None:
        """Send prepared data to the URL of the store if it has one, so that other machines find them."""
        for folder in prepared.units():
            remote = remote_at(folder)
            if remote is not None and remote.read(bundle.INDEX) is None:
                self.texts.progress(f"sending {folder.parent.name} to {remote}")
                bundle.publish(remote, folder)
        remote = remote_at(self._note.parent)
        if remote is not None and remote.read(self._note.name) is None:
            remote.write(self._note.name, json.dumps(prepared.to_document(), indent=1).encode())

    @property
    def _cache(self) -> Path:
        return self.texts.cache

    @property
    def _note(self) -> Path:
        return self._cache / "prepared" / f"{self._key}.json"

    @cached_property
    def _key(self) -> str:
        sections = [section.model_dump(mode="json") for section in (self.texts.corpus, self.tokenizer)]
        task = self.texts.task.model_dump(mode="json", exclude={*JUDGED_BY})
        return digest([FORMAT, *sections, task, self.texts.sources])

    @property
    def _is_marked(self) -> bool:
        return self.texts.task.entities == "marked"

    def _tokenizer_folder(self, task: Task) -> str:
        section = self.tokenizer.model_dump(mode="json", exclude={"length"})
        trained = self.tokenizer.vocabulary is not None
        of_corpus = self.texts.corpus_key if trained else None
        if self.tokenizer.min_count:
            of_corpus = [*self.texts.corpus_key, task.train.texts, self.tokenizer.length]
        decides = [FORMAT, section, of_corpus, self.texts.sources["tokenizer"], *(MARKERS if self._is_marked else ())]
        folder = f"tokenizers/{digest(decides)}"
        if not (self._cache / folder / _TOKENIZER).is_file():
            with _anew(self._cache / folder) as aside:
                if self.tokenizer.name is not None:
                    self.texts.progress(f"loading the tokenizer {self.tokenizer.name}")
                    tokenizer.copy_tokenizer(aside, self.tokenizer.name)
                    if self._is_marked:
                        tokenizer.add_markers(aside)  # before pruning, which would count their characters
                    if self.tokenizer.min_count:
                        texts, least = self.texts.documents.documents, self.tokenizer.min_count
                        self.texts.progress(
                            f"keeping the tokens that {len(texts)} texts and the task use at least {least} times"
                        )
                        both = (texts, [part for text in task.train.texts for part in own_segments(text)])
                        prune_tokenizer(aside, both, length=self.tokenizer.length, min_count=least)
                else:
                    if self.tokenizer.vocabulary is None:
                        tokenizer.write_byte_tokenizer(aside)
                    else:
                        texts = self.texts.documents.documents
                        many = f"{self.tokenizer.vocabulary:,} on {len(texts):,} documents"
                        self.texts.progress(f"training a vocabulary of {many}")
                        tokenizer.train_tokenizer(
                            aside,
                            texts,
                            vocabulary=self.tokenizer.vocabulary,
                            strip_accents=self.tokenizer.strip_accents,
                        )
                    if self._is_marked:
                        tokenizer.add_markers(aside)
        return folder

    def _corpus_folder(self, loaded: Tokenizer, ids: str, task: str, special: Mapping[str, int]) -> str:
        length = self.tokenizer.length
        folder = f"corpora/{digest([FORMAT, self.texts.corpus_key, ids, length])}"
        if not _is_whole(self._cache / folder):
            texts = self.texts.documents.documents
            self.texts.progress(f"tokenising {len(texts):,} documents")
            with _anew(self._cache / folder) as aside:
                TokenArray.write(
                    aside, tokenizer.encode(loaded, texts, length=length), vocabulary=tokenizer.vocabulary_size(loaded)
                )
        if self.texts.corpus.selection is None and not self.texts.corpus.skip:
            return folder
        return self._selected_folder(folder, task, vocabulary=tokenizer.vocabulary_size(loaded), special=special)

    def _selected_folder(self, folder: str, task: str, *, vocabulary: int, special: Mapping[str, int]) -> str:
        """Write the documents of ``folder`` in the order of the selection, without the first ``skip`` documents."""
        documents, train = (TokenArray.open(self._cache / name) for name in (folder, f"{task}/train"))
        selection, skip = self.texts.corpus.selection, self.texts.corpus.skip
        like = train.fingerprint() if selection not in (None, "random") else None
        selected = f"corpora/{digest([FORMAT, folder, selection, skip, like])}"
        if not _is_whole(self._cache / selected):
            self.texts.progress(f"taking the documents in the order of selection {selection}, without the first {skip}")
            order = np.arange(len(documents))
            if selection is not None:
                order = document_order(selection, documents, train, vocabulary=vocabulary, special=special.values())
            with _anew(self._cache / selected) as aside:
                TokenArray.write(aside, (documents[number].tolist() for number in order[skip:]), vocabulary=vocabulary)
        return selected

    def _task_folder(self, loaded: Tokenizer, ids: str, task: Task) -> str:
        length = self.tokenizer.length
        source = [self.texts.sources[part] for part in ("task", "test", "validation") if part in self.texts.sources]
        section = self.texts.task.model_dump(mode="json", exclude={"unlabelled", *JUDGED_BY})
        folder = f"tasks/{digest([FORMAT, section, source, ids, length])}"
        if not all(_is_whole(self._cache / folder / part) for part in SPLITS):
            vocabulary = tokenizer.vocabulary_size(loaded)
            with _anew(self._cache / folder) as aside:
                for part in SPLITS:
                    split = getattr(task, part)
                    (aside / part).mkdir()
                    encoded, firsts = self._encode(loaded, split.texts)
                    TokenArray.write(aside / part, encoded, vocabulary=vocabulary, firsts=firsts)
                    np.save(aside / part / LABELS, np.array(split.labels, dtype=np.int64), allow_pickle=False)
                facts = {
                    "name": task.name,
                    "labels": task.labels,
                    "account": task.account.to_document() if task.account else {},
                }
                (aside / "task.json").write_text(json.dumps(facts))
        return folder

    def _encode(self, loaded: Tokenizer, texts: Sequence[TextOrPair]) -> tuple[Iterable[list[int]], list[int] | None]:
        """Return the token ids of each text, and for pairs the number of tokens of each first segment."""
        length = self.tokenizer.length
        if not self.texts.task.pairs:
            return tokenizer.encode(loaded, [text for text in texts if isinstance(text, str)], length=length), None
        if self.texts.task.context is not None:
            lines = [text for text in texts if isinstance(text, Line)]
            rows = list(tokenizer.encode_lines(loaded, lines, length=length))
        else:
            pairs = [text for text in texts if isinstance(text, Pair)]
            rows = list(tokenizer.encode_pairs(loaded, pairs, length=length))
        return [ids for ids, _ in rows], [first for _, first in rows]

    def _unlabelled_facts(self, loaded: Tokenizer, task: str, read: Unlabelled) -> dict[str, Any]:
        """Tokenise the unlabelled texts like those of the folder ``task``. Return the fields of ``PreparedData``."""
        section = self.texts.task.unlabelled
        assert section is not None
        decides = [FORMAT, task, section.model_dump(mode="json"), self.texts.sources["unlabelled"]]
        folder = f"unlabelled/{digest(decides)}"
        if not _is_whole(self._cache / folder) or not (self._cache / folder / _FACTS).is_file():
            self.texts.progress(f"tokenising {len(read.texts):,} unlabelled texts")
            encoded, firsts = self._encode(loaded, read.texts)
            # A member cannot tell apart texts that differ only after the cut or only in unknown tokens.
            held_out = {row for part in ("validation", "test") for row in _tuples(self._rows(f"{task}/{part}"))}
            found = list(encoded)
            kept = [number for number, row in enumerate(found) if tuple(row) not in held_out]
            left_out = read.held_out + len(read.texts) - len(kept)
            require_texts(self.texts.task, len(kept), left_out=left_out + read.repeated)
            kept = kept[: section.documents]
            facts = {"available": read.available, "used": len(kept)}
            facts |= {"held_out": left_out, "repeated": read.repeated}
            with _anew(self._cache / folder) as aside:
                TokenArray.write(
                    aside,
                    (found[number] for number in kept),
                    vocabulary=tokenizer.vocabulary_size(loaded),
                    firsts=None if firsts is None else [firsts[number] for number in kept],
                )
                (aside / _FACTS).write_text(json.dumps(facts))
        facts = json.loads((self._cache / folder / _FACTS).read_text(encoding="utf-8"))
        self.texts.progress(
            f"{facts['used']} of {facts['available']} unlabelled texts are used; left out: {facts['held_out']} that "
            f"validation or test contains, {facts['repeated']} that train contains or that are repeated"
        )
        return {
            "unlabelled": f"{DATA}/{folder}",
            "unlabelled_texts": facts,
            "unlabelled_fingerprint": self._rows(folder).fingerprint(),
            "unlabelled_name": section.source,
        }

    def _rows(self, folder: str) -> TokenArray:
        return TokenArray.open(self._cache / folder)


@contextmanager
def _anew(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose contents replace ``folder``. A damaged folder is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as unfinished:
        yield unfinished


def _words(tokens: Mapping[str, Value]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in tokens.items())


def _tuples(texts: TokenArray) -> Iterator[tuple[int, ...]]:
    return (tuple(texts[number].tolist()) for number in range(len(texts)))


def _is_whole(folder: Path) -> bool:
    try:
        TokenArray.open(folder)
    except StoreError:
        return False
    return True
