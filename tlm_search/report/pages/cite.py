"""What to cite of a study: the question, and the tool with the study's space."""

from __future__ import annotations

import re

from tlm_search.study.record import StudyRecord

_QUESTION = """@article{tiny-language-models,
  title   = {Tiny language models},
  author  = {Gross and Tzach and Halevi and Koresh and Kanter},
  journal = {Physica A},
  volume  = {681},
  pages   = {131102},
  note    = {arXiv 2507.14871}
}"""


def bibtex(record: StudyRecord) -> str:
    """Return two BibTeX entries: the paper that asks the question, and this study."""
    version = str(record.versions.get("tlm-search", "")).strip()
    task, corpus = (str(record.data.get(f"{part}_name", "unknown")) for part in ("task", "corpus"))
    key = re.sub(r"[^a-z0-9]+", "-", record.name.lower()).strip("-") or "study"
    method = (
        f"Search over soft committees of shallow models, task {task}, corpus {corpus}, "
        f"sampler {record.space.sampler.name}, {len(record.in_state('complete'))} complete trials, "
        f"seed {record.space.seed}, space {record.space.digest}"
    )
    lines = [f"@misc{{tlm-search-{key},", f"  title   = {{The study {_braced(record.name)}}},"]
    lines.append("  howpublished = {tlm-search" + (f" {_braced(version)}" if version else "") + "},")
    lines += [f"  note    = {{{_braced(method)}}}", "}"]
    return _QUESTION + "\n\n" + "\n".join(lines)


def _braced(text: str) -> str:
    """Keep what BibTeX reads as its own out of a field."""
    return re.sub(r"[{}\\\"%@]", "", text).replace("&", r"\&").replace("_", r"\_").replace("#", r"\#")
