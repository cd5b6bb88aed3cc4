"""``python -m mmskip.doctor``: what is installed, what works, what to mend.

Every package is tried in a process of its own, so that none hides another.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from .ops import active_backend

RUN_NMS = (
    'boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.]]); '
    'nms(boxes, torch.tensor([.5, .9]), 0.5)'
)
#: What is tried of those that ``import mmskip`` does not import by itself.
TRIALS = {
    'torchvision': f'import torch; from torchvision.ops import nms; {RUN_NMS}',
    'cv2': 'import cv2',
    'mmcv': f'import torch; from mmcv.ops import nms; {RUN_NMS}',
    'mmdet': 'import mmdet.apis, mmdet.evaluation',
    'mmpose': 'import mmpose.apis, mmpose.evaluation',
    'mmaction': 'import mmaction.apis, mmaction.evaluation',
}
HOSTS = ('mmdet', 'mmpose', 'mmaction')
BASE = ('torch', 'torchvision', 'numpy', 'cv2', 'mmengine', 'mmcv')
MODULES = BASE + HOSTS
#: What to ask pip for, where that is not the name of the module.
DISTRIBUTIONS = {'cv2': 'opencv-python', 'mmaction': 'mmaction2'}
MMCV_BUILD = (
    'pip install --force-reinstall --no-cache-dir --no-deps '
    '--no-build-isolation --no-binary mmcv mmcv==2.1.0'
)
#: What an error says, and what mends it.
FIXES = (
    (r"'mmcv'|'mmcv\._ext'|mmcv/_ext|MMCV==\S+ is used but", MMCV_BUILD),
    (r'numpy\.dtype size changed|_ARRAY_API', "pip install 'numpy<2'"),
    (r'libGL\.so|libgthread', 'apt-get install libgl1 libglib2.0-0'),
    (r"No module named 'pkg_resources'", "pip install 'setuptools<81'"),
    (r"No module named 'cv2'", 'pip install opencv-python'),
    (r"No module named '(\w+)", r'pip install \1'),
)


@dataclasses.dataclass(frozen=True)
class Component:
    """One module of the stack.

    Attributes:
        module: The name it is imported by.
        distributions: Name and version of each installed distribution that
            provides it.
        error: Why it does not work; empty if it does or is not installed.
    """

    module: str
    distributions: tuple[tuple[str, str], ...]
    error: str = ''

    @property
    def version(self) -> str:
        """Its version, or all of them where several are installed."""
        return ', '.join(version for _, version in self.distributions)

    @property
    def usable(self) -> bool:
        """Whether it is installed and works."""
        return bool(self.distributions) and not self.error


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something to mend, and whether things that are installed need it."""

    what: str
    fix: str
    fatal: bool


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found."""

    python: str
    mmskip: str
    backend: str
    components: tuple[Component, ...]
    problems: tuple[Problem, ...]

    @property
    def healthy(self) -> bool:
        """Whether all that is installed is usable."""
        return not any(problem.fatal for problem in self.problems)

    def as_dict(self) -> dict:
        """What ``--json`` prints."""
        usable = {c.module: c.usable for c in self.components}
        return {
            **dataclasses.asdict(self),
            'hosts': {host: usable[host] for host in HOSTS},
            'healthy': self.healthy,
        }


def try_module(module: str) -> str:
    """Run the trial of a module in a fresh interpreter.

    Returns:
        Nothing if it went well, else the line that says what went wrong.
    """
    trial = TRIALS[module]
    code = trial if module == 'cv2' else f'import mmskip; {trial}'
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ''
    if done.returncode < 0:
        return f'the interpreter died of signal {-done.returncode}'
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'[\w.]+Error\b', line)]
    return (errors or lines or [f'exit status {done.returncode}'])[-1]


def find_distributions() -> dict[str, tuple[tuple[str, str], ...]]:
    """Name and version of the distributions that provide each module."""
    providers = importlib.metadata.packages_distributions()
    return {
        module: tuple(
            (name, importlib.metadata.version(name))
            for name in sorted(set(providers.get(module, ())))
        )
        for module in MODULES
    }


def examine(
    distributions: Mapping[str, tuple[tuple[str, str], ...]],
    trial: Callable[[str], str] = try_module,
) -> tuple[Component, ...]:
    """Try every module that is installed, several at a time.

    Args:
        distributions: What provides each module.
        trial: Given a module, returns its error or nothing.
    """
    installed = [module for module in TRIALS if distributions[module]]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        errors = dict(zip(installed, pool.map(trial, installed), strict=True))
    return tuple(
        Component(module, distributions[module], errors.get(module, ''))
        for module in MODULES
    )


def clash_of(component: Component) -> Problem:
    """Several distributions that install one module: the last one wins."""
    owners = dict(component.distributions)
    wanted = DISTRIBUTIONS.get(component.module, component.module)
    kept = wanted if wanted in owners else min(owners)
    return Problem(
        f'{" and ".join(owners)} overwrite each other in {component.module}/',
        f'pip uninstall -y {" ".join(owners)} && '
        f'pip install --no-deps {kept}=={owners[kept]}',
        fatal=False,
    )


def torchvision_mismatch(torch_version: str) -> Problem:
    """An install of torchvision that was compiled for another torch.

    The hosts only need its Python part, which mmskip keeps importable.
    """
    release, _, build = torch_version.partition('+')
    minor = int(release.split('.')[1])  # torch 2.x goes with 0.(x + 15)
    index = f'--index-url https://download.pytorch.org/whl/{build} '
    return Problem(
        f'the operators of torchvision do not run with torch {torch_version}',
        'pip install --force-reinstall --no-deps '
        f'{index if build else ""}torchvision==0.{minor + 15}.0',
        fatal=False,
    )


def failure_of(component: Component) -> Problem:
    """A component that does not work."""
    module, error = component.module, component.error
    fix = f'see all of it: python -c "import mmskip; {TRIALS[module]}"'
    fixes = [
        found.expand(command)
        for pattern, command in FIXES
        if (found := re.search(pattern, error))
    ]
    if module == 'mmcv':
        fixes.append(MMCV_BUILD)
    return Problem(
        f'{module} does not work: {error}', [*fixes, fix][0], fatal=True
    )


def diagnose(components: Sequence[Component]) -> list[Problem]:
    """The problems of the components, each with its fix."""
    torch = next(c.version for c in components if c.module == 'torch')
    problems = []
    for component in components:
        if len(component.distributions) > 1:
            problems.append(clash_of(component))
        if component.error and component.module == 'torchvision':
            problems.append(torchvision_mismatch(torch))
        elif component.error:
            problems.append(failure_of(component))
    return problems


def diagnose_install(package: Path) -> list[Problem]:
    """The problems of setuptools and of mmskip's own installation.

    Args:
        package: The folder of the package mmskip.
    """
    problems = []
    if importlib.util.find_spec('pkg_resources') is None:
        what = 'setuptools has no pkg_resources: mim and builds of mmcv fail'
        fix = "pip install 'setuptools<81'"
        problems.append(Problem(what, fix, fatal=False))
    if not (package / '.mim' / 'model-index.yml').exists():
        what = "mmskip is not installed: 'mmskip::...' finds no configs"
        fix = f'pip install --no-deps --no-build-isolation -e {package.parent}'
        problems.append(Problem(what, fix, fatal=False))
    return problems


def make_report() -> Report:
    """Examine the environment this interpreter runs in."""
    components = examine(find_distributions())
    own = diagnose_install(Path(__file__).resolve().parent)
    return Report(
        python=platform.python_version(),
        mmskip=__version__,
        backend=active_backend(),
        components=components,
        problems=(*diagnose(components), *own),
    )


def print_report(report: Report, console: Console) -> None:
    """Print a table of the components, then each problem and its fix."""
    table = Table('package', 'version', 'state')
    table.add_row('python', report.python, '')
    table.add_row('mmskip', report.mmskip, f'ops backend: {report.backend}')
    for component in report.components:
        name = DISTRIBUTIONS.get(component.module, component.module)
        state = '[green]works' if component.usable else '[red]see below'
        if not component.distributions:
            state = 'not installed'
        table.add_row(name, component.version, state)
    console.print(table)
    for problem in report.problems:
        mark = '[red]problem' if problem.fatal else '[yellow]note'
        console.print(f'{mark}:[/] {escape(problem.what)}', soft_wrap=True)
        console.print(f'  fix: {escape(problem.fix)}', soft_wrap=True)
    if report.healthy:
        usable = [c.module for c in report.components if c.usable]
        hosts = ', '.join(host for host in HOSTS if host in usable)
        console.print(f'Usable: {hosts or "none of the hosts is installed"}.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 if something that is installed cannot be used."""
    parser = argparse.ArgumentParser('python -m mmskip.doctor')
    parser.add_argument('--json', action='store_true', help='print JSON')
    arguments = parser.parse_args(argv)
    report = make_report()
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_dict(), indent=2) + '\n')
    else:
        print_report(report, Console())
    return 0 if report.healthy else 1


if __name__ == '__main__':
    sys.exit(main())
