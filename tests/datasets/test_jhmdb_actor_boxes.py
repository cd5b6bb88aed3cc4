"""Boxes that are proposed to a detector."""

import numpy as np
import pytest
from mmengine.fileio import dump

pytest.importorskip('mmaction')

from mmskip.datasets import LoadActorBoxes
from tests.helpers.pickle_attacks import ARRAYS, CODE

TRUTH = np.array([[0.1, 0.2, 0.5, 0.6]], np.float32)
KEY = 'run/v1,0007'


def propose(found=None, tmp_path=None, **options):
    """Boxes proposed for the seventh frame of run/v1."""
    if found is not None:
        options['proposal_file'] = str(tmp_path / 'boxes.pkl')
        dump(found, options['proposal_file'])
    info = dict(
        video_id='run/v1', frame_id=6, start_index=1, gt_bboxes=TRUTH.copy()
    )
    results = LoadActorBoxes(**options).transform(info)
    assert np.array_equal(results['gt_bboxes'], TRUTH)
    return results


def test_without_a_file_the_ground_truth_is_proposed():
    results = propose()
    assert np.array_equal(results['proposals'], TRUTH)
    results['proposals'] += 1  # crops and flips work in place
    assert np.array_equal(results['gt_bboxes'], TRUTH)


def test_boxes_come_from_the_file(tmp_path):
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.2, 0.4, 0.4]])
    proposals = propose({KEY: boxes, 'run/v1,0006': TRUTH}, tmp_path)
    assert proposals['proposals'].dtype == np.float32
    assert np.allclose(proposals['proposals'], boxes)


def test_boxes_of_low_score_are_left_out(tmp_path):
    table = np.array([[0, 0, 1, 1, 0.4], [0, 0, 0.5, 0.5, 0.6]])
    found = {KEY: table}
    both = propose(found, tmp_path, score_thr=0.3)['proposals']
    assert np.allclose(both, table[:, :4])
    for score_thr in (0.5, 0.9):  # none has 0.9: the best one stays
        one = propose(found, tmp_path, score_thr=score_thr)['proposals']
        assert np.allclose(one, table[1:, :4])


@pytest.mark.parametrize('columns', [4, 5])
def test_nobody_may_be_there(tmp_path, columns):
    found = {KEY: np.zeros((0, columns))}
    assert propose(found, tmp_path)['proposals'].shape == (0, 4)


@pytest.mark.parametrize(
    ('found', 'error', 'message'),
    [
        ({'run/v1,0006': TRUTH}, ValueError, 'run/v1,0007'),
        ({KEY: np.zeros(4)}, ValueError, r'got \(4,\)'),
        ({KEY: np.zeros((1, 6))}, ValueError, r'got \(1, 6\)'),
        ({KEY: [['a'] * 4]}, ValueError, r'boxes\.pkl'),
        ({KEY: TRUTH * 320}, ValueError, 'divide them by the size'),
        ([TRUTH], ValueError, 'got list'),
        ({KEY: TRUTH * np.nan}, ValueError, 'finite boxes'),
        ({KEY: np.array([[0, 0, 1, 1, np.inf]])}, ValueError, 'finite boxes'),
        ({KEY: TRUTH[:, ::-1]}, ValueError, 'x1 <= x2'),
        ({KEY: ['person']}, ValueError, 'array of boxes, got list'),
        ({KEY: None}, ValueError, r'got \(\)'),
    ],
)
def test_a_bad_file_is_refused(tmp_path, found, error, message):
    with pytest.raises(error, match=message):
        propose(found, tmp_path)


def test_a_file_that_would_do_harm_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for attack in (*ARRAYS.values(), *CODE.values()):
        with pytest.raises(ValueError, match=r'boxes\.pkl: .*cannot be read'):
            propose({KEY: attack}, tmp_path)
        assert not (tmp_path / 'intruded').exists()


def test_tags_of_yaml_are_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'boxes.yaml'
    path.write_text('!!python/object/apply:os.mkdir [intruded]')
    with pytest.raises(ValueError, match=r'boxes\.yaml: .*cannot be read'):
        LoadActorBoxes(str(path))
    assert not (tmp_path / 'intruded').exists()


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r'got 1\.5'):
        LoadActorBoxes(score_thr=1.5)
    with pytest.raises(FileNotFoundError):
        LoadActorBoxes('nowhere.pkl')


def test_boxes_follow_the_pictures(tmp_path):
    """Through mmaction2's transforms, as the ground truth does."""
    from mmaction.utils import register_all_modules
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmaction'):
        pipeline = Compose(
            [
                dict(type='mmskip.LoadActorBoxes'),
                dict(type='Resize', scale=(50, 40), keep_ratio=False),
                dict(type='RandomCrop', size=32),
                dict(type='Flip', flip_ratio=1.0),
                dict(type='FormatShape', input_format='NCTHW'),
                dict(type='PackActionInputs'),
            ]
        )
    box = np.array([[40.0, 40.0, 60.0, 60.0]], np.float32)
    info = dict(
        gt_bboxes=box,
        gt_labels=np.array([2]),
        imgs=[np.zeros((80, 100, 3), np.uint8)] * 4,
        img_shape=(80, 100),
        clip_len=4,
        num_clips=1,
        modality='RGB',
    )
    sample = pipeline(info)['data_samples']
    boxes = sample.gt_instances.bboxes
    assert boxes.shape == (1, 4)
    assert (sample.proposals.bboxes == boxes).all()
    assert tuple((boxes[0, 2:] - boxes[0, :2]).tolist()) == (10.0, 10.0)
