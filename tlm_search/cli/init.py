"""``tlm-search init``: from the user's own file to a commented space that runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tlm_search.data.guess import TaskGuess
    from tlm_search.search.machine import Machine
    from tlm_search.search.sizing import Scale, Suited
    from tlm_search.space.schema import Space

_TEMPLATE = """\
# A study of {what}, written by tlm-search init.
# {sized}
#
#   tlm-search validate {file}      what it resolves to, and what it costs
#   tlm-search run {file}           run it, or continue it

# Unlabelled text for pre-training.{corpus_comment}
corpus: {corpus}

# A WordPiece vocabulary trained on the corpus; each text is cut to `length` tokens. Accents and vowel marks are kept.
tokenizer: {{vocabulary: {vocabulary}, length: {length}, strip_accents: false}}

# {task_comment}
# {account}
# Choices are made on validation; test is only reported.
task:
{task}

# A setting has one value, or is searched: `choices`, or `low` and `high` (with `log` or `step`).
search:
  depth: {{choices: [1, 2]}}
  width: {widths}
  head_size: 32                                          # heads = width / head_size
  pretrain_size: {{choices: {pretrain_sizes}}}  # documents; 0 is no pre-training
  committee_size: {{choices: {committee_sizes}}}
  linear_member: {{choices: [false, true]}}                # a linear model on words has half of the votes
  initial_embeddings: cooccurrence                       # word vectors from counts; random: BERT's fresh table
  pretrain_epochs: {{choices: [0, 3]}}                     # masked words are predicted; 0: counts alone
  pretrain_batch_size: 32
  pretrain_learning_rate: {pretrain_rate}
  pretrain_softmax: sampled                              # half of the seconds of the full softmax
  masking_probability: 0.4                               # BERT has 0.15: more is learned from each update
  finetune_epochs: {epochs}
  finetune_batch_size: {batch_size}
  finetune_dropout: {{choices: [0.1, 0.5], role: nuisance}} # the fewer rows, the more
  pooling: mean                                          # or cls, BERT's first token
  finetune_learning_rate: {{low: {lowest_rate}, high: {highest_rate}, log: true, role: nuisance}}

# The deep model that committees are compared with. What `search` fixes holds for it too, unless it is said here. It is
# tried with as many rates and dropouts as `trials` says: the best on validation is taken.
reference:
  depth: {reference_depth}
  width: {widest}
  pretrain_size: {pretrain_largest}
  pretrain_epochs: 3
  pretrain_learning_rate: {reference_rate:<30} # deep models want a lower one
  linear_member: true
  finetune_learning_rate: {reference_rate}
  finetune_dropout: 0.1
  trials: 4

objectives: [validation_accuracy, latency_ms]            # the first goes up, the second down
sampler: {{name: tpe, n_startup_trials: 6}}
resources: {resources:<45} # as many trials at once as fit
budget: {{trials: {trials}}}
"""


@dataclass(frozen=True)
class _Files:
    """Where the rows of each part are; ``passed_over`` are the other files of the folder."""

    train: Path
    validation: Path | None
    test: Path | None
    passed_over: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Say them, where there is more than one."""
        parts = (("train", self.train), ("validation", self.validation), ("test", self.test))
        named = ", ".join(f"{file} for {part}" for part, file in parts if file is not None)
        others = f"; passed over: {', '.join(self.passed_over)}" if self.passed_over else ""
        return [f"files      {named}{others}"] if others or self.validation or self.test else []


@dataclass(frozen=True)
class _Sketch:
    """What the template takes, and ``said`` to the user."""

    what: str
    corpus: Mapping[str, Any]
    corpus_comment: str
    documents: int
    vocabulary: int
    length: int
    task: Mapping[str, Any]
    labels: int
    train_rows: int
    task_comment: str
    account: str
    said: tuple[str, ...]


def init(
    out: Annotated[Path, typer.Argument(metavar="OUT.yaml", help="The space to write; it must not be there yet.")],
    task: Annotated[
        Path | None,
        typer.Option(
            help="Your labelled texts: CSV, TSV, JSON, JSONL or Parquet; or a folder with train.*, and test.* or "
            "validation.* where you have them."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="Its column with the texts.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="Its column with the labels.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Unlabelled texts to pre-train on: a file or a folder.")] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its test rows, used as they are; else cut from --task.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its validation rows, used as they are; else cut from --task.")
    ] = None,
) -> None:
    """Write a commented space for your own data, and say what was guessed; without --task, for the built-in data."""
    from tlm_search.errors import UserError
    from tlm_search.search.machine import this_machine
    from tlm_search.search.sizing import cpus_per_trial, suited
    from tlm_search.space.load import load_space

    if out.exists():
        raise UserError(f"{out} is already there", hint="give another name, or remove it")
    if task is None and (text or label or corpus or test or validation):
        raise UserError(
            "--text, --label, --corpus, --test and --validation go with --task",
            hint="name your labelled texts with --task FILE",
        )
    with tempfile.TemporaryDirectory() as folder:
        sketch = (
            _of_pydocs()
            if task is None
            else _of_files(
                _files(task, validation=validation, test=test), text, label, corpus, what=task, cache=Path(folder)
            )
        )
        draft, machine = Path(folder) / out.name, this_machine(with_gpus=True)
        resources = f"cpus_per_trial: {cpus_per_trial(machine)}" + (", gpus_per_trial: auto" if machine.gpus else "")

        def space_of(scale: Scale, trials: int, sized: str = "") -> Space:
            filled = _filled(sketch, out, scale, trials=trials, sized=sized, resources=resources)
            draft.write_text(filled, encoding="utf-8")
            return load_space(draft)

        size = suited(machine, space_of, documents=sketch.documents, labels=sketch.labels, train_rows=sketch.train_rows)
        sized = _sized(size, machine)
        space_of(size.scale, size.trials, sized)
        written = draft.read_text(encoding="utf-8")
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(written)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}", hint="give another place") from error
    said = (*sketch.said, *_choices(sketch, size), sized)
    print("\n".join([*said, f"wrote {out}; next: tlm-search validate {out}, then tlm-search run {out}"]))


def _of_pydocs() -> _Sketch:
    return _Sketch(
        what="the docstrings of the installed Python packages",
        corpus={"source": "pydocs"},
        corpus_comment="",
        documents=18_000,  # an installation has more, and how many depends on it
        vocabulary=16_384,
        length=64,
        task={"source": "pydocs", "labels": 5, "train_per_label": 30, "validation_per_label": 200}
        | {"test_per_label": 400},
        labels=5,
        train_rows=150,
        task_comment="From which package is this paragraph?",
        account="So many paragraphs of each package.",
        said=("task and corpus: pydocs, the docstrings of the installed packages",),
    )


def _files(task: Path, *, validation: Path | None, test: Path | None) -> _Files:
    """Return the files with the training, validation and test rows; a folder has them under these names."""
    from tlm_search.data.files import kind_of
    from tlm_search.errors import DataError

    if not task.is_dir():
        return _Files(task, validation, test)
    found: dict[str, list[Path]] = {part: [] for part in ("train", "validation", "test")}
    others = []
    for file in sorted(task.iterdir()):
        part = file.name.partition(".")[0]
        if part in found and kind_of(file) and file.is_file():
            found[part].append(file)
        else:
            others.append(file.name)
    for part, files in found.items():
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            raise DataError(f"{task}: it has {names}", hint=f"keep one file with the name {part}")
    if not found["train"]:
        raise DataError(
            f"{task}: it has no train.csv (.tsv, .json, .jsonl, .parquet, or .gz of these)",
            hint="name the file with your labelled texts, or the folder with train.*, validation.* and test.*",
        )
    train, of_validation, of_test = (next(iter(files), None) for files in found.values())
    assert train is not None
    return _Files(train, validation or of_validation, test or of_test, tuple(others))


def _of_files(
    files: _Files,
    text: str | None,
    label: str | None,
    corpus: Path | None,
    *,
    what: Path,
    cache: Path,
) -> _Sketch:
    from tlm_search.data.account import account_words
    from tlm_search.data.guess import guess_task, vocabulary_of
    from tlm_search.data.sampling import likeness
    from tlm_search.data.tasks import load_task
    from tlm_search.errors import DataError
    from tlm_search.space.sections import DEFAULT_SHARE, MOST_OF_DEFAULT_SHARE, TaskSection

    task = files.train
    guess = guess_task(task, cache, text=text, label=label)
    columns = {} if guess.text is None or guess.label is None else {"text": guess.text, "label": guess.label}
    own = {"validation_source": files.validation, "test_source": files.test}
    sources = {key: str(file) for key, file in own.items() if file is not None}
    section: dict[str, Any] = {"source": str(task), **sources, **columns, "train": "all"}
    read = load_task(TaskSection(**section), cache)
    for part in ("validation", "test"):
        if f"{part}_source" not in sources:
            bounded = len(getattr(read, part).texts) == MOST_OF_DEFAULT_SHARE
            section[part] = MOST_OF_DEFAULT_SHARE if bounded else DEFAULT_SHARE
    if corpus is not None:
        source, documents = _corpus(corpus, cache)
        comment = ""
    elif guess.text is None:
        raise DataError(f"{task}: it has no column of texts to pre-train on", hint="name a corpus with --corpus")
    else:
        source = {"source": str(task), **_unless("text", guess.text)}
        held_out = read.held_out()
        documents = [text for text in guess.texts if likeness(text) not in held_out]
        comment = (
            " These are the task's own texts, but those that it holds out for validation\n"
            "# and test, without labels; more text of the same kind is better."
        )
    assert read.account is not None
    account = account_words(read.account.to_document())
    rarest = min(guess.counts, key=lambda name: guess.counts[name])
    return _Sketch(
        what=_quoted(what.name),
        corpus=source,
        corpus_comment=comment,
        documents=len(documents),
        vocabulary=vocabulary_of(documents),
        length=guess.length,
        task=section,
        labels=len(guess.counts),
        train_rows=len(read.train.texts),
        task_comment=f"{len(guess.counts)} labels; the rarest, {_quoted(rarest)}, has {guess.counts[rarest]:,} "
        "different texts.",
        account=f"{account}.",
        said=(
            *files.words(),
            *_guesses(guess, account),
            f"corpus     {source['source']}, {len(documents):,} documents",
        ),
    )


def _corpus(place: Path, cache: Path) -> tuple[dict[str, Any], list[str]]:
    from tlm_search.data.files import TEXT_COLUMN, read_columns
    from tlm_search.data.guess import text_column
    from tlm_search.data.sources import load_documents
    from tlm_search.errors import DataError
    from tlm_search.space.sections import CorpusSection

    if not place.exists():
        raise DataError(f"{place}: there is no such file or folder", hint=f"the path is relative to {Path.cwd()}")
    column = TEXT_COLUMN if place.is_dir() else text_column(read_columns(place), str(place))
    section = {"source": str(place), **_unless("text", column)}
    documents = load_documents(CorpusSection(source=str(place), text=column), cache)
    if not documents:
        raise DataError(f"{place}: it has no text")
    return section, documents


def _guesses(guess: TaskGuess, account: str) -> list[str]:
    lines = []
    if guess.text is not None and guess.label is not None:
        others = f" (it could also be {', '.join(map(_quoted, guess.other_labels))})" if guess.other_labels else ""
        lines += [f"text       column {_quoted(guess.text)}", f"label      column {_quoted(guess.label)}{others}"]
    counts = [f"{_quoted(name)} {count:,}" for name, count in list(guess.counts.items())[:5]]
    more = f" and {len(guess.counts) - 5} more" if len(guess.counts) > 5 else ""
    lines.append(f"labels     {', '.join(counts)}{more} different texts")
    if guess.rare:
        from tlm_search.data.guess import LEAST_TEXTS

        shown = ", ".join(map(_quoted, guess.rare[:5])) + (" ..." if len(guess.rare) > 5 else "")
        lines.append(f"rare       {shown}: fewer than {LEAST_TEXTS} different texts, too few to learn or to judge")
    return [*lines, f"rows       {account}", f"length     {guess.length} tokens"]


def _choices(sketch: _Sketch, size: Suited) -> list[str]:
    from tlm_search.data.guess import pretrain_sizes

    documents = pretrain_sizes(sketch.documents, most=size.scale.documents)
    widths, sizes = (", ".join(map(str, numbers)) for numbers in (size.scale.widths, size.scale.committee_sizes))
    return [
        f"pre-train  on {', '.join(f'{count:,}' for count in documents)} documents",
        f"search     width {widths}, committees of {sizes}; {size.trials} trials",
    ]


def _sized(size: Suited, machine: Machine) -> str:
    from tlm_search.cli.validate import duration
    from tlm_search.report.words import plural

    gpus = f", {plural(int(machine.gpus), 'GPU')}" if machine.gpus else ""
    return (
        f"Sized for {plural(int(machine.cpus), 'core')}{gpus} and {machine.memory_gb:.0f} GB of memory: about "
        f"{duration(size.seconds)}, a guess; tlm-search validate --time measures."
    )


def _filled(sketch: _Sketch, out: Path, scale: Scale, *, trials: int, sized: str, resources: str) -> str:
    from tlm_search.data.guess import pretrain_sizes
    from tlm_search.search.sizing import finetuning

    sizes = pretrain_sizes(sketch.documents, most=scale.documents)
    epochs, batch_size = finetuning(sketch.train_rows)
    # What was found good at width 64; wider members want lower ones.
    slower = min(1.0, 64 / max(scale.widths))
    return _TEMPLATE.format(
        what=sketch.what,
        sized=sized,
        file=json.dumps(str(out), ensure_ascii=False) if " " in str(out) else out,
        corpus=_flow(sketch.corpus),
        corpus_comment=sketch.corpus_comment,
        vocabulary=sketch.vocabulary,
        length=sketch.length,
        task="\n".join(f"  {key}: {_scalar(value)}" for key, value in sketch.task.items()),
        task_comment=sketch.task_comment,
        account=sketch.account,
        epochs=epochs,
        batch_size=batch_size,
        widths=scale.widths[0] if len(scale.widths) == 1 else f"{{choices: {list(scale.widths)}}}",
        committee_sizes=list(scale.committee_sizes),
        pretrain_sizes=sizes,
        pretrain_largest=sizes[-1],
        pretrain_rate=f"{2e-3 * slower:g}",
        lowest_rate=f"{5e-4 * slower:g}",
        highest_rate=f"{4e-3 * slower:g}",
        reference_depth=scale.reference_depth,
        reference_rate=f"{1e-3 * slower:g}",
        widest=max(scale.widths),
        resources=f"{{{resources}}}",
        trials=trials,
    )


def _unless(key: str, value: str) -> dict[str, str]:
    return {} if value == key else {key: value}


def _flow(section: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {_scalar(value)}' for key, value in section.items())}}}"


def _scalar(value: str | int) -> str:
    # A JSON text is a YAML text, whatever the user's names hold.
    return json.dumps(value, ensure_ascii=False)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
