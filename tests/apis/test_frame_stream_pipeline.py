import numpy as np
import pytest

from mmskip.apis import FramePipeline, UserError
from tests.apis.fakes import noise_frames, tiny_detector

RESIZING = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(32, 32), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_shape', 'scale_factor')),
]


def pose_model():
    pytest.importorskip('mmpose')
    model = tiny_detector()
    model.cfg.default_scope = 'mmpose'
    model.cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadImage'),
        dict(type='GetBBoxCenterScale', padding=1.0),
        dict(type='TopdownAffine', input_size=(48, 64)),
        dict(type='PackPoseInputs'),
    ]
    model.dataset_meta = dict(dataset_name='a test', flip_indices=[0])
    return model


def test_detectors_get_the_whole_frame_through_their_own_pipeline():
    pipeline = FramePipeline(tiny_detector(pipeline=RESIZING))
    batch = pipeline(noise_frames(1)[0])
    assert batch['inputs'][0].shape == (3, 24, 32)
    assert batch['data_samples'][0].scale_factor == (0.5, 0.5)


def test_datasets_in_wrappers_are_found():
    model = tiny_detector()
    inner = model.cfg.test_dataloader.dataset
    model.cfg.test_dataloader.dataset = dict(type='Repeat', dataset=inner)
    assert FramePipeline(model)(noise_frames(1)[0])['inputs']


def test_samples_tell_the_frame_and_the_video():
    pipeline = FramePipeline(tiny_detector())
    frames = noise_frames(2) + noise_frames(2, (32, 40))
    samples = [pipeline(f, i)['data_samples'][0] for i, f in enumerate(frames)]
    assert [s.frame_id for s in samples] == [0, 1, 2, 3]
    assert [s.video_id for s in samples] == [0, 0, 1, 1]


def test_pose_estimators_get_the_whole_frame_by_default():
    batch = FramePipeline(pose_model())(noise_frames(1)[0])
    sample = batch['data_samples'][0]
    np.testing.assert_array_equal(sample.input_center, [32, 24])
    assert batch['inputs'][0].shape == (3, 64, 48)
    assert sample.flip_indices == [0]


def test_the_box_of_a_pose_estimator_follows_the_size_of_the_frames():
    pipeline = FramePipeline(pose_model(), bbox=(8, 12, 24, 36))
    for size, center in [((64, 48), (16, 24)), ((128, 24), (32, 12))]:
        batch = pipeline(noise_frames(1, size)[0])
        sample = batch['data_samples'][0]
        np.testing.assert_array_equal(sample.input_center, center)


@pytest.mark.parametrize('bbox', [(70, 8, 90, 40), (50, 8, 65, 40)])
def test_a_box_outside_of_the_frame_is_refused(bbox):
    pipeline = FramePipeline(pose_model(), bbox)
    with pytest.raises(UserError, match='within the frame of 64 x 48'):
        pipeline(noise_frames(1)[0], 0)


@pytest.mark.parametrize('bbox', [(8, 8, 8, 12), (0, 0, 1), (4, 4, 2, 9)])
def test_an_empty_box_is_refused(bbox):
    with pytest.raises(UserError, match='expected a bbox x1 y1 x2 y2'):
        FramePipeline(pose_model(), bbox)


def test_a_box_for_a_detector_is_refused():
    with pytest.raises(UserError, match='detector takes the whole frame'):
        FramePipeline(tiny_detector(), (0, 0, 4, 4))


def test_recognizers_are_refused():
    model = tiny_detector()
    model.cfg.default_scope = 'mmaction'
    with pytest.raises(UserError, match='takes clips instead of frames'):
        FramePipeline(model)


def test_a_config_without_pipeline_is_refused():
    model = tiny_detector()
    model.cfg.test_dataloader = None
    with pytest.raises(UserError, match=r'test_dataloader\.dataset\.pipeline'):
        FramePipeline(model)


def test_a_model_without_config_is_refused():
    model = tiny_detector()
    del model.cfg
    with pytest.raises(ValueError, match='init_model'):
        FramePipeline(model)
