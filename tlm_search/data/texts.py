"""What a space reads: its task, corpus and unlabelled texts, each source at most once. No torch here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm_search.data.corpora import Corpus, load_corpus
from tlm_search.data.rows import Task
from tlm_search.data.sources.source import (
    UNLABELLED,
    account_of_documents,
    account_of_task,
    source_fingerprint,
    unlabelled_documents,
)
from tlm_search.data.tasks import load_task
from tlm_search.data.unlabelled import Unlabelled, load_unlabelled
from tlm_search.digest import digest
from tlm_search.errors import DataError
from tlm_search.files import write_text

if TYPE_CHECKING:
    from tlm_search.space.sections import CorpusSection, TaskSection, TokenizerSection

FORMAT = 2  # increased when the same space would be read or tokenised differently
DATA = "data"  # the folder of the store


@dataclass(frozen=True)
class Texts:
    """What a space reads, each source at most once, however many tokenizers ask for it."""

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
        """The fingerprint of each source, as it is now."""
        return {source: source_fingerprint(source, self.cache) for source in set(self.named.values()) if source}

    @property
    def sources(self) -> dict[str, str]:
        """The fingerprints of what is read, by section."""
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
        """The documents, without what validation and test hold, wherever it came from."""
        self.progress(f"reading the corpus {self.corpus.source}")
        self.say(account_of_documents(self.corpus))
        corpus = load_corpus(self.corpus, self.cache, without=self.labelled.held_out())
        if corpus.left_out:
            many = f"{len(corpus.left_out):,} different texts"
            self.progress(f"corpus {self.corpus.source}: {many} that validation or test holds are left out of it")
        self.require_documents(max(len(corpus.documents) - self.corpus.skip, 0), lacking=bool(corpus.left_out))
        return corpus

    def say(self, lines: Iterable[str]) -> None:
        """Tell each line."""
        for line in lines:
            self.progress(line)

    def require_documents(self, documents: int, *, lacking: bool = False) -> None:
        """Refuse a corpus whose number of ``documents`` is less than members ask for.

        Raises:
            DataError: they are too few, or none.
        """
        if self.least_documents > documents or not documents:
            goal = f"pretrain_size goes up to {self.least_documents}" if self.least_documents else "it needs one"
            after = f" after the {self.corpus.skip} that skip passes over" if self.corpus.skip else ""
            after += ", the task's texts of validation and test left out" if lacking else ""
            raise DataError(
                f"corpus {self.corpus.source}: it has {documents} documents{after}, but {goal}",
                hint=f"search pretrain_size up to {documents}, or give a larger corpus",
            )

    @property
    def corpus_key(self) -> list[Any]:
        """What decides the documents; which of them are taken first is another question."""
        return [*self._corpus_alone, self.left_out] if self.left_out else self._corpus_alone

    @property
    def _corpus_alone(self) -> list[Any]:
        return [self.corpus.model_dump(mode="json", exclude={"selection", "skip"}), self.sources["corpus"]]

    @cached_property
    def left_out(self) -> str:
        """A digest of what the corpus and the held-out texts share, empty where it is nothing.

        It is noted, so that the documents need not be read again for a task that is known.
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
        """The texts without labels that the task names, without those that it has; None where it names none."""
        if self.task.unlabelled is None:
            return None
        self.progress(f"reading the unlabelled texts {self.task.unlabelled.source}")
        self.say(account_of_documents(unlabelled_documents(self.task, self.task.unlabelled), called=UNLABELLED))
        return load_unlabelled(self.task, self.labelled, self.cache)
