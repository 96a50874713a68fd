"""The model card of an exported committee: architecture, quality, cost and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tlm_search.committee.candidates import candidates
from tlm_search.committee.metrics import (
    metric_words,
)
from tlm_search.committee.vote import calibration_error, cross_entropy, macro_f1
from tlm_search.data.markers import EXAMPLE, Markers
from tlm_search.data.prepared import PreparedData
from tlm_search.data.rows import unused_words
from tlm_search.export.choose import trial_words
from tlm_search.export.facts import Facts, no_members, shape_of
from tlm_search.members.spec import share_of_linear, teaching_of
from tlm_search.report.claims.answer import standing_sentences
from tlm_search.report.formatting import (
    compact,
    duration,
    interval,
    milliseconds,
    number,
    percent,
    plain_text,
    plural,
    points,
)
from tlm_search.report.privacy import source_name
from tlm_search.report.tables.tables import configuration_words
from tlm_search.space.settings import HALF
from tlm_search.study.record import REFERENCE_NUMBER


def card(facts: Facts) -> str:
    """Return the card as Markdown. The metadata for model hubs come first."""
    return (
        "\n\n".join(
            [_FRONT, _opening(facts), _loading(facts), _data(facts), _training(facts), _results(facts), _LIMITS]
        )
        + "\n"
    )


_FRONT = """---
library_name: tlm-search
pipeline_tag: text-classification
license: unknown  # choose one; it depends on the corpus and the task
tags: [tiny-language-models, ensemble, bert]
---"""

_LIMITS = """## Limits

- It knows only the labels above. Every text gets one of them, also an empty text or one of another kind.
- The results hold for texts of the task. On other texts they can be far worse, and the probabilities too confident.
- The committee has learned any bias of the corpus and of the labels.
- Licence: choose one in the first lines of this page. The licences of the corpus and of the task may bind you.

Complete this page. `manifest.json` lists all other files with their sha256; a changed file is refused."""


_MARKED = (
    f"Its texts have two entities marked, the first mention of each, such as `{EXAMPLE}`: the head between `[E1]` and "
    "`[/E1]`, the tail between `[E2]` and `[/E2]`, in any order. In texts without the markers it sees no entities."
)


_PAIRED = (
    "It reads pairs of texts in the order of the study: `[CLS] text [SEP] text_pair [SEP]` with `token_type_ids` 0 "
    "and 1. If a pair is too long, its longer text is cut."
)


_IN_CONTEXT = (
    "It reads a line of a log with the lines before it{group} as context, at most {rows}, the oldest first, separated "
    "by line feeds: `[CLS] context [SEP] line [SEP]` with `token_type_ids` 0 and 1. If both are too long, the oldest "
    'tokens of the context are cut. `transformers` does this with `truncation="only_first"`, which refuses a line that '
    "leaves no room for its context. `tlm-search predict DIR --file LOG.csv` reads the contexts from the file."
)


def _two_texts(data: PreparedData) -> list[str]:
    """Say how the committee reads two texts; empty if it reads single ones."""
    if data.context is None:
        return [_PAIRED] if data.pairs else []
    group = data.context["group"]
    of_group = "" if group is None else f" of the same {plain_text(group)}"
    return [_IN_CONTEXT.format(group=of_group, rows=data.context["rows"])]


def _opening(facts: Facts) -> str:
    labels = json.dumps(list(facts.data.labels), ensure_ascii=False)
    kind = _one_configuration(facts) if facts.chosen.mixed is None else _several_configurations(facts)
    return f"# {plain_text(facts.record.name)}\n\nA text classifier: {kind}\n\nLabels:\n\n```json\n{labels}\n```"


def _several_configurations(facts: Facts) -> str:
    """Describe a mixed committee: its members with their trials and weights in a table, and how they were chosen."""
    mixed = facts.chosen.mixed
    assert mixed is not None
    linear = ""
    if facts.linear:
        shares = sum(
            weight * share_of_linear(document["spec"])
            for weight, document in zip(mixed.weights, facts.documents, strict=True)
            if "linear" in document["spec"]
        )
        many = len(facts.linear)
        voters = "A linear model on words has" if many == 1 else f"{many} linear models on words have"
        linear = f" {voters} {percent(shares)} of the votes."
    learned = sum("teaching" in document["spec"] for document in facts.documents)
    if learned:
        linear += f" {_capital(plural(learned, 'member'))} learned the answers of other members, not the labels."
    rows = []
    for trial, weight, document in zip(mixed.trials, mixed.weights, facts.documents, strict=True):
        shape, of = shape_of(document), facts.record.numbered(trial)
        words = "" if of is None else plain_text(configuration_words(facts.record, of))
        sizes = f"depth {shape.depth}, width {shape.width}, {plural(shape.heads, 'head')}"
        rows.append(f"| {_of_trial(trial)} | {words} | {sizes} | {percent(weight)} |")
    table = "\n".join(["| trial | configuration | BERT | share of the votes |", "|---|---|---|---|", *rows])
    return (
        f"a mixed soft committee of {plural(len(facts.documents), 'model')}, which vote by the weighted mean of their "
        f"softmax outputs. Each is a small BERT.{linear} It has {mixed.name} of a search by `tlm-search`: "
        f"{plain_text(mixed.chosen)}.\n\n{table}"
    )


def _of_trial(number: int) -> str:
    return "reference" if number == REFERENCE_NUMBER else str(number) if number >= 0 else ""


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _one_configuration(facts: Facts) -> str:
    shape, size = shape_of(facts.documents[0]), len(facts.documents)
    kind = (
        "a single model"
        if size == 1
        else f"a soft committee of {size} models, which vote by the mean of their softmax outputs"
    )
    which = "Each"
    if facts.linear:
        share = share_of_linear(facts.documents[0]["spec"])
        kind += f", and a linear model on words, which has {'half' if share == HALF else f'{share:.0%}'} of the votes"
        which = "The single model" if size == 1 else f"Each of the {size} models"
    convolution = f", {plural(shape.convolution_layers, 'convolution')} in front" if shape.convolution_layers else ""
    norms = ", pre-norm" if shape.normalisation == "pre" else ""
    shared = ", whose layers share their weights" if shape.shared_layers else ""
    return (
        f"{kind}. {which} is a BERT of depth {shape.depth}, width {shape.width}, "
        f"{plural(shape.heads, 'head')}{convolution}{norms}{shared}. It is {facts.chosen.name} of a search by "
        f"`tlm-search`, chosen as: {plain_text(facts.chosen.why)}.{_learned(facts)}"
    )


def _learned(facts: Facts) -> str:
    student = facts.chosen.student
    if student is None:
        return _self_trained(facts)
    more = f" and on {plural(student.documents, 'document')} of the corpus" if student.documents else ""
    teaching = facts.documents[0]["spec"]["teaching"]
    teachers = teaching["teachers"]
    more += " and on the unlabelled texts" if "unlabelled" in teaching else ""
    return (
        f" It was distilled: fine-tuned on the mean probabilities of that committee on the training texts{more}, not "
        f"on the labels (Hinton, Vinyals and Dean 2015). The members of that committee have these names in the store "
        f"of the search: {', '.join(f'`{digest}`' for digest in teachers)}."
    )


def _self_trained(facts: Facts) -> str:
    spec = facts.documents[0]["spec"]
    teaching = teaching_of(spec)
    if teaching is None:
        return ""
    subject = "It was" if len(facts.documents) == 1 else "Its members were"
    how = "fine-tuned on the mean probabilities of"
    if "teaching" not in spec:
        subject, how = "Its linear model was", "fitted to the most probable labels by"
    return (
        f" {subject} self-trained: {how} "
        f"{plural(len(teaching['teachers']), 'teacher')} of the same configuration, which had learned the labels, on "
        f"{facts.data.rows['train']:,} training texts and {facts.data.unlabelled_texts['used']:,} unlabelled ones "
        f"(Hinton, Vinyals and Dean 2015). The teachers have these names in the store of the search: "
        f"{', '.join(f'`{digest}`' for digest in teaching['teachers'])}."
    )


def _loading(facts: Facts) -> str:
    why_not = no_members(facts.documents)
    given, one, words, cut = '["a text", "another text"]', '"a text"', '"a text"', "True"
    if facts.data.pairs:
        given, words = '[("a text", "another text")]', '"a text" "another text"'
        one = '{"text": "a text", "text_pair": "another text"}'
    if facts.data.context is not None:
        cut = '"only_first"'
    lines = [
        "## How to load it",
        *([] if Markers.of(facts.data.special) is None else [_MARKED]),
        *_two_texts(facts.data),
        "```python\nfrom tlm_search import SoftCommittee\n\n"
        'committee = SoftCommittee.from_pretrained("DIR")\n'
        f"committee.probabilities({given})  # (texts, labels), in the order of labels.json\n```",
        "It is a model of `transformers`, which loads it without remote code once `tlm_search` is imported:\n\n"
        "```python\nimport tlm_search\nfrom transformers import pipeline\n\n"
        f'pipeline("text-classification", "DIR")({one}, truncation={cut})\n```',
        f"On the command line: `tlm-search predict DIR {words}`.",
    ]
    if why_not is None:
        lines.append(
            "Each member alone needs only `transformers`:\n\n```python\nfrom transformers import pipeline\n\n"
            f'pipeline("text-classification", "DIR/members/0")({one}, truncation={cut})\n```'
        )
        if facts.linear:
            lines.append("These folders do not contain the linear model, which is part of the committee only.")
    else:
        lines.append(f"There is no folder `members/`: {why_not}.")
    return "\n\n".join(lines)


def _data(facts: Facts) -> str:
    data = facts.data
    texts = dict.fromkeys(_pretraining_words(document["spec"]["pretrained"], data) for document in facts.documents)
    return (
        "## Data\n\n"
        f"- Pre-training: {'; or '.join(texts)}.\n"
        f"- Task: {_source(data.task_name)}; {data.rows['train']:,} texts to train, "
        f"{data.rows['validation']:,} to choose by (validation), {data.rows['test']:,} to report (test)."
        f"{_account(data)}\n"
        f"{_unlabelled(facts)}"
        f"- Texts are cut to {data.length} tokens of a vocabulary of {data.vocabulary:,}."
    )


def _pretraining_words(pretrained: Mapping[str, Any] | None, data: PreparedData) -> str:
    if pretrained is None:
        return "none"
    texts = f"the first {pretrained['documents']:,} documents of {_source(data.corpus_name)}"
    return texts if pretrained["settings"]["epochs"] else f"word vectors from the counts of {texts}"


def _account(data: PreparedData) -> str:
    account = data.account
    return f" The data have {account['available']:,} rows; {unused_words(account)}." if account else ""


def _unlabelled(facts: Facts) -> str:
    texts = facts.data.unlabelled_texts
    if not texts or not any("unlabelled" in (teaching_of(document["spec"]) or {}) for document in facts.documents):
        return ""
    return (
        f"- Unlabelled texts: {texts['used']:,} of {_source(facts.data.unlabelled_name)}. Texts that validation or "
        f"test has were left out ({texts['held_out']:,}).\n"
    )


def _training(facts: Facts) -> str:
    spec, first, mixed = facts.documents[0]["spec"], facts.documents[0], facts.chosen.mixed
    of_trials = [0] * len(facts.documents) if mixed is None else mixed.trials
    lines = []
    for trial, document in dict(zip(of_trials, facts.documents, strict=True)).items():
        own = document["spec"]
        phases = {"pre-training": (own["pretrained"] or {}).get("settings"), "fine-tuning": own["settings"]}
        for phase, settings in phases.items():
            if settings is not None and settings["epochs"]:
                title = _capital(phase) if mixed is None else f"Members of {trial_words(trial)}, {phase}"
                values = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in settings.items())
                lines.append(f"- {title}: {values}.")
    for model in facts.linear:
        terms = "words and word pairs" if model["pairs"] else "words"
        roles = (
            ", the words also by their position relative to the entities"
            if model["spec"].get("marked")
            else ", the words also by the text of the pair that they are in"
            if facts.data.pairs
            else ""
        )
        lines.append(
            f"- Linear model: TF-IDF of {model['terms']:,} {terms} of the training texts{roles}, put together "
            f"from their tokens; logistic regression, C {number(model['strength'])}."
        )
    whom = "it" if len(facts.documents) == 1 else "them"
    taught = "teaching" in spec and mixed is None
    more = f"{f'The committee that taught {whom}' if taught else 'The search around them'} cost more."
    versions = ", ".join(f"{name} {value}" for name, value in first["versions"].items() if value)
    lines.append(
        f"- Cost of all members: {duration(facts.cost('seconds'))} and {compact(facts.cost('flops'))} FLOPs on "
        f"{plain_text(str(first['machine']['device']))}. {more}"
    )
    lines.append(f"- Versions: {plain_text(versions)}.")
    return "## Training\n\n" + "\n".join(lines)


def _results(facts: Facts) -> str:
    test, labels = facts.probabilities["test"], facts.labels["test"]
    judged = dict.fromkeys((facts.metric.name, "accuracy"))
    before, after = (
        (cross_entropy(vote, labels), calibration_error(vote, labels)) for vote in (facts.votes["test"], test)
    )
    rows = [
        (f"{split} {metric_words(name)} (95% interval over texts)", f"{percent(mean)} ({interval(low, high)})")
        for name in judged
        for split in ("validation", "test")
        for mean, low, high in [facts.reached(split, name)]
    ]
    rows += [] if "macro_f1" in judged else [("test macro F1", f"{macro_f1(test, labels):.3f}")]
    rows += [
        ("test cross-entropy", f"{after[0]:.3f} nats (before calibration {before[0]:.3f})"),
        ("test calibration error", f"{percent(after[1])} (before calibration {percent(before[1])})"),
        ("latency of one text of full length", milliseconds(facts.latency_ms())),
        ("parameters of all members", f"{facts.parameters:,}"),
        ("largest difference from the study's test probabilities", f"{facts.difference:.1g}"),
    ]
    for graph in facts.graphs:
        change, low, high = graph.change
        changed = f"{points(change)} ({points(low)} to {points(high)})"
        rows.append((f"test accuracy of `{graph.name}`", f"{percent(graph.accuracy)}, {changed} against torch"))
        rows.append((f"largest difference of `{graph.name}` from torch", f"{graph.difference:.1g}"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    trained = len(facts.chosen.trial.members)
    few = (
        f"The search judged committees of this size by their mean over the {trained} members that were trained; these "
        "are the first of them, and may be better or worse. "
        if facts.chosen.size < trained and facts.chosen.student is None and facts.chosen.mixed is None
        else ""
    )
    return (
        f"## Results\n\n| | |\n|---|---|\n{table}\n\n"
        "These are the figures of these members. Their intervals over texts do not count that other members could have "
        f"been trained; the intervals of `tlm-search best` and of the report do. {few}{_confirmed(facts)}"
        f"{_standing(facts)}{_choice(facts)}"
        f"The calibration error is the mean gap of confidence and accuracy over 15 bins. {_calibrated(facts)}"
        f"{_latency_words(facts)}"
    )


def _choice(facts: Facts) -> str:
    """Say how the choice influences the figures."""
    mixed, name = facts.chosen.mixed, metric_words(facts.metric.name)
    if mixed is None:
        return f"It was chosen on validation, so its {name} there is slightly too high. No choice has used test. "
    if not mixed.how:
        return (
            "Its members were named one by one. If test figures influenced that, the test figures here are too high. "
        )
    return (
        f"Its members were {plain_text(mixed.chosen)}, so its {name} there is too high, and by more than that of a "
        "committee of one configuration, because the choice was larger. No choice has used test. "
    )


def _latency_words(facts: Facts) -> str:
    if facts.latency_ms() is None:
        return "The study did not measure latency; `tlm-search latency DIR` does."
    return "Latency is that of PyTorch on the machine that ran the trial."


def _calibrated(facts: Facts) -> str:
    temperature, bias = facts.calibration.temperature, facts.calibration.bias
    added = ""
    if bias:
        of_labels = ", ".join(
            f"{plain_text(label)} {value:+.2f}" for label, value in zip(facts.data.labels, bias, strict=True) if value
        )
        named = metric_words(facts.record.space.task.metric)
        added = f" after a bias is added, which raises {named} and changes which labels are named: {of_labels}"
    return (
        f"Its answers are calibrated on validation: log-probabilities are divided by the temperature {temperature:.3g}"
        f"{added}. "
    )


def _confirmed(facts: Facts) -> str:
    """Say what a committee with fresh seeds reaches: what a new training can expect."""
    chosen = facts.chosen
    other = chosen.student is not None or chosen.mixed is not None
    again = None if other else facts.record.confirmed(chosen.trial.number, chosen.size)
    if again is None:
        return ""
    fresh = candidates(again)[chosen.size - 1]
    return (
        "The search chose them, and among equal ones it chooses the luckiest. Trained again with fresh seeds, such a "
        f"committee has a test {metric_words(fresh.metric)} of {percent(fresh.test_metric)} "
        f"({interval(*fresh.test_interval)}). "
    )


def _standing(facts: Facts) -> str:
    """Say how the committee compares with the reference and the linear model, with the verdicts of ``best``."""
    if facts.standing is None:
        return ""
    subject = "it" if facts.standing.in_search is None else "such a committee"
    return "".join(f"{sentence} " for sentence in standing_sentences(facts.record, facts.standing, subject=subject))


def _source(name: str) -> str:
    """Write the name of a source as code. Of a path write only the last part, as the rest describes the machine."""
    words = source_name(name).replace("`", "'").split()
    return f"`{' '.join(words)}`"
