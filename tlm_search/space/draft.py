"""Draft a space for the user's data, as YAML with comments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TEMPLATE = """\
# A study of {what}, written by tlm-search init.
# {sized}
#
#   tlm-search validate {file}      shows all settings and the cost
#   tlm-search run {file}           runs or continues the study

# Unlabelled text for pre-training.{corpus_comment}
corpus: {corpus}

# A WordPiece vocabulary trained on the corpus; each text is cut to `length` tokens. Accents and vowel marks are kept.
tokenizer: {{vocabulary: {vocabulary}, length: {length}, strip_accents: false}}

# {task_comment}
# {account}
# Choices are made on validation; test is only reported.
task:
{task}

# A setting has a single value, or is searched with `choices`, or with `low` and `high` (and `log` or `step`).
search:
  depth: {{choices: [1, 2]}}
  width: {widths}
  head_size: 32                                          # heads = width / head_size
  pretrain_size: {{choices: {pretrain_sizes}}}  # documents; 0 is no pre-training
  committee_size: {{choices: {committee_sizes}}}
  linear_member: {{choices: [false, true]}}                # a linear model on words has half of the votes
  initial_embeddings: cooccurrence                       # word vectors from counts; random: as in BERT
  pretrain_epochs: {{choices: [0, 3]}}                     # epochs of masked words; 0: only word vectors
  pretrain_batch_size: 32
  pretrain_learning_rate: {pretrain_rate}
  pretrain_softmax: sampled                              # takes half as long as the full softmax
  masking_probability: 0.4                               # BERT has 0.15; more masks teach more per update
  finetune_epochs: {epochs}
  finetune_batch_size: {batch_size}
  finetune_dropout: {{choices: [0.1, 0.5], role: nuisance}} # more for fewer rows
  pooling: mean                                          # or cls, BERT's first token
  finetune_learning_rate: {{low: {lowest_rate}, high: {highest_rate}, log: true, role: nuisance}}

# The deep model that committees are compared with. It inherits the fixed settings of `search` that it does not give.
# `trials` is the number of rates and dropouts to try; the best on validation becomes the reference.
reference:
  depth: {reference_depth}
  width: {widest}
  pretrain_size: {pretrain_largest}
  pretrain_epochs: 3
  pretrain_learning_rate: {reference_rate:<30} # deep models need a lower rate
  linear_member: true
  finetune_learning_rate: {reference_rate}
  finetune_dropout: 0.1
  trials: 4

objectives: {objectives:<44} # maximizes the first, minimizes the second
sampler: {{name: tpe, n_startup_trials: 6}}
resources: {resources:<45} # as many trials at once as fit
budget: {{trials: {trials}}}
"""


@dataclass(frozen=True)
class Sketch:
    """The facts about the data that a draft contains; ``said`` are lines to print for the user.

    ``pair`` names two columns that may be pairs of texts. ``metric_because`` explains the choice of another metric.
    """

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
    pair: tuple[str, str] | None
    said: tuple[str, ...]
    metric_because: str = ""


def draft(
    sketch: Sketch,
    *,
    file: str,
    sized: str,
    epochs: int,
    batch_size: int,
    widths: Sequence[int],
    committee_sizes: Sequence[int],
    pretrain_sizes: Sequence[int],
    rate: float,
    reference_depth: int,
    resources: str,
    trials: int,
) -> str:
    """Return the text of a commented space for the data of ``sketch``. The caller writes it to ``file``.

    ``rate`` scales all learning rates. ``resources`` is a YAML mapping, ``sized`` a comment.
    """
    return _TEMPLATE.format(
        what=sketch.what,
        sized=sized,
        file=quoted(file) if " " in file else file,
        corpus=_flow(sketch.corpus),
        corpus_comment=sketch.corpus_comment,
        vocabulary=sketch.vocabulary,
        length=sketch.length,
        task="\n".join(_task_lines(sketch)),
        task_comment=sketch.task_comment,
        account=sketch.account,
        epochs=epochs,
        batch_size=batch_size,
        widths=widths[0] if len(widths) == 1 else f"{{choices: {list(widths)}}}",
        committee_sizes=list(committee_sizes),
        pretrain_sizes=list(pretrain_sizes),
        pretrain_largest=pretrain_sizes[-1],
        pretrain_rate=f"{2e-3 * rate:g}",
        lowest_rate=f"{5e-4 * rate:g}",
        highest_rate=f"{4e-3 * rate:g}",
        reference_depth=reference_depth,
        reference_rate=f"{1e-3 * rate:g}",
        widest=max(widths),
        resources=f"{{{resources}}}",
        objectives=f"[validation_{sketch.task.get('metric', 'accuracy')}, latency_ms]",
        trials=trials,
    )


def _task_lines(sketch: Sketch) -> Iterator[str]:
    for key, value in sketch.task.items():
        yield f"  {key}: {_scalar(value)}" + (f"  # {sketch.metric_because}" if key == "metric" else "")
        if key == "text" and sketch.pair is not None:
            yield f"  # text: [{', '.join(map(quoted, sketch.pair))}]  # reads two columns, as a pair of texts"


def _flow(section: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {_scalar(value)}' for key, value in section.items())}}}"


def _scalar(value: str | int) -> str:
    # JSON is also YAML, and quotes any characters in the user's names.
    return json.dumps(value, ensure_ascii=False)


def quoted(name: str) -> str:
    """Quote a name with any characters for YAML, as JSON does."""
    return json.dumps(name, ensure_ascii=False)
