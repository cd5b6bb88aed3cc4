"""Joints, boxes and splits of the original JHMDB, and its flaws."""

import numpy as np
import pytest

from mmskip.datasets.jhmdb_pose_release import (
    NAMES,
    ReadingReport,
    list_videos,
    read_pose_json,
    read_pose_video,
)
from tests.datasets.pose_release import (
    HEIGHT,
    J0,
    WIDTH,
    write_images,
    write_matrix,
    write_release,
)


@pytest.fixture
def root(tmp_path):
    return write_release(tmp_path)


def read(root, name='golf/v1'):
    report = ReadingReport()
    return read_pose_video(root, name, report), report


def test_splits_list_what_trains_and_what_tests(root):
    assert list(list_videos(root, 1, 'train')) == ['golf/v1', 'walk/v1']
    assert list(list_videos(root, 3, 'test')) == ['golf/v2', 'walk/v2']
    (root / 'sub_splits/golf_test_split_2.txt').write_text('v1.avi 2\n')
    assert list(list_videos(root, 2, 'test')) == ['golf/v1', 'walk/v2']
    assert list(list_videos(root, 2, 'test', 'full')) == [
        'golf/v2',
        'walk/v2',
    ]


def test_joints_and_boxes_count_from_one(root):
    video, report = read(root)
    assert video.size == (WIDTH, HEIGHT)
    assert video.joints.shape == (3, 15, 2)
    assert video.joints[1, 4].tolist() == [J0 + 4, J0 + 3]
    # The mask's columns 8 to 27 and rows 6 to 20 of frame 1, from 0.
    assert video.boxes[1].tolist() == [9, 7, 28, 21]
    assert video.file_name(1) == 'Rename_Images/golf/v1/00002.png'
    assert str(report) == '1 videos, 3 frames'


def test_one_frame_is_read_though_matlab_drops_its_dimension(root):
    write_matrix(
        root, 'joint_positions', 'golf/v1', pos_img=np.full((2, 15), 9.0)
    )
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2, 3] = 1
    write_matrix(root, 'puppet_mask', 'golf/v1', part_mask=mask)
    write_images(root, 'golf/v1', 1)
    video, _ = read(root)
    assert video.boxes.tolist() == [[4, 3, 4, 3]]


def test_what_all_files_have_is_read_and_the_rest_is_counted(root):
    write_images(root, 'golf/v1', 2)
    video, report = read(root)
    assert len(video.joints) == len(video.boxes) == 2
    assert report.surplus == {'golf/v1': 1}
    assert '1 frames left out, without image' in str(report)
    assert 'golf/v1' in str(report)


def test_frames_without_a_person_are_left_out_and_counted(root):
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[3:9, 3:9, [0, 2]] = 1
    write_matrix(root, 'puppet_mask', 'golf/v1', part_mask=mask)
    video, report = read(root)
    assert np.isnan(video.boxes[1]).all()
    assert (report.frames, report.absent) == (2, {'golf/v1': 1})
    content, _ = read_pose_json(root, 1, 'train')
    names = [image['file_name'] for image in content['images']]
    assert names[:2] == [
        'Rename_Images/golf/v1/00001.png',
        'Rename_Images/golf/v1/00003.png',
    ]


def test_joints_outside_of_the_image_are_kept_and_counted(root):
    joints = np.full((2, 15, 3), 9.0)
    joints[0, 2, 0], joints[1, 3, 1] = 0.5, HEIGHT + 1
    joints[0, 4, 2] = WIDTH  # the last column, from 1
    write_matrix(root, 'joint_positions', 'golf/v1', pos_img=joints)
    video, report = read(root)
    assert report.outside == {'golf/v1': 2}
    assert video.joints[0, 2, 0] == 0.5
    assert '2 joints outside of the image, kept' in str(report)


def test_a_video_without_any_person_is_refused(root):
    empty = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    path = write_matrix(root, 'puppet_mask', 'golf/v1', part_mask=empty)
    with pytest.raises(ValueError, match=f'{path}: expected a mask that'):
        read(root)


@pytest.mark.parametrize('kind', ['joint_positions', 'puppet_mask'])
def test_missing_and_broken_files_are_named(root, kind):
    (path,) = (root / kind / 'golf/v1').iterdir()
    path.write_bytes(b'nothing')
    with pytest.raises(ValueError, match=f'{path}: expected'):
        read(root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf'{path}.*{kind}\.zip'):
        read(root)


@pytest.mark.parametrize(
    ('joints', 'message'),
    [
        (np.zeros((2, 14, 3)), r'shape \(2, 15, frames\), got \(2, 14, 3\)'),
        (np.full((2, 15, 3), np.nan), 'NaN or infinity in frame 1'),
    ],
)
def test_poses_that_are_none_are_refused(root, joints, message):
    write_matrix(root, 'joint_positions', 'golf/v1', pos_img=joints)
    with pytest.raises(ValueError, match=message):
        read(root)


def test_a_listed_video_without_frames_is_refused_with_its_list(root):
    path = root / 'sub_splits/walk_test_split_1.txt'
    path.write_text(path.read_text() + 'gone.avi 2\n')
    assert len(list_videos(root, 1, 'train')) == 2
    with pytest.raises(
        FileNotFoundError, match=rf'walk/gone: .*which {path} lists'
    ):
        list_videos(root, 1, 'test')


def test_gaps_between_frames_are_refused(root):
    (root / 'Rename_Images/golf/v1/00002.png').unlink()
    with pytest.raises(ValueError, match=r'without gaps, got 2 \(00001'):
        read(root)


@pytest.mark.parametrize(
    'wrong', [dict(split=4), dict(subset='val'), dict(variant='all')]
)
def test_arguments_out_of_range_are_refused(root, wrong):
    arguments = dict(split=1, subset='train', variant='sub')
    with pytest.raises(ValueError, match=f'expected {next(iter(wrong))} in'):
        list_videos(root, **{**arguments, **wrong})


def test_a_folder_without_splits_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'extract sub_splits\.zip'):
        list_videos(tmp_path, 1, 'train')


def test_the_joints_are_called_as_in_mmpose():
    assert NAMES == (
        'neck',
        'belly',
        'head',
        'right_shoulder',
        'left_shoulder',
        'right_hip',
        'left_hip',
        'right_elbow',
        'left_elbow',
        'right_knee',
        'left_knee',
        'right_wrist',
        'left_wrist',
        'right_ankle',
        'left_ankle',
    )
