"""Find docstrings in Python source without importing it, and return their English paragraphs.

A single regular expression finds the strings. So the docstrings of torch, transformers and all other installed packages
take seconds; ``ast`` would take most of a minute, because it builds a tree of all code. Docstrings in single quotes
(rare and short) are not found.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator

# Matches triple-quoted strings, and everything else that can contain a quote. Loops are unrolled and all alternatives
# begin with one of three characters, because the regular-expression engine is fast at that.
_LEXEME = re.compile(
    r"""\#[^\n]*"""
    r"""|\"\"\"([^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*)\"\"\"|\'\'\'([^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*)\'\'\'"""
    r"""|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'""",
    re.DOTALL,
)
_COMMENT = re.compile(r"\s+#.*")
_PREFIXES = ("", "r", "u")


def docstrings(source: str) -> Iterator[str]:
    """Yield the triple-quoted docstrings of modules, classes and functions in ``source``, in order.

    A string is a docstring if it begins a line, and the code before it is empty or ends with a colon.
    """
    if '"""' not in source and "'''" not in source:
        return
    for match in _LEXEME.finditer(source):
        if match.lastindex is None:
            continue
        line = source.rfind("\n", 0, match.start()) + 1
        prefix = source[line : match.start()].strip().lower()
        if prefix not in _PREFIXES or not _opens_block(source, line):
            continue
        text = match[match.lastindex]
        yield _unescaped(match[0], text) if "\\" in text and prefix != "r" else text


def _opens_block(source: str, line: int) -> bool:
    """Return whether the code above the line that starts at ``line`` is empty or ends with a colon."""
    end = line
    while end > 0:
        start = source.rfind("\n", 0, end - 1) + 1
        code = source[start:end].strip()
        if code and not code.startswith("#"):
            return code.endswith(":") or ("#" in code and _COMMENT.sub("", code).endswith(":"))
        end = start
    return True


def _unescaped(literal: str, text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the code of other packages
            return str(ast.literal_eval(literal))
    except (SyntaxError, ValueError):
        return text


_UNDERLINE = re.compile(r"[-=~^*#\"'`+_.]{3,}$")
_CODE = re.compile(r"(>>>|\.\.\. |\.\.\.$|\$ |In \[|Traceback|@\w|import \w|from [\w.]+ import )")
_DIRECTIVE = re.compile(r"\.\. +(?:_[^:]*:|([\w:-]+)::)?\s*(.*)")
_PROSE_DIRECTIVES = frozenset(
    {"note", "warning", "tip", "important", "caution", "hint", "attention", "danger", "seealso", "admonition"}
)
_VERSION_DIRECTIVES = frozenset({"versionadded", "versionchanged", "deprecated"})
_ITEM = re.compile(r"(?:[-*+•]|\(?\d{1,2}[.)]|#\.)\s+")
_FIELD = re.compile(r"[:@][a-z]+(?: [^:]*)?:\s*")
_NAME = r"[`*]{0,3}[A-Za-z_][\w.]*[`*]{0,3}"
_TYPE = r"(?:\s*(?:\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\]))?"
_ARGUMENT = re.compile(rf"{_NAME}{_TYPE}\s*:\s+(?=\S)")
_HEADER = re.compile(rf"[\w.*`'\", |\[\]-]{{1,60}} : \S|[\w*` ]{{1,40}}:$|{_NAME}{_TYPE}\s*:$")
_NAMES_ONLY = re.compile(r"[\w.*`]+(?:, ?[\w.*`]+)*$")
_SECTION = re.compile(
    r"(?:Returns?|Yields?|Raises?|Notes?|Warnings?|Examples?|Usage|Tip|Todo|Args?)\s*:\s+(?=\S)", re.I
)


def paragraphs(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of ``docstring`` that are English prose, without markup, each as a single line.

    The description of a parameter is a paragraph, without the parameter's name and type. Headings, tables, code, and
    doctests with their output are left out.
    """
    for lines in _blocks(inspect.cleandoc(docstring).splitlines()):
        text = " ".join(lines)
        if text.count(" ") < _LEAST_WORDS - 1 or len(text) > 2 * _LONGEST_CHARACTERS:
            continue
        text = _without_markup(text)
        if is_prose(text):
            yield text


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield the lines of each paragraph; code blocks, headings and tables are dropped."""
    block: list[str] = []
    block_indent = 0
    fenced = False
    until_blank = False
    deeper_than: int | None = None  # a literal block ends at a line that is not indented more
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text.startswith(("```", "~~~")):
            fenced = not fenced
            yield block
            block = []
            continue
        if fenced:
            continue
        if not text:
            yield block
            block, until_blank = [], False
            continue
        if deeper_than is not None:
            if indent > deeper_than:
                continue
            deeper_than = None
        if until_blank:
            continue
        if _CODE.match(text):
            yield block
            block, until_blank = [], True
            continue
        if _UNDERLINE.match(text) or text[0] in "|+":
            yield block[:-1]  # the line above an underline is a heading
            block = []
            continue
        if text.startswith(".. ") and (directive := _DIRECTIVE.match(text)):
            yield block
            block = []
            if directive[1] in _PROSE_DIRECTIVES or directive[1] in _VERSION_DIRECTIVES:
                text = directive[2] if directive[1] in _PROSE_DIRECTIVES else ""  # otherwise a version number
            else:
                deeper_than, text = indent, ""
            if not text:
                continue
        starts, text = _strip_marker(text, indent)
        if block and (starts or indent < block_indent):
            yield block
            block = []
        elif len(block) == 1 and indent > block_indent and _NAMES_ONLY.match(block[0]):
            block = []  # the name of a parameter, with its description below
        if not text:
            continue
        if text.endswith("::"):
            text, deeper_than = text[:-1], indent
        if not block:
            block_indent = indent
        block.append(text)
    yield block


def _strip_marker(text: str, indent: int) -> tuple[bool, str]:
    """Return whether a marker, such as that of a list, starts a new paragraph, and ``text`` without the marker."""
    if _HEADER.match(text):
        return True, ""
    for marker in (_ITEM, _FIELD, _SECTION) if indent == 0 else (_ITEM, _FIELD, _SECTION, _ARGUMENT):
        if found := marker.match(text):
            rest = text[found.end() :]
            if marker is _ITEM and (argument := _ARGUMENT.match(rest)):
                rest = rest[argument.end() :]
            return True, rest
    return False, text


_MARKUP = (
    (re.compile(r":math:`[^`]*`|\$[^$]*\$"), " "),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"`([^`<]*)<[^>]*>`_{0,2}"), r"\1"),
    (re.compile(r":[\w+-]+(?::[\w+-]+)*:`~?\.?([^`]*)`"), r"\1"),
    (re.compile(r"\[[\w#*-]+\]_|\|(\w+)\|"), r"\1"),
    (re.compile(r"<?https?://[^\s>)\]]*>?|<[^>\s][^>]{0,80}>"), " "),
    (re.compile(r"`{1,2}~?([^`]*)`{1,2}_{0,2}"), r"\1"),
    (re.compile(r"\*{1,3}(\S(?:[^*]*\S)?)\*{1,3}"), r"\1"),
    (re.compile(r"\s+"), " "),
)


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


_LEAST_WORDS = 12
_LONGEST_CHARACTERS = 2000
_WORD = re.compile(r"(?<![\w.])[A-Za-z][a-z]*(?:['-][a-z]+)*(?=[\s,.;:!?)\"'/]|$)(?!\.\w|\()")
_COMMON = re.compile(
    r"(?:the|an?|of|to|in|is|are|be|been|and|or|for|with|that|this|these|those|its?|as|by|on|at|from|if|when|not|no|can"
    r"|may|must|should|will|would|which|where|whether|how|all|any|each|other|than|then|but|into|only|same|such|used?"
    r"|using|given|ha[sd]|have|was|were|do|does|you|we|they|there)$",
    re.IGNORECASE,
)


def is_prose(text: str) -> bool:
    """Return whether ``text`` is English prose: enough words, mostly plain, and some very common English words."""
    if len(text) > _LONGEST_CHARACTERS:
        return False
    pieces = text.split()
    if len(pieces) < _LEAST_WORDS:
        return False
    words = _WORD.findall(text)
    if len(words) < _LEAST_WORDS or len(words) < 0.7 * len(pieces):
        return False
    common = sum(_COMMON.match(word) is not None for word in words)
    return common >= 2 and common >= 0.15 * len(words)
