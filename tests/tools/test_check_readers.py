"""Damaged files of every reader: read, or refused with the file's name."""

import json

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmpose')
pytest.importorskip('mmaction')

from mmskip.apis import UserError
from mmskip.apis.fuzzing import fuzz
from mmskip.datasets.mat_files import MatReader

NAMES = (
    'UA-DETRAC annotation',
    'UA-DETRAC image',
    'J-HMDB boxes',
    'J-HMDB proposals',
    'J-HMDB split',
    'sub-JHMDB split',
    'J-HMDB mask',
    'J-HMDB mask, compressed',
    'J-HMDB joints',
    'J-HMDB poses',
    'HMDB51 split',
    'ActivityNet annotation',
    'Kinetics annotation',
    'Mini-Kinetics list',
    'Moments annotation',
    'Moments classes',
    "THUMOS'14 annotation",
    "THUMOS'14 classes",
    'list of videos',
    'list of frames',
    'list of labels',
    'groups of videos',
    'results of videos',
)


@pytest.fixture(scope='module')
def tool(load_tool):
    return load_tool('check_readers')


@pytest.fixture(scope='module')
def root(tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp('fuzz')
    tool.write_files(folder)
    return folder


def test_every_reader_is_damaged(tool):
    assert tuple(reader.name for reader in tool.READERS) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_damage_neither_crashes_nor_hangs_nor_goes_unnamed(tool, root, name):
    (reader,) = (r for r in tool.READERS if r.name == name)
    with MatReader() as mat:
        reader.read(root, root / reader.file, mat)  # is valid undamaged
    result = fuzz(reader, root, mutations=80, seed=1, limit=90)
    assert result.examples == []
    assert result.ends['read'] + result.ends['refused'] == 80
    assert result.ends['refused'] > 8


def test_the_command_writes_a_table_and_a_file(tool, tmp_path, capsys):
    out = tmp_path / 'out.json'
    options = ['--mutations', '12', '--readers', 'Moments', '--out', str(out)]
    assert tool.main(options) == 0
    assert 'Moments classes' in capsys.readouterr().out
    *rows, total = json.loads(out.read_text())['results']
    assert [sum(row['ends'].values()) for row in rows] == [6, 6]
    assert sum(total['ends'].values()) == 12
    with pytest.raises(UserError, match='expected --readers among'):
        tool.main(['--readers', 'none'])
