import numpy as np
import pytest
import torch
from mmdet.apis import init_detector
from mmengine.hub import get_config

import mmskip
from mmskip.apis import FrameStream, SharedModel, UserError
from mmskip.skip_conv import StreamPolicy
from mmskip.video import Frame
from mmskip.video.regions import Region
from tests.apis.fakes import noise_frames, static_frames, tiny_detector

CONFIG = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'


@pytest.fixture(scope='module')
def detector():
    """A small YOLOX with random weights, converted."""
    cfg = get_config(CONFIG)
    cfg.model.backbone.widen_factor = cfg.model.backbone.deepen_factor = 0.125
    cfg.model.neck.update(
        in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1
    )
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=2)
    cfg.model.test_cfg.score_thr = 0.0
    cfg.test_dataloader.dataset.pipeline[1].scale = (96, 96)
    torch.manual_seed(0)
    model = init_detector(cfg, None, 'none', 'cpu')
    gate = dict(type='mmskip.OutputNormGate', threshold=0.02, relative=True)
    mmskip.convert(model, mmskip.SkipConversion(gate, memory='accumulated'))
    mmskip.accelerate(model)
    return model


def moving(count):
    room = noise_frames(1, (96, 64))[0] // 4
    frames = []
    for index in range(count):
        frame = room.copy()
        frame[20:36, 4 * index : 4 * index + 16] = 250
        frames.append(Frame(index, frame, index / 25))
    return frames


def run(model, frames, **options):
    with SharedModel(model) as shared:
        camera = FrameStream(shared, **options)
        return [camera(frame) for frame in frames]


def boxes(result):
    return result.prediction.pred_instances.bboxes


def test_heads_give_again_what_they_found_where_nothing_changed(
    detector, monkeypatch
):
    calls = []
    kind = type(detector.bbox_head)
    decode = kind.predict_by_feat

    def counted(self, *args, **kwargs):
        calls.append(1)
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(kind, 'predict_by_feat', counted)
    still, (_, other) = moving(1)[0], moving(2)
    frames = [still, still._replace(index=1), other._replace(index=2)]
    first, second, third = run(detector, frames)
    assert len(calls) == 2
    assert torch.equal(boxes(first), boxes(second))
    assert not torch.equal(boxes(second), boxes(third))
    assert second.prediction.metainfo['frame_id'] == 1
    # Each result is the caller's own.
    boxes(second).zero_()
    assert boxes(first).any()


def test_the_model_is_as_it_was_afterwards(detector):
    run(detector, moving(2))
    assert 'predict_by_feat' not in detector.bbox_head.__dict__


def test_the_reasons_of_reference_frames_are_told():
    frames = [
        Frame(0, noise_frames(1)[0]),
        Frame(1, noise_frames(1)[0]),
        Frame(2, noise_frames(1)[0], restarts=True),
        Frame(3, noise_frames(1, (80, 60))[0]),
        Frame(4, 255 - noise_frames(1, (80, 60))[0]),
        Frame(5, np.zeros((60, 80, 3), np.uint8)),
    ]
    results = run(tiny_detector(threshold=0.0), frames[:4])
    reasons = [result.restart for result in results]
    assert reasons == ['first', None, 'reconnect', 'size']
    assert [r.cost.reference > 0 for r in results] == [
        True, False, True, True,
    ]  # fmt: skip


def test_a_cut_is_told_with_a_policy(detector):
    frames = moving(3)
    frames[2] = frames[2]._replace(image=255 - frames[2].image)
    results = run(detector, frames, policy=StreamPolicy())
    assert [result.restart for result in results] == ['first', None, 'cut']
    assert results[2].cost.reference == results[2].cost.dense


def test_outside_of_a_region_nothing_fires(detector):
    frames = moving(6)
    half = [(0, 0.75), (1, 0.75), (1, 1), (0, 1)]
    whole = run(detector, frames)
    below = run(detector, frames, region=Region([half]))
    assert all(result.cost.executed > 0 for result in whole)
    assert [result.cost.executed for result in below[1:]] == [0] * 5
    for result in below:
        centres = (boxes(result)[:, 1] + boxes(result)[:, 3]) / 2
        assert (centres.long() >= 48).all()


def test_other_classes_are_left_out(detector):
    detector.dataset_meta = dict(classes=('person', 'car'))
    frames = moving(3)
    everything = run(detector, frames)
    cars = run(detector, frames, classes=['car'])
    for all_of_them, found in zip(everything, cars, strict=True):
        known = all_of_them.prediction.pred_instances
        assert set(known.labels.tolist()) == {0, 1}
        scores = known[known.labels == 1].scores
        assert torch.equal(found.prediction.pred_instances.scores, scores)


def test_a_class_that_the_model_does_not_know_is_refused(detector):
    detector.dataset_meta = dict(classes=('person', 'car'))
    with pytest.raises(UserError, match='got tram; it knows person, car'):
        run(detector, moving(1), classes=['car', 'tram'])


def test_a_region_is_for_detectors():
    pipeline = [
        dict(type='LoadImage'),
        dict(type='GetBBoxCenterScale'),
        dict(type='TopdownAffine', input_size=(48, 64)),
        dict(type='PackPoseInputs'),
    ]
    model = tiny_detector(pipeline=pipeline)
    model.cfg.default_scope = 'mmpose'
    with SharedModel(model) as shared, pytest.raises(UserError, match='bbox'):
        FrameStream(shared, region=Region([[(0, 0), (1, 0), (1, 1)]]))


class Following:
    """A tracker that notes what it is asked."""

    def __init__(self):
        self.calls = []

    def update(self, prediction, index):
        self.calls.append(index)
        return prediction

    def reset(self):
        self.calls.append('reset')


@pytest.mark.parametrize('dense', [False, True])
def test_a_tracker_gets_the_numbers_of_frames_and_begins_anew(dense):
    still = static_frames(4)
    frames = [Frame(n, f, restarts=n == 2) for n, f in enumerate(still)]
    frames.append(Frame(5, noise_frames(1, (80, 60))[0]))
    tracker = Following()
    with SharedModel(tiny_detector(threshold=0.0), dense) as shared:
        camera = FrameStream(shared, tracker=tracker)
        for frame in frames:
            camera(frame)
    begun = [call for call in tracker.calls if call != 'reset']
    assert begun == [0, 1, 2, 3, 5]
    for index in (2, 5):
        assert tracker.calls[tracker.calls.index(index) - 1] == 'reset'
    assert tracker.calls[tracker.calls.index(3) - 1] == 2
