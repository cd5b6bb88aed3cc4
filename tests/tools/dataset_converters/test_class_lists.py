"""The commands that list HMDB51 and JHMDB's actions, and write its poses."""

import json

import pytest

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK
from tests.datasets.pose_release import write_release


@pytest.fixture
def root(tmp_path):
    return write_release(tmp_path / 'jhmdb')


def test_hmdb51(load_tool, tmp_path, capsys):
    splits, media = tmp_path / 's', tmp_path / 'v/wave'
    splits.mkdir()
    media.mkdir(parents=True)
    for name in ('a', 'c'):
        (media / f'{name}.avi').touch()
    for split in (1, 2, 3):
        more = 'b.avi 2\n' if split == 3 else ''
        path = splits / f'wave_test_split{split}.txt'
        path.write_text(f'a.avi 1\nc.avi 2\n{more}')
    tool = load_tool('dataset_converters/hmdb51')
    out = tmp_path / 'out'
    arguments = ['--splits', splits, '--media', media.parent]
    arguments += ['--out-dir', out]
    code = tool.main([*map(str, arguments)])
    assert code == EXIT_INCOMPLETE
    assert len(list(out.glob('*_split_*_list_videos.txt'))) == 6
    told = capsys.readouterr().out
    assert '1 annotated videos are not on disk: wave/b' in told
    assert 'expected 3,570 videos as published' in told


def test_jhmdb_lists_frames(load_tool, root, tmp_path):
    tool = load_tool('dataset_converters/jhmdb_lists')
    arguments = ['--splits', root / 'sub_splits', '--rawframes']
    arguments += ['--media', root / 'Rename_Images']
    arguments += ['--out-dir', tmp_path / 'out']
    assert tool.main([*map(str, arguments)]) == EXIT_OK
    path = tmp_path / 'out/test_split_2_list_rawframes.txt'
    assert path.read_text() == 'golf/v2 4 0\nwalk/v2 5 1\n'


def test_jhmdb_poses(load_tool, root, capsys):
    tool = load_tool('dataset_converters/jhmdb_poses')
    assert tool.main([str(root)]) == EXIT_OK
    content = json.loads((root / 'annotations/Sub3_test.json').read_text())
    assert len(content['images']) == len(content['annotations']) == 9
    assert len(list((root / 'annotations').iterdir())) == 6
    assert 'Sub1_train.json: 2 videos, 7 frames' in capsys.readouterr().out


def test_what_is_wrong_with_a_release_is_told(load_tool, root):
    (path,) = (root / 'puppet_mask/golf/v2').iterdir()
    path.unlink()
    tool = load_tool('dataset_converters/jhmdb_poses')
    with pytest.raises(UserError, match=str(path)):
        tool.main([str(root)])
