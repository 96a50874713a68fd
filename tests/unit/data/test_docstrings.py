from __future__ import annotations

import ast
import inspect
import json
import textwrap

import pytest

from tlm_search.data.sources.docstrings import docstrings, is_prose, paragraphs


def _by_ast(source: str) -> set[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node, clean=False) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))
    return {text for text in found if text}


@pytest.mark.parametrize("module", [textwrap, json.decoder, inspect, ast])
def test_the_lexer_finds_what_ast_finds(module: object) -> None:
    source = inspect.getsource(module)  # type: ignore[arg-type]
    assert _by_ast(source) <= set(docstrings(source)) | {text for text in _by_ast(source) if f'"{text}"' in source}


def test_strings_that_are_no_docstrings_are_passed_over() -> None:
    source = textwrap.dedent(
        '''
        # don't stop here: "
        x = """assigned"""
        call("""argument""", '"', "it's")

        def f(a="it's"):  # a colon: here
            # a comment
            r"""raw \\d"""
            y = b"""bytes"""
            return """returned"""

        class C:
            """with \\"escapes\\" and
            a newline\\x41"""
            f"""formatted"""
        '''
    )
    assert list(docstrings(source)) == ["raw \\d", 'with "escapes" and\n    a newlineA']


def test_broken_source_does_no_harm() -> None:
    assert list(docstrings('def f(:\n    """fine"""\n    """open')) == ["fine"]


DOCSTRING = """Return the elements of the table that are next to the given one in the order of rows.

    Whether the result is a copy of the data or a view on it depends on the `memory layout`_ of the :class:`~x.Table`.

    Args:
        rows (`int`, *optional*, defaults to `1`):
            The number of rows that are looked at before the first one of the table is found.
        columns: The columns of the result in the order in which they are to be shown.

    Parameters
    ----------
    axis : {0, 1}
        The axis along which the values are read; it is not used when there is only one.

    Example::

        this is the code of an example that is in no case to be read as if it were a text

    >>> table.next_to(3)
    the output of the code which is also not to be read as if it were a text at all

    .. versionadded:: 1.2
       See [the guide](https://example.org/guide) for all that is to be said of the use of it in your own programs.

    | a | b |
    """


def test_paragraphs_are_prose_without_markup() -> None:
    assert list(paragraphs(DOCSTRING)) == [
        "Return the elements of the table that are next to the given one in the order of rows.",
        "Whether the result is a copy of the data or a view on it depends on the memory layout of the x.Table.",
        "The number of rows that are looked at before the first one of the table is found.",
        "The columns of the result in the order in which they are to be shown.",
        "The axis along which the values are read; it is not used when there is only one.",
        "See the guide for all that is to be said of the use of it in your own programs.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "too short a text",
        "x = foo(bar, baz) + qux[0] - spam.eggs(1, 2, 3) * ham(4) / bacon and more",
        "Retourne les valeurs du tableau qui sont proches de la ligne donnée par son numéro dans la table",
        "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0 the of to 1.1 1.2",
    ],
)
def test_noise_is_not_prose(text: str) -> None:
    assert not is_prose(text)
