"""J-HMDB's masks, splits and the pickle of boxes."""

import pickle

import numpy as np
import pytest
from scipy.io import savemat

from mmskip.datasets.jhmdb_release import (
    read_ground_truth,
    read_masks,
    tubes_of,
    write_ground_truth,
)
from tests.helpers.pickle_attacks import ARRAYS, CODE


@pytest.fixture
def release(tmp_path):
    """Two actions, two videos each: video 1 trains in splits 1 and 2."""
    (tmp_path / 'splits').mkdir()
    for action, width in (('jump', 8), ('wave', 6)):
        for number in (1, 2):
            folder = tmp_path / 'puppet_mask' / action / f'v{number}'
            folder.mkdir(parents=True)
            mask = np.zeros((5, width, 3), np.uint8)
            mask[1:4, 2:5, :] = number
            savemat(folder / 'puppet_mask.mat', dict(part_mask=mask))
        for split in (1, 2, 3):
            marks = (2, 1) if split == 3 else (1, 2)
            lines = [f'v{n + 1}.avi {m}\n' for n, m in enumerate(marks)]
            path = tmp_path / f'splits/{action}_test_split{split}.txt'
            path.write_text(''.join(lines))
    return tmp_path


def test_boxes_enclose_the_pixels_of_the_mask(release):
    truth = read_masks(release)
    assert truth['labels'] == ['jump', 'wave']
    assert truth['resolution']['wave/v2'] == (5, 6)
    assert truth['nframes']['wave/v2'] == 3
    (tube,) = truth['gttubes']['wave/v2'][1]
    assert tube.tolist() == [[frame, 2, 1, 5, 4] for frame in (1, 2, 3)]


def test_splits_say_what_trains(release):
    truth = read_masks(release)
    first, second = ['jump/v1', 'wave/v1'], ['jump/v2', 'wave/v2']
    assert truth['train_videos'] == [first, first, second]
    assert truth['test_videos'] == [second, second, first]


def test_an_empty_mask_parts_a_tube():
    mask = np.zeros((4, 4, 5))
    mask[0, 0, [0, 1, 3]] = 1
    first, second = tubes_of(mask)
    assert first[:, 0].tolist() == [1, 2]
    assert second.tolist() == [[4, 0, 0, 1, 1]]
    assert tubes_of(np.zeros((4, 4, 5))) == []


def test_a_single_frame_is_a_video(release):
    path = release / 'puppet_mask/jump/v1/puppet_mask.mat'
    savemat(path, dict(part_mask=np.ones((5, 8))))
    truth = read_masks(release)
    assert truth['nframes']['jump/v1'] == 1
    assert truth['gttubes']['jump/v1'][0][0].tolist() == [[1, 0, 0, 8, 5]]


def test_what_is_written_is_read(release, tmp_path):
    truth = read_masks(release)
    write_ground_truth(tmp_path / 'gt.pkl', truth)
    again = read_ground_truth(tmp_path / 'gt.pkl')
    assert again.keys() == truth.keys()
    assert again['nframes'] == truth['nframes']
    for video, tubes in truth['gttubes'].items():
        for label, (tube,) in tubes.items():
            np.testing.assert_equal(again['gttubes'][video][label], [tube])


def test_a_pickle_that_would_do_harm_is_refused(tmp_path):
    path = tmp_path / 'gt.pkl'
    for attack in (*ARRAYS.values(), *CODE.values()):
        path.write_bytes(pickle.dumps({'labels': attack}))
        with pytest.raises(ValueError, match=f'^{path}: expected JHMDB-GT'):
            read_ground_truth(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (pickle.dumps({'labels': []}), 'got none of .*gttubes'),
        (pickle.dumps([1]), 'expected the keys'),
        (b'', 'cannot be read'),
        (b'oops', 'cannot be read'),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / 'gt.pkl'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_ground_truth(path)


def test_what_is_missing_is_named(release, tmp_path):
    with pytest.raises(FileNotFoundError, match='jhmdb_actions'):
        read_ground_truth(tmp_path / 'none.pkl')
    with pytest.raises(FileNotFoundError, match=r'puppet_mask\.zip'):
        read_masks(tmp_path / 'none')
    mask = release / 'puppet_mask/jump/v2/puppet_mask.mat'
    mask.write_bytes(b'no')
    with pytest.raises(ValueError, match='expected part_mask'):
        read_masks(release)
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r'v2/puppet_mask\.mat'):
        read_masks(release)
    (release / 'splits/jump_test_split1.txt').write_text('v1.avi 0\n')
    with pytest.raises(ValueError, match=r"got 'v1\.avi 0'"):
        read_masks(release)
    (release / 'splits/jump_test_split1.txt').unlink()
    with pytest.raises(FileNotFoundError, match='expected this split'):
        read_masks(release)
