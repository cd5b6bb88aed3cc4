"""The toy J-HMDB on disk, and its command."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from mmskip.datasets.jhmdb_release import read_ground_truth
from mmskip.toy import make_toy_jhmdb
from mmskip.toy.figures import ACTIONS
from mmskip.toy.hmdb51 import folder_of

SMALL = dict(train_videos=2, test_videos=1, frames=(2, 4), size=(80, 64))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_toy_jhmdb(tmp_path_factory.mktemp('t') / 'toy', **SMALL)


def digests(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    assert digests(make_toy_jhmdb(tmp_path / 'a', **SMALL)) == digests(root)
    other = make_toy_jhmdb(tmp_path / 'b', **SMALL, seed=1)
    found, expected = digests(other), digests(root)
    image = Path('Rename_Images/row_boat/toy_row_boat_0/00001.png')
    assert found[image] != expected[image]


def test_it_lies_on_disk_like_the_original(root):
    truth = read_ground_truth(root / 'JHMDB-GT.pkl')
    assert truth['labels'] == sorted(map(folder_of, ACTIONS))
    assert len(truth['nframes']) == 3 * len(ACTIONS)
    for video, frames in truth['nframes'].items():
        images = sorted(
            path.name for path in (root / 'Rename_Images' / video).iterdir()
        )
        assert images == [f'{n:05}.png' for n in range(1, frames + 1)]
        assert 2 <= frames <= 4
        mask = loadmat(root / 'puppet_mask' / video / 'puppet_mask.mat')
        assert mask['part_mask'].reshape(64, 80, -1).shape[2] == frames
        assert truth['resolution'][video] == (64, 80)


def test_every_split_has_as_many_videos_of_each_action(root):
    truth = read_ground_truth(root / 'JHMDB-GT.pkl')
    for trained, tested in zip(
        truth['train_videos'], truth['test_videos'], strict=True
    ):
        assert not set(trained) & set(tested)
        for label in truth['labels']:
            assert sum(v.startswith(f'{label}/') for v in trained) == 2
            assert sum(v.startswith(f'{label}/') for v in tested) == 1
    assert len({tuple(tested) for tested in truth['test_videos']}) > 1


def test_the_figure_is_in_its_box_and_moves(root):
    truth = read_ground_truth(root / 'JHMDB-GT.pkl')
    moved = 0
    for video, tubes in truth['gttubes'].items():
        ((_, (tube,)),) = tubes.items()
        image = cv2.imread(
            str(root / 'Rename_Images' / video / '00001.png')
        ).astype(int)
        x1, y1, x2, y2 = tube[0, 1:].astype(int)
        inside = image[y1:y2, x1:x2]
        # Figures wear vivid colours, surroundings are pale.
        vivid = (inside.max(2) - inside.min(2) > 60).mean()
        assert vivid > 0.15, video
        centres = (tube[:, 1:3] + tube[:, 3:]) / 2
        moved += np.ptp(centres, axis=0).max() > 1
    assert moved > len(truth['gttubes']) / 2


@pytest.mark.parametrize(
    'wrong',
    [
        dict(train_videos=0),
        dict(test_videos=0),
        dict(frames=(0, 4)),
        dict(frames=(5, 4)),
        dict(size=(80, 32)),
        dict(seed=-1),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match='expected'):
        make_toy_jhmdb(tmp_path / 'toy', **{**SMALL, **wrong})
    assert not (tmp_path / 'toy.partial').exists()
