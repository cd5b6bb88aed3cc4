"""The annotation of THUMOS'14."""

import numpy as np
import pytest
from scipy.io import savemat

from mmskip.datasets.action_lists import read_class_index, read_thumos14

EMPTY = np.zeros((0, 0))


def write(path, name, *videos):
    """Videos are ``(name, background, index)``."""
    kinds = [
        ('video_name', object),
        ('background_video', object),
        ('primary_action_index', object),
    ]
    savemat(path, {name: np.array([list(videos)], dtype=kinds)})
    return path


def test_indices_count_from_1_in_the_file(tmp_path):
    path = write(
        tmp_path / 'validation_set.mat',
        'validation_videos',
        ('video_validation_0000001', 'NO', 1.0),
        ('video_validation_0000002', 'NO', 101.0),
    )
    assert read_thumos14(path) == [
        ('video_validation_0000001', (0,)),
        ('video_validation_0000002', (100,)),
    ]


def test_one_video_is_enough(tmp_path):
    path = write(tmp_path / 't.mat', 'test_videos', ('a', 'NO', 7))
    assert read_thumos14(path) == [('a', (6,))]


def test_background_has_no_label(tmp_path):
    path = write(
        tmp_path / 'test_set_meta.mat',
        'test_videos',
        ('a.mp4', 'YES', 3),
        ('b', 'NO', EMPTY),
        ('c', 'NO', 0),
    )
    assert read_thumos14(path) == [('a', ()), ('b', ()), ('c', ())]


def test_an_index_of_no_class_is_refused(tmp_path):
    path = write(tmp_path / 't.mat', 'test_videos', ('a', 'NO', 102))
    with pytest.raises(ValueError, match=r"'a'.*: expected .* got 102"):
        read_thumos14(path)


def test_other_files_are_refused(tmp_path):
    savemat(tmp_path / 'x.mat', dict(y=np.zeros(3)))
    with pytest.raises(ValueError, match='one struct array'):
        read_thumos14(tmp_path / 'x.mat')
    (tmp_path / 'z.mat').write_bytes(b'not MATLAB at all' * 20)
    with pytest.raises(ValueError, match='cannot be read'):
        read_thumos14(tmp_path / 'z.mat')


def test_the_class_index_has_all_classes_in_order(tmp_path):
    path = tmp_path / 'c.txt'
    path.write_text('\n'.join(f'{n} Class{n}' for n in range(1, 102)) + '\n')
    assert read_class_index(path)[::100] == ['Class1', 'Class101']
    path.write_text('7 BaseballPitch\n9 BasketballDunk\n')
    with pytest.raises(ValueError, match='101 lines'):
        read_class_index(path)


@pytest.mark.parametrize('index', [1.9, np.nan, np.inf, -1, 'x', [[{}]]])
def test_what_is_no_index_is_refused(tmp_path, index):
    path = write(tmp_path / 't.mat', 'test_videos', ('a', 'NO', index))
    with pytest.raises(ValueError, match=rf"{path}: element 1 \('a'\)"):
        read_thumos14(path)


def test_a_video_has_a_name_of_its_own(tmp_path):
    same = (('a', 'NO', 1), ('b', 'NO', 2), ('a.mp4', 'NO', 3))
    path = write(tmp_path / 't.mat', 'test_videos', *same)
    with pytest.raises(ValueError, match=r'element 3: .* element 1 lists'):
        read_thumos14(path)
    path = write(tmp_path / 't.mat', 'test_videos', (7, 'NO', 1))
    with pytest.raises(ValueError, match='element 1: expected a text'):
        read_thumos14(path)
