"""``tlm-search store ls``, ``verify`` and ``gc``: the trained members of all studies."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from tlm_search.store.local import Store
    from tlm_search.study.garbage import Garbage

_NAMED = 5  # entries that a sentence names
DAMAGED = 1  # the exit code of `verify` for damage; 2 would mean that the user's input is wrong

app = typer.Typer(name="store", help="List, check and remove the trained members of all studies.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def ls(studies_dir: StudiesDir = STUDIES, json_: Json = False) -> None:
    """List the entries of the store by kind, with size, age and architecture."""
    from rich.console import Console

    from tlm_search.remote.mount import shown

    store = _store(studies_dir)
    rows = [row for kind in store.kinds() for row in _rows(store, kind)]
    if json_:
        print(json.dumps({"store": shown(store.root), "entries": rows}, indent=2))
        return
    console = Console(highlight=False)
    for kind in store.kinds():
        of_kind = [row for row in rows if row["kind"] == kind]
        total = _size(sum(row["bytes"] for row in of_kind))
        console.print(f"{kind}: {_entries(len(of_kind))}, {total}", style="bold", markup=False)
        for row in of_kind:
            line = f"  {row['digest'][:12]}  {_size(row['bytes']):>8}  {_age(row['age_seconds']):>8}  {row['words']}"
            console.print(line, markup=False, soft_wrap=True)
    console.print(f"{_entries(len(rows))} in {shown(store.root)}", markup=False, soft_wrap=True)


@app.command()
def verify(studies_dir: StudiesDir = STUDIES, json_: Json = False) -> None:
    """Check every file of the store and of the prepared data. The exit code is 0 if all are whole, 1 otherwise."""
    from tlm_search.data.damage import damaged_data
    from tlm_search.remote.mount import shown
    from tlm_search.store.local import Problem

    store = _store(studies_dir)
    entries = store.verify()
    data = {path: Problem(path.parent.name, path.stem, why) for path, why in damaged_data(store.root).items()}
    problems = [*entries, *data.values()]
    count = sum(len(store.sizes(kind)) for kind in store.kinds())
    if json_:
        listed = [{"kind": p.kind, "digest": p.digest, "reason": p.reason} for p in problems]
        print(json.dumps({"store": shown(store.root), "entries": count, "problems": listed}, indent=2))
    else:
        for problem in problems:
            print(f"{problem.kind} {problem.digest}: {problem.reason}")
        print(
            f"{_entries(count)} in {shown(store.root)}: {f'{len(problems)} damaged' if problems else 'none is damaged'}"
        )
        if entries:
            print(
                "Damaged entries count as missing: a run that needs them trains them again. Results of studies stay.\n"
                "To repair them now: tlm-search run SPACE --fresh, which reuses all other members."
            )
        for path in data:
            print(f"Remove {path}: the next run makes it again from the sources of its space.")
    if problems:
        raise typer.Exit(DAMAGED)


@app.command()
def gc(
    studies_dir: StudiesDir = STUDIES,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; by default only list them.")] = False,
    json_: Json = False,
) -> None:
    """Remove members and baselines that no study of this store refers to, and everything that only they need."""
    from tlm_search.study.garbage import find_garbage, remove_garbage

    store = _store(studies_dir)
    folder = store.root.parent
    leftovers: int | None
    garbage, leftovers = remove_garbage(folder) if yes else (find_garbage(folder), None)
    if json_:
        print(json.dumps(_document(store, garbage, leftovers), indent=2))
    else:
        print("\n".join(_lines(garbage, leftovers)))


def _store(studies_dir: str) -> Store:
    from tlm_search.errors import StoreError
    from tlm_search.remote.mount import shown, studies_folder
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import store_root

    folder = studies_folder(studies_dir)
    store = open_store(store_root(folder))
    if not store.exists():
        raise StoreError(
            f"there is no store in {shown(folder)}", hint="name the folder of the studies with --studies-dir"
        )
    return store


def _rows(store: Store, kind: str) -> list[dict[str, Any]]:
    whole = {entry.digest: entry for entry in store.entries(kind)}
    return [
        {
            "kind": kind,
            "digest": digest,
            "bytes": size,
            "age_seconds": _age_seconds(store.modified(kind, digest)),
            "words": _words(whole[digest].document) if digest in whole else "damaged, see: tlm-search store verify",
        }
        for digest, size in store.sizes(kind).items()
    ]


def _age_seconds(written: float | None) -> int:
    # None: the entry was removed after it was listed, or the server does not say.
    return 0 if written is None else round(max(0.0, time.time() - written))


# Parts of an architecture that are shown only if they are not the default.
_OPTIONAL = {"normalisation": "pre-norm", "shared_layers": "shared layers"}


def _words(document: Mapping[str, Any]) -> str:
    """Describe an entry: depth 1, width 64, 2 heads, pre-trained on 4,000 documents, seed 3."""
    if "teaching" in document:
        teachers = _plural(len(document["teaching"]["teachers"]), "member")
        return f"answers of {teachers} to {document['texts']:,} texts, {document['labels']} labels"
    if "features" in document:
        return f"linear model of {document['features']}, C = {document['c']:g}"
    spec = document.get("spec") or document.get("key") or {}
    shape = spec.get("architecture")
    if shape is None:
        if "parameters" in document:
            return f"{document['parameters']:,} parameters, {spec['labels']} labels"
        if "width" not in spec:
            return ""
        return f"width {spec['width']}, vocabulary {spec['vocabulary']:,}, {spec['documents']:,} documents"
    heads = _plural(shape["heads"], "head")
    parts = [f"depth {shape['depth']}, width {shape['heads'] * shape['head_size']}, {heads}"]
    if shape["convolution_layers"]:
        parts.append(f"{shape['convolution_layers']} convolutions {'x'.join(map(str, shape['kernel']))}")
    parts += [words for name, words in _OPTIONAL.items() if name in shape]
    if "latency_ms" in document:
        parts.append(f"{_plural(spec['members'], 'member')}: {document['latency_ms']:.3g} ms")
    if "stack" in spec:
        update = f"{1000 * document['seconds']['update']:.3g} ms"
        parts.append(f"{_plural(spec['stack'], 'member')}: {spec['objective']} takes {update} an update")
    elif "objective" in spec:
        parts.append(f"{_plural(spec.get('members', 1), 'member')}: {spec['objective']} in {document['precision']}")
    if "pretrained" in spec:
        pretrained = spec["pretrained"]
        learned = "pre-trained on" if pretrained and pretrained["settings"]["epochs"] else "word vectors from counts of"
        parts.append(f"{learned} {pretrained['documents']:,}" if pretrained else "not pre-trained")
        parts.append(f"{spec['labels']} labels")
    if "teaching" in spec:
        parts.append(f"student of {_plural(len(spec['teaching']['teachers']), 'member')}")
    if "linear" in spec:
        parts.append("with a linear model")
    if "documents" in spec:
        parts.append(f"{spec['documents']:,} documents")
        parts += ["word vectors"] if spec["settings"].get("initial_embeddings") else []
    return ", ".join([*parts, *([f"seed {spec['seed']}"] if "seed" in spec else [])])


def _document(store: Store, garbage: Garbage, leftovers: int | None) -> dict[str, Any]:
    from tlm_search.remote.mount import shown

    return {
        "store": shown(store.root),
        "removed": leftovers is not None,
        "studies": list(garbage.studies),
        "unfinished": list(garbage.unfinished),
        "unreadable": list(garbage.unreadable),
        "unknown": [{"kind": kind, "name": name} for kind, name in garbage.unknown],
        "entries": [{"kind": kind, "digest": name, "bytes": size} for (kind, name), size in garbage.entries.items()],
        "bytes": garbage.size_bytes,
        "kept": dict(garbage.kept),
        "leftovers": leftovers,
    }


def _lines(garbage: Garbage, leftovers: int | None) -> list[str]:
    removed = leftovers is not None
    lines = []
    for kind, needed in garbage.kept.items():
        sizes = [size for (of, _), size in garbage.entries.items() if of == kind]
        lines.append(f"{kind:<12} {needed} needed, {len(sizes)} not: {_size(sum(sizes))}")
    if garbage.unreadable:
        lines.append(
            "All pre-trained weights, word vectors and soft labels stay, because a damaged member does not say which "
            "of them it needs (tlm-search store verify)."
        )
    if garbage.unknown:
        named = ", ".join(f"{kind}/{name}" for kind, name in garbage.unknown[:_NAMED])
        more = f" and {len(garbage.unknown) - _NAMED} more" if len(garbage.unknown) > _NAMED else ""
        lines.append(
            f"These are not complete entries of this store, so they stay (tlm-search store verify): {named}{more}."
        )
    if garbage.unfinished and garbage.entries:
        lines.append(
            f"Unfinished: {', '.join(garbage.unfinished)}. Nothing refers to the members that an unfinished trial has "
            "trained so far. Continue such a study first; otherwise it trains them again."
        )
    studies = f"{len(garbage.studies)} {'study' if len(garbage.studies) == 1 else 'studies'} read"
    freed = _size(garbage.size_bytes)
    if removed:
        return [*lines, f"{studies}; {freed} freed, {leftovers} leftovers of killed processes removed."]
    return [*lines, f"{studies}; nothing was removed. tlm-search store gc --yes frees {freed}."]


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _size(size: int) -> str:
    from tlm_search.cli.validate import short

    number = short(size)
    return f"{number}B" if " " in number else f"{number} B"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
