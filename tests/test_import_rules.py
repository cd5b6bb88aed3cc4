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

# What stands further left must not import what stands further right; of those
# on one level only the last ones import each other.
ORDER = {
    'native': 0,
    'core': 1,
    'skip_conv': 2,
    'sof_net': 2,
    'va_red2': 2,
    'compression': 2,
    'plan': 3,
    'models': 4,
    'baselines': 4,
    'datasets': 4,
    'engine': 4,
    'evaluation': 4,
    'visualization': 4,
    'video': 5,
    'apis': 6,
    'toy': 7,
    'experiments': 7,
}
METHODS = ('skip_conv', 'sof_net', 'va_red2', 'compression')
LEAVES = ('toy', 'experiments')
SHARED = ('registry', 'compat', 'options', 'reading')
ENTRIES = ('__init__', '__main__', 'cli', 'doctor')
HOSTS = ('mmdet', 'mmpose', 'mmaction')
HOSTED = (
    'models',
    'baselines',
    'sof_net',
    'datasets',
    'evaluation',
    'visualization',
    'video',
    'apis',
)
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
        """The part of mmskip it names: ``core`` of ``mmskip.core.ledger``."""
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
        return wanted in SHARED
    if wanted in SHARED:
        return part != 'native'
    if (wanted in METHODS and part in METHODS) or wanted in LEAVES:
        return False
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


def test_no_two_modules_import_each_other():
    graph = {
        path: {
            file_of(found.target)
            for found in IMPORTS[path]
            if found.top == 'mmskip' and path.name != '__init__.py'
        }
        - {None, path}
        for path in MODULES
    }
    # What imports nothing that is left cannot be in a circle.
    while ends := {path for path, wanted in graph.items() if not wanted}:
        graph = {
            path: wanted - ends
            for path, wanted in graph.items()
            if path not in ends
        }
    assert graph == {}


def arguments_of(path: Path) -> Iterator[tuple[str, int]]:
    """Functions of a module, public constructors left out, by arguments."""
    tree = ast.parse((PACKAGE / path).read_text(), str(path))
    for node, above in walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        owner = above[-1] if above else None
        is_method = isinstance(owner, ast.ClassDef)
        if is_method and node.name == '__init__' and owner.name[0] != '_':
            continue
        given = node.args
        number = len(given.posonlyargs + given.args + given.kwonlyargs)
        bound = is_method and given.args[:1] and given.args[0].arg in BOUND
        yield f'{path}:{node.lineno} {node.name}', number - bool(bound)


BOUND = ('self', 'cls')


def test_no_list_of_arguments_is_longer_than_eight():
    assert [
        (name, number)
        for path in MODULES
        for name, number in arguments_of(path)
        if number > 8
    ] == []


def test_the_package_is_one_file_per_concept():
    assert len(MODULES) <= 150
