"""Docstrings are whole sentences that say what a thing is for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmskip

PACKAGE = Path(mmskip.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob('*.py'))
# They begin half a sentence.
NEVER_FIRST = re.compile(
    r'(What|Whether|Which|Whose|Of|As|That|Behind|Those)\b'
)
LONGEST_FUNCTION = 60
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def documented(
    node: ast.AST, name: str = '', overrides: bool = False
) -> Iterator[tuple[str, Documented, bool]]:
    """Modules, classes, functions and methods, by their dotted names.

    Functions inside of others are left out. The last value tells whether a
    node is a method that may have the docstring of a base.
    """
    if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
        yield name, node, overrides
    if isinstance(node, FUNCTIONS):
        return
    has_bases = isinstance(node, ast.ClassDef) and bool(node.bases)
    for child in ast.iter_child_nodes(node):
        inner = getattr(child, 'name', None)
        inner = f'{name}.{inner}'.strip('.') if inner else name
        yield from documented(child, inner, has_bases)


def is_public(name: str) -> bool:
    return not any(part.startswith('_') for part in name.split('.'))


def faults(source: str) -> Iterator[str]:
    """What is wrong with the docstrings of a module."""
    for name, node, overrides in documented(ast.parse(source)):
        place = name or 'module'
        text = ast.get_docstring(node)
        if text is None:
            if is_public(name) and not overrides:
                yield f'{place}: no docstring'
            continue
        first = text.split('\n\n')[0]
        if not first.endswith('.'):
            yield f'{place}: no full stop: {first}'
        if NEVER_FIRST.match(first):
            yield f'{place}: half a sentence: {first}'


@pytest.mark.parametrize('module', MODULES, ids=str)
def test_docstrings_are_whole_sentences(module):
    assert list(faults((PACKAGE / module).read_text('utf-8'))) == []


def test_functions_fit_a_screen():
    assert [
        f'{module}: {node.name}'
        for module in MODULES
        for node in ast.walk(ast.parse((PACKAGE / module).read_text('utf-8')))
        if isinstance(node, FUNCTIONS)
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ] == []


@pytest.mark.parametrize(
    ('source', 'found'),
    [
        ('"""Read."""\ndef f():\n    """Whether it is."""', 'half a sentence'),
        ('"""Read."""\ndef f():\n    """As of g()."""', 'half a sentence'),
        ('"""Read."""\ndef f():\n    """Read it"""', 'no full stop'),
        ('"""Read."""\ndef f():\n    pass', 'no docstring'),
        (
            '"""Read."""\nclass A:\n    """It."""\n    def f(self): pass',
            'A.f: no docstring',
        ),
        ('def f():\n    """Read."""', 'module: no docstring'),
    ],
)
def test_faults_are_found(source, found):
    (fault,) = faults(source)
    assert found in fault


@pytest.mark.parametrize(
    'source',
    [
        '"""Read."""\ndef _f(): pass',
        '"""Read."""\nclass A(B):\n    """Reads."""\n    def f(self): pass',
        '"""Read."""\ndef f():\n    """Assign it."""\n    def g(): pass',
    ],
)
def test_private_and_inherited_ones_may_have_none(source):
    assert list(faults(source)) == []
