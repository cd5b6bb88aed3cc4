"""Builds mmcv's operators for CPUs in a few large translation units.

Each of mmcv's 77 C++ files spends most of its compile time on the headers of
torch. Joined in a few files that include the original ones, they compile in a
fifth of the time. The sources themselves, and all else of mmcv's build, stay
as they are. A build for CUDA gains nothing from this and takes mmcv's own way.

    pip install --no-deps "$(python tools/build_mmcv.py 2.1.0)"
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

#: Where mmcv's setup.py looks for sources. They find their headers by include
#: directories, wherever they lie.
SOURCES = Path('mmcv', 'ops', 'csrc', 'pytorch')
#: A definition at the beginning of a line: of a function (up to its
#: parenthesis), a macro, a type or a constant.
DEFINITION = re.compile(
    r'^(?:#define\s+(?P<macro>\w+)'
    r'|(?:struct|class|enum)\s+(?P<type>\w+)'
    r'|(?:(?:static|const|constexpr|inline)\s+)+[\w:<>]+\s+(?P<constant>\w+)'
    r'\s*(?:=|\{|\[)'
    r'|[A-Za-z_][\w:<>,&*\s]*?[\s&*](?P<function>\w+)\s*\()',
    re.MULTILINE,
)


def defined_names(text: str) -> set[str]:
    """Names of the functions, macros, types and constants of a C++ file.

    What is only declared counts as well: that costs a unit more, and is
    never wrong.
    """
    return {
        name
        for match in DEFINITION.finditer(text)
        for name in match.groups()
        if name is not None
    }


def redefines_keywords(text: str) -> bool:
    """Whether a file defines macros in small letters, such as min and max.

    Those would change the files that follow in the same unit.
    """
    return bool(re.search(r'^#define\s+[a-z]\w*', text, re.MULTILINE))


def plan_units(files: dict[str, str], number: int) -> list[list[str]]:
    """Spreads files over units in which no name is defined twice.

    Args:
        files: Each file's text by its path.
        number: How many units to aim at. There are more if names clash in
            all of them, or if a file has to be alone.

    Returns:
        The paths of each unit, as even in size as the clashes allow.
    """
    alone = [path for path in files if redefines_keywords(files[path])]
    rest = sorted(
        (path for path in files if path not in alone),
        key=lambda path: (-len(files[path]), path),
    )
    units: list[list[str]] = [[] for _ in range(number)]
    names: list[set[str]] = [set() for _ in range(number)]
    sizes = [0] * number
    for path in rest:
        own = defined_names(files[path])
        free = [i for i in range(len(units)) if not names[i] & own]
        if not free:
            units.append([])
            names.append(set())
            sizes.append(0)
            free = [len(units) - 1]
        chosen = min(free, key=lambda i: sizes[i])
        units[chosen].append(path)
        names[chosen] |= own
        sizes[chosen] += len(files[path])
    return [unit for unit in units if unit] + [[path] for path in alone]


def join_sources(root: Path, number: int) -> int:
    """Puts the sources of an unpacked mmcv into units; says how many.

    The originals move to a folder that mmcv's setup.py does not compile.
    """
    folder = root / SOURCES
    originals = folder / 'originals'
    originals.mkdir()
    files = {}
    for path in sorted([*folder.glob('*.cpp'), *folder.glob('cpu/*.cpp')]):
        target = originals / path.relative_to(folder).as_posix().replace(
            '/', '_'
        )
        path.rename(target)
        files[target.name] = target.read_text(encoding='utf-8')
    if not files:
        raise FileNotFoundError(
            f'expected *.cpp files in {folder}, found none; is this a source '
            'distribution of mmcv?'
        )
    units = plan_units(files, number)
    for index, unit in enumerate(units):
        lines = [f'#include "originals/{name}"\n' for name in unit]
        (folder / f'unit_{index}.cpp').write_text(''.join(lines))
    return len(units)


def wheel_folder(cflags: str) -> Path:
    """Where a wheel of these sources, flags and packages is kept.

    Beside pip's own cache; another torch, Python or compiler has a folder of
    its own.
    """
    import torch

    compiler = os.environ.get('CXX', 'c++').split()[0]
    depends = (
        Path(__file__).read_text(encoding='utf-8'),
        torch.__version__,
        sys.version,
        platform.machine(),
        run(compiler, '-dumpfullversion'),
        cflags,
    )
    key = hashlib.sha256('\n'.join(depends).encode()).hexdigest()[:16]
    asked = subprocess.run(
        (sys.executable, '-m', 'pip', 'cache', 'dir'),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    # With PIP_NO_CACHE_DIR, as in a container, pip has none.
    cache = asked.stdout.strip() or tempfile.gettempdir()
    return Path(cache, 'mmskip-wheels', key)


def run(*command: str) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def download(version: str, folder: Path) -> Path:
    """Fetch the source distribution of mmcv and unpack it."""
    pip = sys.executable, '-m', 'pip'
    run(
        *(*pip, 'download', '-q', '--no-deps', '--no-build-isolation'),
        *('--no-binary', 'mmcv', '-d', str(folder), f'mmcv=={version}'),
    )
    (sdist,) = folder.glob('mmcv-*.tar.gz')
    with tarfile.open(sdist) as archive:
        # Python 3.11 has the filter since 3.11.4, and Debian 12 has 3.11.2.
        careful = hasattr(tarfile, 'data_filter')
        archive.extractall(folder, **({'filter': 'data'} if careful else {}))
    return folder / sdist.name.removesuffix('.tar.gz')


def build(version: str, units: int, cflags: str, folder: Path) -> None:
    """Build a wheel of mmcv into a folder that appears when it is whole."""
    with tempfile.TemporaryDirectory() as scratch:
        root = download(version, Path(scratch))
        number = join_sources(root, units)
        print(f'compiling {number} units with {cflags}', file=sys.stderr)
        os.environ.update(MMCV_WITH_OPS='1', CFLAGS=cflags, CXXFLAGS=cflags)
        os.environ.setdefault('MAX_JOBS', str(os.cpu_count() or 1))
        wheels = Path(scratch, 'wheels')
        log = run(
            *(sys.executable, '-m', 'pip', 'wheel', '-v', '--no-deps'),
            *('--no-build-isolation', '-w', str(wheels), str(root)),
        )
        sys.stderr.write(log)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(wheels, folder)


def main() -> None:
    """Print the path of a wheel, which is built if it is not there."""
    parser = argparse.ArgumentParser(
        description='Build a wheel of mmcv for CPUs, and print its path.'
    )
    parser.add_argument('version', help='version of mmcv')
    parser.add_argument(
        '--units', type=int, default=6, help='translation units to aim at'
    )
    parser.add_argument(
        '--cflags', default='-g0 -O1', help='flags of the compiler'
    )
    args = parser.parse_args()
    folder = wheel_folder(args.cflags)
    if not list(folder.glob('*.whl')):
        build(args.version, args.units, args.cflags, folder)
    (wheel,) = folder.glob('*.whl')
    print(wheel)


if __name__ == '__main__':
    main()
