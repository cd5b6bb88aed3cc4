"""Damage a file's content at random, as disks, networks and editors do."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

NUMBERS = (b'-1', b'0', b'1.9', b'1e999', b'NaN', b'9' * 25, b'\xc2\xb2')
ENCODINGS = ('utf-16', 'utf-32-be', 'utf-8-sig', 'utf-7', 'cp037')
DECLARED = (b'utf-99', b'utf-16', b'shift_jis', b'ascii', b'punycode')
BOMB = b"""<?xml version="1.0"?><!DOCTYPE sequence [<!ENTITY a "aaaaaaaaaa">
%s]><sequence name="&j;"/>""" % b''.join(
    b'<!ENTITY %c "%s">' % (this, b'&%c;' % before * 10)
    for before, this in zip(b'abcdefghi', b'bcdefghij', strict=True)
)
VALUES = (None, [], {}, '', 'x', -1, 1.9, 10**400, True, [[]] * 3, {'id': []})


def damage(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Damage a file's content, mostly once, thrice at most.

    Args:
        content: Of the file.
        suffix: Of its name: ``.json`` and ``.xml`` are damaged in ways of
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
    """Where a chunk begins and ends, a short one as a rule."""
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


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a tree: what holds it, and its key there."""
    keys: Any = ()
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = range(len(tree))
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
