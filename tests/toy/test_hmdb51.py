"""The toy HMDB51 on disk, and its command."""

import hashlib
from pathlib import Path

import cv2
import pytest

from mmskip.datasets.action_lists import read_class_splits
from mmskip.toy import ClassVideos, make_toy_hmdb51
from mmskip.toy.hmdb51 import SPLITS
from mmskip.toy.joints import MOVES

SMALL = dict(videos=ClassVideos(2, 1), frames=8, size=(80, 64))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_toy_hmdb51(tmp_path_factory.mktemp('t') / 'toy', **SMALL)


def digests(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    assert digests(make_toy_hmdb51(tmp_path / 'a', **SMALL)) == digests(root)
    other = digests(make_toy_hmdb51(tmp_path / 'b', **SMALL, seed=1))
    name = Path('videos/golf/toy_golf_0.avi')
    assert other[name] != digests(root)[name]


def test_it_lies_on_disk_like_the_original(root):
    assert len(list((root / SPLITS).iterdir())) == 3 * len(MOVES)
    found = set()
    for split in (1, 2, 3):
        read = read_class_splits(root / SPLITS, split)
        assert read.classes == list(MOVES)
        assert len(read.train) == 2 * len(MOVES)
        assert len(read.test) == len(MOVES)
        assert read.unused == 2 * len(MOVES)
        found.add(tuple(read.test))
        for entry in read.train + read.test:
            assert (root / 'videos' / f'{entry.name}.avi').is_file()
    assert len(found) > 1


def test_videos_can_be_read_and_mostly_stand_still(root):
    video = cv2.VideoCapture(str(root / 'videos/push/toy_push_1.avi'))
    frames = [video.read()[1] for _ in range(8)]
    assert frames[0].shape == (64, 80, 3)
    assert not video.read()[0]
    change = abs(frames[3].astype(int) - frames[4]).max(-1) > 24
    assert 0 < change.mean() < 0.2


def test_arguments_out_of_range_are_refused(tmp_path):
    none = ClassVideos(test=0)
    for wrong in (dict(videos=none), dict(size=(81, 64)), dict(fps=0)):
        with pytest.raises(ValueError, match='expected'):
            make_toy_hmdb51(tmp_path / 'toy', **{**SMALL, **wrong})
