"""``tlm-search init``: write a commented space for the user's own files."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.space.draft import Sketch, draft, quoted

if TYPE_CHECKING:
    from tlm_search.cost.machine import Machine
    from tlm_search.cost.sizing import Scale, Suited
    from tlm_search.data.rows import Task
    from tlm_search.data.sources.guess import TaskGuess
    from tlm_search.search.display import Display
    from tlm_search.space.schema import Space

_MOST_CHARACTERS = 2_000_000  # of corpus and task; training a vocabulary on more takes long


@dataclass(frozen=True)
class _Files:
    """The files with the rows: the ``source``, a file or a folder, and separate files for validation and test.

    ``own`` are the splits that have their own rows, and ``account`` says for the user which files are read.
    """

    source: Path
    validation: Path | None
    test: Path | None
    own: frozenset[str]
    account: str


def init(
    out: Annotated[Path, typer.Argument(metavar="OUT.yaml", help="The YAML file to write; it must not exist yet.")],
    task: Annotated[
        Path | None,
        typer.Option(
            help="Your labelled texts: a CSV, TSV, JSON, JSONL or Parquet file, or a folder of such files, whose names "
            "say which are train, validation and test."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of --task with the texts.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of --task with the labels.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Unlabelled texts to pre-train on: a file or a folder.")] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Test rows, used as they are; by default drawn from --task.")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Validation rows, used as they are; by default drawn from --task."),
    ] = None,
) -> None:
    """Write a commented space for your own data, and say what was guessed. Without --task use the built-in data."""
    from tlm_search.cost.machine import this_machine
    from tlm_search.cost.sizing import MOST_SECONDS, MUCH_LONGER, cpus_per_trial, suited
    from tlm_search.errors import UserError
    from tlm_search.files import writing
    from tlm_search.search.display import Display
    from tlm_search.search.progress import rough_duration
    from tlm_search.space.schema import load_space

    if out.exists():
        raise UserError(f"{out} exists already", hint="choose another name, or remove the file")
    if not out.parent.is_dir():
        raise UserError(
            f"{out} cannot be written: there is no folder {out.parent}",
            hint="create the folder, or choose another place",
        )
    if task is None and (text or label or corpus or test or validation):
        raise UserError(
            "--text, --label, --corpus, --test and --validation need --task",
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
        place, machine = Path(folder) / out.name, this_machine(with_gpus=True)
        resources = f"cpus_per_trial: {cpus_per_trial(machine)}" + (", gpus_per_trial: auto" if machine.gpus else "")

        def space_of(scale: Scale, trials: int, sized: str = "") -> Space:
            filled = _filled(sketch, out, scale, trials=trials, sized=sized, resources=resources)
            place.write_text(filled, encoding="utf-8")
            return load_space(place)

        facts = {"documents": sketch.documents, "labels": sketch.labels, "train_rows": sketch.train_rows}
        size = suited(machine, space_of, **facts)
        studies, display = tempfile.mkdtemp(dir=folder), Display()
        with display.steps(keep=False) as say:
            seconds = _measured(space_of(size.scale, size.trials), studies, display, say)
            if seconds is not None and seconds > MUCH_LONGER * max(size.seconds, MOST_SECONDS):
                display.announce(
                    f"this study would take about {rough_duration(seconds)} on this machine; trying a smaller one"
                )
                size = suited(machine, space_of, slower=seconds / size.seconds, **facts)
                seconds = _measured(space_of(size.scale, size.trials), studies, display, say)
        sized = _sized(size, seconds, machine)
        space_of(size.scale, size.trials, sized)
        written = place.read_text(encoding="utf-8")
    with writing(UserError, out, otherwise="choose another place"), out.open("x", encoding="utf-8") as file:
        file.write(written)
    lines = (*sketch.said, *_choices(sketch, size), sized)
    name = shlex.quote(str(out))
    print("\n".join([*lines, f"wrote {out}; next: tlm-search validate {name}, then tlm-search run {name}"]))


def _of_pydocs() -> Sketch:
    return Sketch(
        what="the docstrings of the installed Python packages",
        corpus={"source": "pydocs"},
        corpus_comment="",
        documents=18_000,  # every installation has more
        vocabulary=16_384,
        length=64,
        task={"source": "pydocs", "labels": 5, "train_per_label": 30, "validation_per_label": 200}
        | {"test_per_label": 400},
        labels=5,
        train_rows=150,
        task_comment="From which package is this paragraph?",
        account="Each package gives the same number of paragraphs.",
        pair=None,
        said=("task and corpus: pydocs, the docstrings of the installed packages",),
    )


def _files(task: Path, *, validation: Path | None, test: Path | None) -> _Files:
    """Return the files with the training, validation and test rows. In a folder their names decide."""
    from tlm_search.data.sources.layout import layout_of
    from tlm_search.data.sources.source import files_of

    given = {part: file for part, file in (("validation", validation), ("test", test)) if file is not None}
    separate = "".join(f"; {part} is {file}" for part, file in given.items())
    if not task.is_dir():
        return _Files(task, validation, test, frozenset(given), f"train is {task}{separate}" if separate else "")
    layout = layout_of(task, labelled=True)
    parts = {part: layout.files(part) or () for part in ("train", "validation", "test") if part not in given}
    parts["train"] = files_of(layout, "train", str(task))
    own = frozenset(part for part in ("validation", "test") if part in given or parts[part])
    account = layout.account(parts) + separate
    if any(len(files) > 1 for files in parts.values()):
        return _Files(task, validation, test, own, account)
    # Name the files if possible, so that new files in the folder do not change the data.
    (train,), of_validation, of_test = (parts.get(part, ()) for part in ("train", "validation", "test"))
    validation, test = validation or next(iter(of_validation), None), test or next(iter(of_test), None)
    return _Files(train, validation, test, own, account)


def _of_files(
    files: _Files,
    text: str | None,
    label: str | None,
    corpus: Path | None,
    *,
    what: Path,
    cache: Path,
) -> Sketch:
    from tlm_search.committee.metrics import metric_words
    from tlm_search.data.corpora import load_corpus
    from tlm_search.data.rows import account_words
    from tlm_search.data.sources.guess import guess_task, vocabulary_of
    from tlm_search.data.tasks import load_task
    from tlm_search.errors import DataError
    from tlm_search.space.sections import CorpusSection
    from tlm_search.space.task import DEFAULT_SHARE, MOST_OF_DEFAULT_SHARE, TaskSection

    task = files.source
    guess = guess_task(task, cache, text=text, label=label)
    columns = {} if guess.text is None or guess.label is None else {"text": guess.text, "label": guess.label}
    own = {"validation_source": files.validation, "test_source": files.test}
    sources = {key: str(file) for key, file in own.items() if file is not None}
    section: dict[str, Any] = {"source": str(task), **sources, **columns, "train": "all"}
    read = load_task(TaskSection(**section), cache)
    for part in ("validation", "test"):
        if part not in files.own:
            bounded = len(getattr(read, part).texts) == MOST_OF_DEFAULT_SHARE
            section[part] = MOST_OF_DEFAULT_SHARE if bounded else DEFAULT_SHARE
    comment = ""
    if corpus is not None:
        source = _corpus(corpus)
    elif guess.text is None:
        raise DataError(f"{task} has no column of texts to pre-train on", hint="name a corpus with --corpus")
    else:
        source = {"source": str(task), **_unless("text", guess.text)}
        comment = (
            " These are the texts of the task without labels, except those of validation\n"
            "# and test. More text of the same kind is better."
        )
    documents = load_corpus(CorpusSection(**source), cache, without=read.held_out()).documents
    vocabulary = vocabulary_of(documents)
    assert read.account is not None
    account = account_words(read.account.to_document())
    rarest = min(guess.counts, key=lambda name: guess.counts[name])
    judged_by, because = _metric(guess.counts)
    section |= judged_by
    return Sketch(
        what=quoted(what.name),
        corpus=source,
        corpus_comment=comment,
        documents=len(documents),
        vocabulary=vocabulary,
        length=guess.length,
        task=section,
        labels=len(guess.counts),
        train_rows=len(read.train.texts),
        task_comment=f"{len(guess.counts)} labels; the rarest, {quoted(rarest)}, has {guess.counts[rarest]:,} "
        "different texts.",
        account=f"{account}.",
        pair=guess.pair,
        metric_because=because,
        said=(
            *([f"files      {files.account}"] if files.account else []),
            *_guesses(guess, account),
            *([f"metric     {metric_words(judged_by['metric'])}: {because}"] if judged_by else []),
            f"corpus     {source['source']}, {len(documents):,} documents",
            *_lost(read, documents, vocabulary=vocabulary, length=guess.length),
        ),
    )


def _metric(counts: Mapping[str, int]) -> tuple[dict[str, str], str]:
    """Return the keys of a task that needs another metric than accuracy, with the reason; empty without rare labels.

    A label is rare if it has less than a quarter of the rows that it would have if all labels had equally many.
    """
    rarest = min(counts, key=lambda name: counts[name])
    share = counts[rarest] / sum(counts.values())
    if 4 * share * len(counts) >= 1:
        return {}, ""
    because = f"{quoted(rarest)} has {share:.1%} of the texts; accuracy would hardly show whether it is found"
    return ({"metric": "f1", "positive": rarest} if len(counts) == 2 else {"metric": "macro_f1"}), because


def _corpus(place: Path) -> dict[str, Any]:
    from tlm_search.data.sources.guess import columns_of, text_column

    return {"source": str(place), **_unless("text", text_column(columns_of(place, labelled=False), str(place)))}


def _lost(task: Task, documents: Sequence[str], *, vocabulary: int, length: int) -> list[str]:
    """Say what the tokens lose of the task's texts. If a vocabulary takes long to train, only estimate what is cut."""
    from tlm_search.data.pairs import segments_of
    from tlm_search.data.sources.guess import tokens_about
    from tlm_search.data.vocabulary.losses import losses
    from tlm_search.data.vocabulary.tokenizer import encode
    from tlm_search.data.vocabulary.wordpiece import train_wordpiece

    special = {role: number for number, role in enumerate(("pad", "unk", "cls", "sep", "mask"))}
    splits = (task.train, task.validation, task.test)
    texts = [part for split in splits for text in split.texts for part in segments_of(text)]
    if sum(map(len, (*documents, *texts))) > _MOST_CHARACTERS:
        return _cut([tokens_about(text) for text in texts], length=length, exact=False)
    trained = train_wordpiece(documents, vocabulary=vocabulary, strip_accents=False)
    rows = list(encode(trained, texts, length=_MOST_CHARACTERS))
    seen = [row[: length + 1] for row in rows]
    cut = _cut([len(row) for row in rows], length=length, exact=True)
    return [*cut, *losses(texts, seen, special, length=length, where=f"task {task.name}")]


def _cut(tokens: Sequence[float], *, length: int, exact: bool) -> list[str]:
    """Say how many texts are cut to ``length`` and how much of them; ``tokens`` are the tokens of each text."""
    long = [count for count in tokens if count > length]
    if not long:
        return []
    about, guessed = ("", "") if exact else ("about ", " (estimated from their words)")
    return [
        f"cut        {about}{len(long):,} of {len(tokens):,} texts have more than {length} tokens; {about}"
        f"{1 - length * len(long) / sum(long):.0%} of their tokens are not read{guessed}"
    ]


def _guesses(guess: TaskGuess, account: str) -> list[str]:
    lines = []
    if guess.text is not None and guess.label is not None:
        named = ", ".join(map(quoted, guess.other_labels))
        others = f" (it could also be {named}; --label decides)" if named else ""
        lines += [f"text       column {quoted(guess.text)}", f"label      column {quoted(guess.label)}{others}"]
    if guess.other_texts:
        columns = f"column{'s' if len(guess.other_texts) > 1 else ''} {', '.join(map(quoted, guess.other_texts))}"
        lines.append(f"not read   {columns}, which {'have' if len(guess.other_texts) > 1 else 'has'} texts too")
    counts = [f"{quoted(name)} {count:,}" for name, count in list(guess.counts.items())[:5]]
    more = f" and {len(guess.counts) - 5} more" if len(guess.counts) > 5 else ""
    lines.append(f"labels     {', '.join(counts)}{more} different texts")
    if guess.rare:
        from tlm_search.data.sources.guess import LEAST_TEXTS

        shown = ", ".join(map(quoted, guess.rare[:5])) + (" ..." if len(guess.rare) > 5 else "")
        lines.append(f"rare       {shown}: fewer than {LEAST_TEXTS} different texts, too few to learn or to judge")
    return [*lines, f"rows       {account}", f"length     {guess.length} tokens"]


def _choices(sketch: Sketch, size: Suited) -> list[str]:
    from tlm_search.data.sources.guess import pretrain_sizes

    documents = pretrain_sizes(sketch.documents, most=size.scale.documents)
    widths, sizes = (", ".join(map(str, numbers)) for numbers in (size.scale.widths, size.scale.committee_sizes))
    return [
        f"pre-train  on {', '.join(f'{count:,}' for count in documents)} documents",
        f"search     width {widths}, committees of {sizes}; {size.trials} trials",
    ]


def _measured(space: Space, studies: str, display: Display, say: Callable[[str], None]) -> float | None:
    """Return the seconds that ``validate --time`` predicts here; None if they cannot be measured."""
    from tlm_search.cli.validate import timed
    from tlm_search.errors import UserError

    try:
        return timed(space, studies, say).wall_seconds["expected"]
    except UserError as error:  # for example too few rows; `run` says what to change in the space
        display.announce(f"the time was not measured: {error.message}")
        return None


def _sized(size: Suited, seconds: float | None, machine: Machine) -> str:
    from tlm_search.report.formatting import plural
    from tlm_search.search.progress import rough_duration

    gpus = f", {plural(int(machine.gpus), 'GPU')}" if machine.gpus else ""
    return f"Sized for {plural(int(machine.cpus), 'core')}{gpus} and {machine.memory_gb:.0f} GB of memory: about " + (
        f"{rough_duration(size.seconds)}, a guess."
        if seconds is None
        else f"{rough_duration(seconds)}, estimated from updates timed here."
    )


def _filled(sketch: Sketch, out: Path, scale: Scale, *, trials: int, sized: str, resources: str) -> str:
    from tlm_search.cost.sizing import finetuning
    from tlm_search.data.sources.guess import pretrain_sizes

    sizes = pretrain_sizes(sketch.documents, most=scale.documents)
    epochs, batch_size = finetuning(sketch.train_rows)
    return draft(
        sketch,
        file=str(out),
        sized=sized,
        epochs=epochs,
        batch_size=batch_size,
        widths=scale.widths,
        committee_sizes=scale.committee_sizes,
        pretrain_sizes=sizes,
        rate=min(1.0, 64 / max(scale.widths)),  # the rates suit width 64; wider members need lower ones
        reference_depth=scale.reference_depth,
        resources=resources,
        trials=trials,
    )


def _unless(key: str, value: str) -> dict[str, str]:
    return {} if value == key else {key: value}
