"""Imports inside mmskip flow one way, and no host is needed to import it."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mmskip

PACKAGE = Path(mmskip.__file__).parent
MODULES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob('*.py')
    if '.mim' not in path.parts
)

# What stands further left must not import what stands further right.
ORDER = {
    'ops': 0,
    'layers': 1,
    'runtime': 2,
    'convert': 3,
    'losses': 4,
    'models': 5,
    'datasets': 5,
    'engine': 5,
    'evaluation': 5,
    'visualization': 5,
    'apis': 6,
}
SHARED = ('registry', 'compat', 'options')
ENTRIES = ('__init__', '__main__', 'cli', 'doctor')
HOSTS = ('mmdet', 'mmpose', 'mmaction')
HOSTED = ('models', 'datasets', 'evaluation', 'visualization', 'apis')
OPTIONAL = (*HOSTS, 'mmcv')


class Import(NamedTuple):
    """An import statement.

    Attributes:
        target: Absolute dotted name of what is imported.
        line: Line number.
        tolerant: Whether the module that holds it can be imported where
            the target cannot.
        lazy: Whether it runs when a function is called.
    """

    target: str
    line: int
    tolerant: bool
    lazy: bool

    @property
    def top(self) -> str:
        return self.target.split('.')[0]

    @property
    def part(self) -> str:
        """The part of mmskip it names: ``ops`` of ``mmskip.ops.geometry``."""
        return (*self.target.split('.'), '')[1]


def is_guard(node: ast.AST, inside: ast.AST) -> bool:
    """Whether what is ``inside`` a statement may fail to be imported."""
    if not isinstance(node, (ast.Try, ast.With, ast.If)):
        return False
    if inside not in node.body:
        return False
    if isinstance(node, ast.Try):
        caught = [ast.unparse(h.type) for h in node.handlers if h.type]
        return any(
            name in text
            for name in ('ImportError', 'ModuleNotFoundError')
            for text in caught
        )
    if isinstance(node, ast.With):
        return 'suppress(ImportError' in ast.unparse(node.items[0])
    test = ast.unparse(node.test)
    return 'find_spec' in test or 'TYPE_CHECKING' in test


def targets_of(node: ast.AST, module: tuple[str, ...]) -> list[str]:
    """Absolute names of what a statement of a module imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ''
    if node.level:
        above = ('mmskip', *module)[: -node.level]
        base = '.'.join([*above, *filter(None, [base])])
    return [f'{base}.{alias.name}' for alias in node.names]


def walk(node: ast.AST, above: tuple = ()) -> Iterator[tuple]:
    yield node, above
    for child in ast.iter_child_nodes(node):
        yield from walk(child, (*above, node))


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse((PACKAGE / path).read_text(), str(path))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    module = path.with_suffix('').parts
    for node, above in walk(tree):
        targets = targets_of(node, module)
        if not targets:
            continue
        pairs = itertools.pairwise((*above, node))
        tolerant = any(is_guard(outer, inner) for outer, inner in pairs)
        lazy = any(isinstance(outer, functions) for outer in above)
        for target in targets:
            yield Import(target, node.lineno, tolerant, lazy)


IMPORTS = {path: tuple(imports_of(path)) for path in MODULES}


def part_of(path: Path) -> str:
    return path.with_suffix('').parts[0]


def file_of(target: str) -> Path | None:
    """The file of mmskip that an imported name lies in."""
    parts = target.split('.')[1:]
    for length in range(len(parts), -1, -1):
        for tail in ('.py', '/__init__.py'):
            path = Path('/'.join(parts[:length]) + tail)
            if path in IMPORTS:
                return path
    return None


def is_allowed(part: str, wanted: str) -> bool:
    if part in ENTRIES or wanted == part:
        return True
    if part in SHARED:
        return part == 'registry'
    if wanted in SHARED:
        return part != 'ops'
    return wanted in ORDER and ORDER[wanted] <= ORDER[part]


def test_every_module_has_its_place():
    known = {*ORDER, *SHARED, *ENTRIES}
    assert [path for path in MODULES if part_of(path) not in known] == []


def test_imports_flow_one_way():
    assert [
        f'{path}:{found.line} imports {found.target}'
        for path in MODULES
        for found in IMPORTS[path]
        if found.top == 'mmskip' and not is_allowed(part_of(path), found.part)
    ] == []


def test_hosts_are_imported_only_where_allowed():
    assert [
        f'{path}:{found.line} imports {found.target}'
        for path in MODULES
        for found in IMPORTS[path]
        if found.top in HOSTS and part_of(path) not in HOSTED
    ] == []


def test_own_imports_stand_outside_functions():
    assert [
        f'{path}:{found.line} imports {found.target}'
        for path in MODULES
        for found in IMPORTS[path]
        if found.top == 'mmskip' and found.lazy
    ] == []


@pytest.mark.parametrize(
    'package',
    [path for path in MODULES if path.name == '__init__.py'],
    ids=str,
)
def test_packages_need_no_host(package):
    """Followed through all that is imported whatever happens."""
    seen, waiting, wrong = set(), [package], []
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for found in IMPORTS[path]:
            if found.tolerant or found.lazy:
                continue
            if found.top in OPTIONAL:
                wrong.append(f'{path}:{found.line} needs {found.target}')
            elif found.top == 'mmskip':
                waiting += {file_of(found.target)} - {None} - seen
    assert wrong == []


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('import mmdet', (False, False)),
        (
            'try:\n    import mmdet\nexcept ImportError:\n    mmdet = None',
            (True, False),
        ),
        (
            'try:\n    pass\nexcept ImportError:\n    import mmdet',
            (False, False),
        ),
        ('if find_spec("mmdet"):\n    import mmdet', (True, False)),
        ('with suppress(ImportError):\n    import mmdet', (True, False)),
        ('def f():\n    import mmdet', (False, True)),
    ],
)
def test_guards_are_recognised(source, expected, tmp_path):
    file = tmp_path / 'module.py'
    file.write_text(source)
    (found,) = imports_of(file)
    assert (found.tolerant, found.lazy) == expected
