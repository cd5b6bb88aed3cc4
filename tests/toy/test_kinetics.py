"""The toy Kinetics on disk, and its command."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import cv2
import pytest

from mmskip.toy import make_toy_kinetics
from mmskip.toy.kinetics import GROUPS, MOTIONS, choose_kinds

SMALL = dict(train_videos=4, test_videos=3, frames=8, size=(80, 64))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_toy_kinetics(tmp_path_factory.mktemp('t') / 'toy', **SMALL)


def digests(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    again = make_toy_kinetics(tmp_path / 'again', **SMALL)
    assert digests(again) == digests(root)
    other = make_toy_kinetics(tmp_path / 'other', **SMALL, seed=1)
    assert digests(other) != digests(root)


def test_every_class_has_as_many_videos_of_each_group():
    for seed in (0, 1):
        kinds = Counter(choose_kinds((seed, 0), 240))
        assert len(kinds) == 3 * len(MOTIONS)
        assert set(kinds.values()) == {10}
    assert choose_kinds((0, 0), 24) != choose_kinds((1, 0), 24)


def test_lists_name_videos_of_their_class_and_group(root):
    classes = (root / 'classes.txt').read_text().splitlines()
    assert classes == list(MOTIONS)
    groups = json.loads((root / GROUPS).read_text())
    assert len(groups) == 7
    for number, (split, count) in enumerate((('train', 4), ('val', 3))):
        lines = (root / f'{split}_list_videos.txt').read_text().splitlines()
        assert len(lines) == count
        kinds = choose_kinds((0, number), count)
        for line, (label, group) in zip(lines, kinds, strict=True):
            path, index = line.split(' ')
            assert Path(path).parent.name == label == classes[int(index)]
            assert groups[Path(path).stem] == group
            capture = cv2.VideoCapture(str(root / f'videos_{split}' / path))
            assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8
            assert capture.read()[1].shape == (64, 80, 3)


@pytest.mark.parametrize(
    'option', [dict(frames=7), dict(size=(65, 64)), dict(fps=0)]
)
def test_arguments_out_of_range_are_refused(tmp_path, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        make_toy_kinetics(tmp_path / 'toy', **{**SMALL, **option})
    assert not (tmp_path / 'toy').exists()
