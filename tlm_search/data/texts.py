"""Read the task, corpus and unlabelled texts of a space, each source at most once. No torch here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm_search.data.corpora import Corpus, load_corpus
from tlm_search.data.rows import Task
from tlm_search.data.sources.place import source_fingerprint
from tlm_search.data.sources.source import UNLABELLED, account_of_documents, account_of_task, unlabelled_documents
from tlm_search.data.tasks import load_task
from tlm_search.data.unlabelled import Unlabelled, load_unlabelled
from tlm_search.digest import digest
from tlm_search.errors import DataError
from tlm_search.files import write_text

if TYPE_CHECKING:
    from tlm_search.space.sections import CorpusSection, TokenizerSection
    from tlm_search.space.task import TaskSection

FORMAT = 2  # increase it when a change of code reads or tokenises the same space differently
DATA = "data"  # folder of prepared data in the store


@dataclass(frozen=True)
class Texts:
    """The texts of a space. Each source is read at most once, for any number of tokenizers."""

    root: Path
    corpus: CorpusSection
    tokenizer: TokenizerSection
    task: TaskSection
    least_documents: int
    progress: Callable[[str], None]
    on_task: Callable[[Task], None]

    @property
    def cache(self) -> Path:
        """The store's data folder."""
        return self.root / DATA

    @property
    def named(self) -> dict[str, str | None]:
        """The source that each section names."""
        named: dict[str, str | None] = {
            "corpus": self.corpus.source,
            "tokenizer": self.tokenizer.name,
            "task": self.task.source,
            "test": self.task.test_source,
        }
        if self.task.validation_source is not None:
            named["validation"] = self.task.validation_source
        if self.task.unlabelled is not None:
            named["unlabelled"] = self.task.unlabelled.source
        return named

    @cached_property
    def of_source(self) -> dict[str, str]:
        """The current fingerprint of each source."""
        return {source: source_fingerprint(source, self.cache) for source in set(self.named.values()) if source}

    @property
    def sources(self) -> dict[str, str]:
        """The fingerprint of the source of each section."""
        return {section: self.of_source[source] if source else "" for section, source in self.named.items()}

    @cached_property
    def labelled(self) -> Task:
        """The task with its raw texts."""
        self.progress(f"reading the task {self.task.source}")
        self.say(account_of_task(self.task))
        task = load_task(self.task, self.cache)
        self.on_task(task)
        return task

    @cached_property
    def documents(self) -> Corpus:
        """The documents of the corpus, without texts that validation or test contains."""
        self.progress(f"reading the corpus {self.corpus.source}")
        self.say(account_of_documents(self.corpus))
        corpus = load_corpus(self.corpus, self.cache, without=self.labelled.held_out())
        if corpus.left_out:
            many = f"{len(corpus.left_out):,} different texts"
            self.progress(f"corpus {self.corpus.source}: {many} that validation or test contains are left out")
        self.require_documents(max(len(corpus.documents) - self.corpus.skip, 0), lacking=bool(corpus.left_out))
        return corpus

    def say(self, lines: Iterable[str]) -> None:
        """Report each line as progress."""
        for line in lines:
            self.progress(line)

    def require_documents(self, documents: int, *, lacking: bool = False) -> None:
        """Refuse a corpus with fewer ``documents`` than members are pre-trained on.

        Raises:
            DataError: the corpus has too few documents, or none.
        """
        if self.least_documents > documents or not documents:
            goal = f"pretrain_size goes up to {self.least_documents}" if self.least_documents else "it needs one"
            after = f" after the first {self.corpus.skip}, which skip leaves out" if self.corpus.skip else ""
            after += ", without the task's texts of validation and test" if lacking else ""
            raise DataError(
                f"corpus {self.corpus.source}: it has {documents} documents{after}, but {goal}",
                hint=f"search pretrain_size up to {documents}, or give a larger corpus",
            )

    @property
    def corpus_key(self) -> list[Any]:
        """All that decides which documents the corpus has. It does not decide their order."""
        return [*self._corpus_alone, self.left_out] if self.left_out else self._corpus_alone

    @property
    def _corpus_alone(self) -> list[Any]:
        return [self.corpus.model_dump(mode="json", exclude={"selection", "skip"}), self.sources["corpus"]]

    @cached_property
    def left_out(self) -> str:
        """A digest of the documents that validation or test contains; empty without such documents.

        The store records it, so that the same task does not read the documents again.
        """
        held_out = digest([FORMAT, self._corpus_alone, sorted(self.labelled.held_out())])
        note = self.cache / "left_out" / f"{held_out}.json"
        if note.is_file():
            return str(json.loads(note.read_text(encoding="utf-8")))
        left_out = self.documents.left_out
        found = digest(sorted(left_out)) if left_out else ""
        write_text(note, json.dumps(found))
        return found

    @cached_property
    def unlabelled(self) -> Unlabelled | None:
        """The unlabelled texts that the task names, without its own texts; None if it names none."""
        if self.task.unlabelled is None:
            return None
        self.progress(f"reading the unlabelled texts {self.task.unlabelled.source}")
        self.say(account_of_documents(unlabelled_documents(self.task, self.task.unlabelled), called=UNLABELLED))
        return load_unlabelled(self.task, self.labelled, self.cache)
