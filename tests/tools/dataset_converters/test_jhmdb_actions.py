"""The boxes of J-HMDB from the command line."""

import shutil

import pytest

from mmskip.apis import UserError
from mmskip.datasets.jhmdb_release import read_ground_truth
from mmskip.toy import make_toy_jhmdb

SMALL = dict(train_videos=1, test_videos=1, frames=(2, 3), size=(64, 64))


def test_it_makes_the_file_that_copies_of_the_release_have(
    load_tool, tmp_path, capsys
):
    root = make_toy_jhmdb(tmp_path / 'toy', **SMALL)
    expected = (root / 'JHMDB-GT.pkl').read_bytes()
    tool = load_tool('dataset_converters/jhmdb_actions')
    with pytest.raises(UserError, match='there already'):
        tool.main([str(root)])
    (root / 'JHMDB-GT.pkl').unlink()
    assert tool.main([str(root)]) == 0
    assert (root / 'JHMDB-GT.pkl').read_bytes() == expected
    out = tmp_path / 'gt.pkl'
    assert tool.main([str(root), '--out', str(out)]) == 0
    frames = sum(read_ground_truth(out)['nframes'].values())
    told = f'{out}: 8 actions, 16 videos, {frames} frames'
    assert told in capsys.readouterr().out


def test_what_is_missing_is_told_without_a_traceback(load_tool, tmp_path):
    tool = load_tool('dataset_converters/jhmdb_actions')
    with pytest.raises(UserError, match='puppet_mask'):
        tool.main([str(tmp_path)])
    root = make_toy_jhmdb(tmp_path / 'toy', **SMALL)
    (root / 'JHMDB-GT.pkl').unlink()
    shutil.rmtree(root / 'splits')
    with pytest.raises(UserError, match='expected this split'):
        tool.main([str(root)])
    assert not (root / 'JHMDB-GT.pkl').exists()
