"""``mmskip doctor``: what is installed, what works, what to mend.

mmengine describes the environment. Each package is tried here, in a process
of its own, so that none hides another.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from mmengine.utils.dl_utils import collect_env

from mmskip import __version__
from mmskip.native import active_backend
from mmskip.native import library as native

RUN_NMS = 'import torch; nms(torch.eye(4), torch.ones(4), 0.5)'
#: By distribution, the code that fails where it does not work.
TRIALS = {
    'opencv-python': 'import cv2',
    'torchvision': f'from torchvision.ops import nms; {RUN_NMS}',
    'mmcv': f'from mmcv.ops import nms; {RUN_NMS}',
    'mmdet': 'import mmdet.apis, mmdet.evaluation',
    'mmpose': 'import mmpose.apis, mmpose.evaluation',
    'mmaction2': 'import mmaction.apis, mmaction.evaluation',
}
HOSTS = {'mmdet': 'mmdet', 'mmpose': 'mmpose', 'mmaction': 'mmaction2'}
RELEASE, _, BUILD = torch.__version__.partition('+')
#: The release that belongs to torch 2.x is 0.(x + 15).
TORCHVISION = (
    'pip install --force-reinstall --no-deps '
    f'torchvision==0.{int(RELEASE.split(".")[1]) + 15}.0'
    + (f' --index-url https://download.pytorch.org/whl/{BUILD}' * bool(BUILD))
)
MMCV_BUILD = (
    'pip install --force-reinstall --no-cache-dir --no-deps '
    '--no-build-isolation --no-binary mmcv mmcv==2.1.0'
)
SETUPTOOLS = "pip install 'setuptools<81'"
#: What an error says, and what mends it.
FIXES = (
    (r"'mmcv'|'mmcv\._ext'|mmcv/_ext|MMCV==\S+ is used but", MMCV_BUILD),
    (r'numpy\.dtype size changed|_ARRAY_API', "pip install 'numpy<2'"),
    (r'libGL\.so|libgthread', 'apt-get install libgl1 libglib2.0-0'),
    (r"No module named 'pkg_resources'", SETUPTOOLS),
    (r"No module named 'cv2'", 'pip install opencv-python'),
    (r"No module named '(\w+)", r'pip install \1'),
    ('^torchvision: ', TORCHVISION),
    ('^mmcv: ', MMCV_BUILD),
)


def try_package(package: str) -> str:
    """Run the trial of a package in a process of its own.

    The processes are copies of one that has imported mmskip already.

    Returns the line that says what went wrong; nothing if it went well.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmskip'])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_try, args=(TRIALS[package], sender))
    process.start()
    sender.close()
    with receiver:
        try:
            error = receiver.recv()
        except EOFError:  # it ended without a word
            error = ''
    process.join()
    if process.exitcode < 0:
        return f'the interpreter died of signal {-process.exitcode}'
    return error or ('' if process.exitcode == 0 else 'it ended the process')


def _try(code: str, sender: Connection) -> None:
    """Run code, and send the first line of its error if it has one."""
    warnings.simplefilter('ignore')
    try:
        exec(code, {})
    except Exception as error:
        text = f'{type(error).__name__}: {error}'.strip()
        sender.send(text.splitlines()[0])


def diagnose(package: str, error: str) -> dict:
    """Say how to mend a package that does not work.

    Returns ``what`` is wrong, its ``fix``, and whether it is ``fatal``.
    """
    what = f'{package}: {error}'
    fixes = [
        found.expand(command)
        for pattern, command in FIXES
        if (found := re.search(pattern, what))
    ]
    fixes.append(f'python -c "import mmskip; {TRIALS[package]}" says more')
    # Hosts need the Python part of torchvision only, which mmskip mends.
    return dict(what=what, fix=fixes[0], fatal=package != 'torchvision')


def installation_notes(package: Path, found: Iterable[str]) -> list[dict]:
    """Check the C++ operators, setuptools, OpenCV and mmskip's configs.

    Args:
        package: The folder of the package mmskip.
        found: Names of what is installed.
    """
    owners = sorted(name for name in found if name.startswith('opencv-'))
    checks = {
        native.MISSING: (native.MISSING, 'or go on, but no time is saved'),
        'setuptools has no pkg_resources: mim and builds of mmcv fail': (
            importlib.util.find_spec('pkg_resources') is None,
            SETUPTOOLS,
        ),
        f'{" and ".join(owners)} overwrite each other in cv2/': (
            len(owners) > 1,
            'uninstall all of them, then pip install opencv-python',
        ),
        "mmskip is not installed: 'mmskip::...' finds no configs": (
            not (package / '.mim' / 'model-index.yml').exists(),
            f'pip install --no-deps --no-build-isolation -e {package.parent}',
        ),
    }
    notes = [(what, fix) for what, (wrong, fix) in checks.items() if wrong]
    return [dict(what=what, fix=fix, fatal=False) for what, fix in notes]


def examine() -> dict:
    """Examine the environment this interpreter runs in.

    Returns:
        ``environment``, ``backend``, ``instructions``, ``hosts`` by name
        with whether each is usable, ``problems``, and ``healthy``.
    """
    found = {d.name: d.version for d in importlib.metadata.distributions()}
    installed = [package for package in TRIALS if package in found]
    with ThreadPoolExecutor() as pool:
        tried = pool.map(try_package, installed)
        errors = dict(zip(installed, tried, strict=True))
    problems = [diagnose(*pair) for pair in errors.items() if pair[1]]
    problems += installation_notes(Path(__file__).resolve().parent, found)
    environment = collect_env() | {p: found[p] for p in installed}
    del environment['PyTorch compiling details']  # a page of flags
    return dict(
        environment=environment | {'mmskip': __version__},
        backend=active_backend(),
        instructions=_instructions(),
        hosts={name: errors.get(d) == '' for name, d in HOSTS.items()},
        problems=problems,
        healthy=not any(problem['fatal'] for problem in problems),
    )


def _instructions() -> str:
    if native.MISSING:
        return torch.backends.cpu.get_cpu_capability()
    names = 'float32: {}, bfloat16: {}, int8: {}'
    return names.format(*native.instruction_sets())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 if something that is installed cannot be used."""
    parser = argparse.ArgumentParser('mmskip doctor', description=__doc__)
    parser.add_argument('--json', action='store_true', help='print JSON')
    as_json = parser.parse_args(argv).json
    report = examine()
    if as_json:
        print(json.dumps(report, indent=2, default=str))
        return 1 - report['healthy']
    for name, value in report['environment'].items():
        print(f'{name}: {value}')
    print('backend of mmskip: {backend} ({instructions})'.format(**report))
    for problem in report['problems']:
        print('problem:' if problem['fatal'] else 'note:', problem['what'])
        print('  fix:', problem['fix'])
    usable = [host for host, works in report['hosts'].items() if works]
    print(f'Usable: {", ".join(usable) or "none of the hosts"}.')
    return 1 - report['healthy']


if __name__ == '__main__':
    sys.exit(main())
