"""Tools as processes, and options as their command lines take them."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from mmskip.apis.errors import UserError

# What mmengine's lines of progress say about the time that is left.
ETA = re.compile(r'\beta: ((?:\d+ days?, )?[\d:]+)')
# What the tools import mmskip from: the same as this process.
SOURCES = Path(__file__).resolve().parents[3]


def run_tool_process(
    command: Sequence[Any],
    options: Mapping[str, Any],
    path: Path,
    threads: int | None,
    tell: Callable[[str], Any],
) -> None:
    """Run a tool to its end.

    Args:
        command: The script and its arguments.
        options: Dotted keys of its config to values.
        path: The log, of the command line and all that the tool prints.
        threads: CPU threads; ``None`` leaves it to torch.
        tell: Takes the time left, as often as the tool tells it.

    Raises:
        UserError: The tool fails.
    """
    program = [sys.executable, *map(str, command)]
    if options:
        program += ['--cfg-options', *map(as_option, options.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    last = ''
    with (
        path.open('w', encoding='utf-8') as log,
        subprocess.Popen(
            program,
            env=_environment(threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
        ) as child,
    ):
        log.write(shlex.join(program) + '\n')
        for line in child.stdout:
            log.write(line)
            last = line.strip() or last
            eta = ETA.search(line)
            if eta:
                tell(eta[1])
    if child.returncode:
        raise UserError(f'{last or "no output"} (see {path})')


def as_option(item: tuple[str, Any]) -> str:
    """A dotted key and its value as ``--cfg-options`` takes them.

    Raises:
        UserError: The tool would read another value (spaces and commas in a
            path, a dict).
    """
    key, value = item
    text = f'{key}={_as_text(value)}'
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='+', action=DictAction)
    read = parser.parse_args([text]).options[key]
    if read != value:
        raise UserError(
            f'{key}={value!r} cannot be told on a command line: it would be '
            f'read as {read!r}'
        )
    return text


def _as_text(value: Any) -> str:
    ends = {list: '[]', tuple: '()'}.get(type(value))
    if ends is None:
        return str(value)
    return f'{ends[0]}{",".join(map(_as_text, value))}{ends[1]}'


def _environment(threads: int | None) -> dict[str, str]:
    """That of this process, with the same mmskip and the threads."""
    paths = [str(SOURCES), os.environ.get('PYTHONPATH')]
    found = dict(os.environ)
    found['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    found['PYTHONUNBUFFERED'] = '1'
    if threads is not None:
        found['OMP_NUM_THREADS'] = str(threads)
    return found
