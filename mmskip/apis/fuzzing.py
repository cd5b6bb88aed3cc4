"""Read damaged files in a process of their own, and count how it ends."""

import faulthandler
import json
import multiprocessing
import os
import re
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmskip.datasets.mat_files import MatReader
from mmskip.reading import InputError

NUMBERS = (b'-1', b'0', b'1.9', b'1e999', b'NaN', b'9' * 25, b'\xc2\xb2')
ENCODINGS = ('utf-16', 'utf-32-be', 'utf-8-sig', 'utf-7', 'cp037')
DECLARED = (b'utf-99', b'utf-16', b'shift_jis', b'ascii', b'punycode')
BOMB = b"""<?xml version="1.0"?><!DOCTYPE sequence [<!ENTITY a "aaaaaaaaaa">
%s]><sequence name="&j;"/>""" % b''.join(
    b'<!ENTITY %c "%s">' % (this, b'&%c;' % before * 10)
    for before, this in zip(b'abcdefghi', b'bcdefghij', strict=True)
)
VALUES = (None, [], {}, '', 'x', -1, 1.9, 10**400, True, [[]] * 3, {'id': []})
MIB = 2**20
# Address space that a case may take beyond what the process has.
MEMORY = 2048 * MIB
GOOD = ('read', 'refused')
BAD = ('unnamed', 'crash', 'hang')
# Examples of each bad end that are kept.
KEPT = 5


def damage(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Damage a file's content, mostly once, thrice at most.

    Args:
        content: Content of the file.
        suffix: End of its name: ``.json`` and ``.xml`` are damaged in ways of
            their own, too.
        rng: Source of random numbers.
    """
    for _ in range(min(rng.geometric(0.7), 3)):
        ways = [flip, cut, insert, lose, double, renumber, overwrite]
        if suffix not in ('.mat', '.pkl', '.jpg'):
            ways += [reencode, renumber]
        if suffix == '.json':
            ways += [revalue] * 5
        if suffix == '.xml':
            ways += [declare, declare]
        content = ways[rng.integers(len(ways))](content, rng)
    return content


def span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Choose where a chunk begins and ends, a short one as a rule."""
    start = int(rng.integers(len(content) + 1))
    return start, start + int(rng.exponential(20)) + 1


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip up to four bits."""
    changed = bytearray(content)
    for place in rng.integers(len(content), size=4) if content else ():
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Lose the end."""
    return content[: rng.integers(len(content) + 1)]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    """Insert arbitrary bytes."""
    start, stop = span(content, rng)
    return content[:start] + rng.bytes(stop - start) + content[start:]


def lose(content: bytes, rng: np.random.Generator) -> bytes:
    """Lose a chunk."""
    start, stop = span(content, rng)
    return content[:start] + content[stop:]


def double(content: bytes, rng: np.random.Generator) -> bytes:
    """Repeat a chunk, or some lines."""
    start, stop = span(content, rng)
    if rng.random() < 0.5:
        start = content.rfind(b'\n', 0, start) + 1
        stop = content.find(b'\n', stop) + 1 or len(content)
    return content[:stop] + content[start:]


def overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a chunk with one byte."""
    start, stop = span(content, rng)
    byte = (b'\0', b'\xff', b'"', b' ', b'\n', b',')[rng.integers(6)]
    return content[:start] + byte * (stop - start) + content[stop:]


def renumber(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace a number by one that hardly ever can be."""
    found = list(re.finditer(rb'\d+(\.\d+)?', content))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    number = NUMBERS[rng.integers(len(NUMBERS))]
    return content[: match.start()] + number + content[match.end() :]


def reencode(content: bytes, rng: np.random.Generator) -> bytes:
    """Write the text in another encoding."""
    text = content.decode('latin-1')
    encoding = ENCODINGS[rng.integers(len(ENCODINGS))]
    return text.encode(encoding, errors='replace')


def declare(content: bytes, rng: np.random.Generator) -> bytes:
    """Declare another encoding, or entities that grow without end."""
    if rng.random() < 0.2:
        return BOMB
    name = DECLARED[rng.integers(len(DECLARED))]
    return content.replace(b'utf-8', name, 1)


def revalue(content: bytes, rng: np.random.Generator) -> bytes:
    """Put another value, or many lists, in a place of a JSON file."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return content
    places = list(_places(tree))
    if not places:
        return content
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(len(VALUES) + 3)
    if kind < len(VALUES):
        holder[key] = VALUES[kind]
    elif kind == len(VALUES):
        holder[key] = float('nan')
    elif kind == len(VALUES) + 1:
        del holder[key]
    else:
        holder[key] = 'DEEP'
    deep = '[' * 50_000 + ']' * 50_000
    return json.dumps(tree).replace('"DEEP"', deep).encode()


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
    """The ends of a reader's cases, counted.

    Attributes:
        name: Name of the reader.
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


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a tree: what holds it, and its key there."""
    keys: Any = ()
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = range(len(tree))
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _await(
    process: Any, receive: Connection, limit: float
) -> tuple[str, str, float]:
    """Wait for the next case: how it ended, what was said, its seconds."""
    try:
        if receive.poll(limit):
            return receive.recv()
        return 'hang', f'no end after {limit:g} s', limit
    except EOFError:
        process.join()
        return 'crash', f'exit code {process.exitcode}', 0.0
