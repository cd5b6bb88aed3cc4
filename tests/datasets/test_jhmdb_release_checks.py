"""A ground truth of J-HMDB that cannot be is refused, by name."""

import numpy as np
import pytest
from scipy.io import savemat

from mmskip.datasets.jhmdb_release import (
    check_ground_truth,
    read_ground_truth,
    read_masks,
    write_ground_truth,
)

VIDEO = 'run/v1'
TUBE = np.array([[1, 0, 0, 8, 8], [2, 1, 1, 9, 9.5]], np.float32)


def truth():
    """Two videos of 10 frames of 20 x 30 pixels."""
    videos = [VIDEO, 'wave/v2']
    return dict(
        labels=['run', 'wave'],
        gttubes={v: {i: [TUBE.copy()]} for i, v in enumerate(videos)},
        nframes=dict.fromkeys(videos, 10),
        resolution=dict.fromkeys(videos, (20, 30)),
        train_videos=[[VIDEO]] * 3,
        test_videos=[['wave/v2']] * 3,
    )


def with_row(*row):
    """A ground truth whose second box is another."""
    content = truth()
    content['gttubes'][VIDEO][0][0][1] = row
    return content


def changed(**keys):
    return truth() | keys


def of_video(key, value):
    content = truth()
    content[key][VIDEO] = value
    return content


def test_a_right_one_passes():
    check_ground_truth(truth(), 'gt.pkl')
    content = of_video('gttubes', {0: [], 1: [TUBE[:0]]})
    content['nframes'][VIDEO] = np.int64(10)
    check_ground_truth(content, 'gt.pkl')


@pytest.mark.parametrize('column', range(5))
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_numbers_are_finite(column, value):
    row = [2, 1, 1, 9, 9]
    row[column] = value
    with pytest.raises(ValueError, match=r'gt\.pkl: run/v1: .*finite'):
        check_ground_truth(with_row(*row), 'gt.pkl')


@pytest.mark.parametrize('frame', [0, -5, 1.9, 11, 1e9])
def test_frames_are_those_of_the_video(frame):
    with pytest.raises(
        ValueError, match=r'expected frames 1\.\.10, got the row'
    ):
        check_ground_truth(with_row(frame, 1, 1, 9, 9), 'gt.pkl')


def test_a_frame_is_once_in_a_tube():
    with pytest.raises(ValueError, match='each once in a tube'):
        check_ground_truth(with_row(1, 1, 1, 9, 9), 'gt.pkl')


@pytest.mark.parametrize(
    'box', [(9, 1, 1, 9), (1, 9, 9, 1), (1, 1, 1, 9), (1, 9, 9, 9)]
)
def test_boxes_are_not_inverted_nor_empty(box):
    with pytest.raises(ValueError, match='x1 < x2 and y1 < y2'):
        check_ground_truth(with_row(2, *box), 'gt.pkl')


@pytest.mark.parametrize(
    'box', [(30, 1, 40, 9), (1, 20, 9, 30), (-9, 1, 0, 9), (1, -9, 9, 0)]
)
def test_boxes_lie_in_the_image(box):
    with pytest.raises(ValueError, match='image of 30 x 20'):
        check_ground_truth(with_row(2, *box), 'gt.pkl')


def test_boxes_that_reach_beyond_it_are_counted(recwarn):
    check_ground_truth(with_row(2, -1, -1, 31, 21), 'gt.pkl')
    assert not recwarn
    with pytest.warns(UserWarning, match=r'^gt\.pkl: 1 boxes reach beyond'):
        check_ground_truth(with_row(2, 0, 0, 32, 20), 'gt.pkl')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (changed(train_videos=[[VIDEO, VIDEO]] * 3), r'2 times \(one list\)'),
        (
            changed(test_videos=[['wave/v2', VIDEO]] * 3),
            r'run/v1 once in split 1, .* \(training and test\)',
        ),
        (changed(train_videos=[['gone']] * 3), 'resolution of gone'),
        (changed(train_videos=[[VIDEO]]), 'as many lists'),
        (changed(train_videos=[VIDEO] * 3), 'split 1: expected a list'),
        (changed(labels='run'), 'labels: expected a list, got str'),
        (changed(nframes=[10]), 'nframes: expected a dict, got list'),
        (of_video('nframes', 0), r'expected 1, 2, \.\.\. as frames, got 0'),
        (of_video('nframes', 1.5), r'as frames, got 1\.5'),
        (of_video('nframes', None), 'as frames, got None'),
        (of_video('resolution', (0, 30)), 'as height, got 0'),
        (of_video('resolution', 30), r'expected \(height, width\), got 30'),
        (of_video('gttubes', [TUBE]), 'expected a dict, got list'),
        (of_video('gttubes', {2: [TUBE]}), r'expected labels 0\.\.1, got 2'),
        (of_video('gttubes', {-1: [TUBE]}), r'labels 0\.\.1, got -1'),
        (of_video('gttubes', {'0': [TUBE]}), r"labels 0\.\.1, got '0'"),
        (of_video('gttubes', {0: TUBE}), 'expected a list, got ndarray'),
        (of_video('gttubes', {0: [TUBE.tolist()]}), 'expected a ndarray'),
        (of_video('gttubes', {0: [TUBE[:, :4]]}), r'shape \(2, 4\)'),
        (of_video('gttubes', {0: [TUBE.astype(str)]}), 'and dtype <U'),
    ],
)
def test_what_cannot_be_is_named(content, message):
    with pytest.raises(ValueError, match=rf'^gt\.pkl: .*{message}'):
        check_ground_truth(content, 'gt.pkl')


def test_files_are_checked_when_they_are_read(tmp_path):
    path = tmp_path / 'gt.pkl'
    write_ground_truth(path, with_row(0, 1, 1, 9, 9))
    with pytest.raises(ValueError, match=f'{path}: run/v1: expected frames'):
        read_ground_truth(path)


def test_splits_are_checked_when_they_are_read(tmp_path):
    folder = tmp_path / 'puppet_mask/jump/v1'
    folder.mkdir(parents=True)
    savemat(folder / 'puppet_mask.mat', {'part_mask': np.ones((4, 5, 2))})
    (tmp_path / 'splits').mkdir()
    for split in (1, 2, 3):
        path = tmp_path / f'splits/jump_test_split{split}.txt'
        path.write_text('v1.avi 1\nv1.avi 2\n')
    with pytest.raises(ValueError, match='every video once'):
        read_masks(tmp_path)
