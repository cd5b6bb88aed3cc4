"""The toy ActivityNet on disk, and its command."""

import hashlib
import json

import cv2
import pytest

from mmskip.datasets.action_lists import read_activitynet
from mmskip.toy import make_toy_activitynet
from mmskip.toy.activitynet import ANNOTATIONS, choose_labels
from mmskip.toy.figures import ACTIONS

SMALL = dict(train_videos=3, test_videos=2, frames=12, size=(64, 64))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_toy_activitynet(tmp_path_factory.mktemp('t') / 'toy', **SMALL)


def digests(root):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    again = make_toy_activitynet(tmp_path / 'again', **SMALL)
    assert digests(again) == digests(root)
    other = make_toy_activitynet(tmp_path / 'other', **SMALL, seed=1)
    video = 'videos/v_toyt0000000.mp4'
    assert (other / video).read_bytes() != (root / video).read_bytes()


def test_it_lies_on_disk_like_the_original(root):
    release = json.loads((root / ANNOTATIONS).read_text())
    assert set(release) == {'database', 'taxonomy', 'version'}
    assert [v['subset'] for v in release['database'].values()] == [
        *('training',) * 3,
        *('validation',) * 2,
    ]
    for name, video in release['database'].items():
        capture = cv2.VideoCapture(str(root / 'videos' / f'v_{name}.mp4'))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
        assert capture.get(cv2.CAP_PROP_FPS) == 10
        assert video['duration'] == 1.2
        assert video['resolution'] == '64x64'
        for annotation in video['annotations']:
            assert annotation['label'] in ACTIONS
            start, end = annotation['segment']
            assert 0 <= start < end <= 1.2


def test_lists_agree_with_the_annotation(root):
    classes, entries = read_activitynet(root / ANNOTATIONS)
    assert classes == list(ACTIONS)
    assert (root / 'classes.txt').read_text().splitlines() == classes
    for subset, split in (('training', 'train'), ('validation', 'val')):
        lines = (root / f'{split}_list_videos.txt').read_text().splitlines()
        assert lines == [
            f'v_{name}.mp4 {label}' for name, (label,) in entries[subset]
        ]


def test_labels_are_balanced_and_shuffled():
    labels = choose_labels((0, 0), 80)
    assert {labels.count(name) for name in ACTIONS} == {10}
    assert labels != choose_labels((1, 0), 80)


@pytest.mark.parametrize(
    'option',
    [dict(frames=11), dict(size=(65, 64)), dict(fps=0), dict(seed=-1)],
)
def test_arguments_out_of_range_are_refused(tmp_path, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        make_toy_activitynet(tmp_path / 'toy', **{**SMALL, **option})
    assert not (tmp_path / 'toy').exists()


def test_what_was_interrupted_is_begun_again(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_toy_activitynet(tmp_path / 'toy', **SMALL, on_video=interrupt)
    assert not (tmp_path / 'toy').exists()
    made = make_toy_activitynet(tmp_path / 'toy', **SMALL)
    assert len(list((made / 'videos').iterdir())) == 5
