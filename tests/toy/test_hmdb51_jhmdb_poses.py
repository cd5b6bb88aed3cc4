"""The toy sub-JHMDB on disk, and its command."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from mmskip.datasets.jhmdb_pose_release import (
    ReadingReport,
    list_videos,
    read_pose_video,
)
from mmskip.datasets.jhmdb_release import read_masks
from mmskip.datasets.mat_files import MatReader
from mmskip.toy import make_toy_sub_jhmdb
from mmskip.toy.joints import MOVES, FigureVideo

SMALL = dict(train_videos=2, test_videos=1, frames=(2, 4), size=(80, 64))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_toy_sub_jhmdb(tmp_path_factory.mktemp('t') / 'toy', **SMALL)


def digests(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    assert digests(make_toy_sub_jhmdb(tmp_path / 'a', **SMALL)) == digests(
        root
    )
    other = digests(make_toy_sub_jhmdb(tmp_path / 'b', **SMALL, seed=1))
    name = Path('Rename_Images/golf/toy_golf_0/00001.png')
    assert other[name] != digests(root)[name]


def test_it_reads_like_the_original(root):
    report = ReadingReport()
    with MatReader() as mat:
        videos = [
            read_pose_video(root, name, report, mat)
            for subset in ('train', 'test')
            for name in list_videos(root, 2, subset)
        ]
    assert len(videos) == 3 * len(MOVES)
    assert report.surplus == report.absent == report.outside == {}
    for video in videos:
        assert 2 <= len(video.joints) <= 4
        assert video.size == (80, 64)
        low = video.joints.min(1) - video.boxes[:, :2]
        high = video.boxes[:, 2:] - video.joints.max(1)
        assert (low > -1).all()
        assert (high > -1).all()
        assert max(low.max(), high.max()) < 8
    path = root / 'joint_positions/golf/toy_golf_0/joint_positions.mat'
    found = loadmat(path)
    frames = found['pos_img'].shape[2]
    assert found['pos_world'].shape == (2, 15, frames)
    assert found['scale'].shape == (1, frames)
    assert found['action'].tolist() == ['golf']


def test_joints_are_those_of_the_film_counted_from_one(root):
    name = 'golf/toy_golf_1'
    video = read_pose_video(root, name, ReadingReport())
    seeds = (0, list(MOVES).index('golf'), 1)
    film = FigureVideo('golf', seeds, len(video.joints), video.size).film()
    for shot, joints in zip(film, video.joints, strict=True):
        np.testing.assert_allclose(joints, shot.joints + 1)


def test_splits_are_those_of_either_data_set(root):
    truth = read_masks(root)
    assert truth['labels'] == list(MOVES)
    assert [len(videos) for videos in truth['train_videos']] == [
        2 * len(MOVES)
    ] * 3
    for split in (1, 2, 3):
        assert sorted(list_videos(root, split, 'test')) == sorted(
            truth['test_videos'][split - 1]
        )
    assert len({tuple(videos) for videos in truth['test_videos']}) > 1


@pytest.mark.parametrize(
    'wrong',
    [
        dict(train_videos=0),
        dict(frames=(0, 4)),
        dict(frames=(5, 4)),
        dict(size=(80, 32)),
        dict(seed=-1),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match='expected'):
        make_toy_sub_jhmdb(tmp_path / 'toy', **{**SMALL, **wrong})
    assert not (tmp_path / 'toy.partial').exists()
