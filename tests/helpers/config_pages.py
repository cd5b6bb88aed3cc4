"""What the READMEs of the configs say, to be checked against the configs."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import DictAction

CONFIGS = Path(__file__).parents[2] / 'configs'
#: Every folder that has configs to run, which is all but their fragments.
FOLDERS = sorted(
    {
        path.parent
        for path in CONFIGS.rglob('*.py')
        if '_base_' not in path.parts
    }
)
STATUS = ('*trained on toy*', '*untrained*')


class Row(NamedTuple):
    """A line of the table of a README."""

    name: str
    file: str
    gmac: str
    metric: str
    status: str


class Variant(NamedTuple):
    """What a README says that options make of a config."""

    config: Path
    options: dict[str, Any]


def cells(folder: Path, columns: int) -> list[list[str]]:
    """The lines of a README's tables that have so many columns."""
    text = (folder / 'README.md').read_text()
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|') and not line.startswith('|---')
    ]
    return [row for row in rows if len(row) == columns and row[0] != 'config']


def listed(folder: Path) -> list[Row]:
    """The configs that the README of a folder lists."""
    rows = []
    for link, _, gmac, metric, status in cells(folder, 5):
        name, file = re.fullmatch(r'\[(.+)\]\((.+)\)', link).groups()
        rows.append(Row(name, file, gmac, metric, status))
    return rows


def variants(folder: Path) -> list[Variant]:
    """The options that the README of a folder documents."""
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='+', action=DictAction)
    found = []
    for name, _, text in cells(folder, 3):
        options = parser.parse_args(shlex.split(text.strip('`'))).options
        found.append(Variant(folder / f'{name}.py', options))
    return found
