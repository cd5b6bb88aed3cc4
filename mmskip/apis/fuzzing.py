"""Read damaged files in a process of their own, and count how it ends."""

import faulthandler
import multiprocessing
import os
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmskip.apis.damage import damage
from mmskip.datasets.mat_files import MatReader
from mmskip.runtime import InputError

MIB = 2**20
# Address space that a case may take beyond what the process has.
MEMORY = 2048 * MIB
GOOD = ('read', 'refused')
BAD = ('unnamed', 'crash', 'hang')
# Examples of each bad end that are kept.
KEPT = 5


class Reader(NamedTuple):
    """A reader, and a file that it reads.

    Attributes:
        name: In the table.
        file: The file, below a folder.
        read: Takes that folder, the file, and a reader of MATLAB's files.
    """

    name: str
    file: str
    read: Callable[[Path, Path, MatReader], Any]


class Result(NamedTuple):
    """How the cases of a reader ended.

    Attributes:
        name: Of the reader.
        ends: Number of cases by how they ended.
        slowest: Seconds of the slowest case that ended.
        examples: Number of the case, its end and what was said, of some
            that ended badly.
    """

    name: str
    ends: Counter
    slowest: float
    examples: list[tuple[int, str, str]]


def run_case(
    reader: Reader, root: Path, content: bytes, mat: MatReader
) -> tuple[str, str]:
    """Read a damaged file: how it ended, and what was said."""
    path = root / reader.file
    path.write_bytes(content)
    try:
        reader.read(root, path, mat)
    except Exception as error:
        ours = isinstance(error, (InputError, OSError))
        if ours and str(path) in str(error):
            return 'refused', ''
        return 'unnamed', traceback.format_exc(-3)
    return 'read', ''


def work(
    reader: Reader,
    root: Path,
    cases: Sequence[tuple[int, bytes]],
    to: Connection,
) -> None:
    """Run cases in a process of their own, and tell how each ended."""
    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter('ignore')
    with MatReader() as mat:
        for _, content in cases:
            start = time.perf_counter()
            end, text = run_case(reader, root, content, mat)
            to.send((end, text, time.perf_counter() - start))


def fuzz(
    reader: Reader, root: Path, mutations: int, seed: int, limit: float
) -> Result:
    """Damage a file many times, and read it every time.

    Args:
        reader: What reads it.
        root: Folder of the file, which is as it was afterwards.
        mutations: How many times.
        seed: Seed of the damage.
        limit: Seconds after which a case hangs.
    """
    whole = (root / reader.file).read_bytes()
    suffix = Path(reader.file).suffix
    waiting = [
        (number, damage(whole, suffix, np.random.default_rng((seed, number))))
        for number in range(mutations)
    ]
    result = Result(reader.name, Counter(), 0.0, [])
    # The modules are loaded already; they take longer than all cases.
    context = multiprocessing.get_context('fork')
    while waiting:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(
            target=work, args=(reader, root, waiting, send), daemon=True
        )
        process.start()
        send.close()
        while waiting:
            number, _ = waiting.pop(0)
            end, text, seconds = _await(process, receive, limit)
            result.ends[end] += 1
            result = result._replace(slowest=max(result.slowest, seconds))
            if end in BAD and len(result.examples) < KEPT:
                result.examples.append((number, end, text))
            if end in ('crash', 'hang'):
                break
        process.kill()
        process.join()
        receive.close()
    (root / reader.file).write_bytes(whole)
    return result


def _await(
    process: Any, receive: Connection, limit: float
) -> tuple[str, str, float]:
    """How the next case ended, what was said, and its seconds."""
    try:
        if receive.poll(limit):
            return receive.recv()
        return 'hang', f'no end after {limit:g} s', limit
    except EOFError:
        process.join()
        return 'crash', f'exit code {process.exitcode}', 0.0
