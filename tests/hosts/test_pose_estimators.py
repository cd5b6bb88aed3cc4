"""Stock pose estimators, converted by a config of ours, watch a video."""

from types import SimpleNamespace

import numpy as np
import pytest

import mmskip
from tests.hosts.host import (
    assert_identical,
    assert_one_frame,
    assert_same,
    assert_stock,
    build_host,
    dense_macs,
    is_converted,
    noise,
    random_walk,
)

structures = pytest.importorskip('mmpose.structures')
engine_structures = pytest.importorskip('mmengine.structures')

FRAMES = 3
WIDTH, HEIGHT = 64, 96
SIMCC = 'simcc_res50_8xb64-210e_coco-256x192'
RES50 = 'td-hm_res50_8xb64-20e_jhmdb-sub1-256x256'
KEYPOINTS = {
    'td-hm_hrnet-w32_8xb64-210e_coco-256x192': 17,
    RES50: 15,
    SIMCC: 17,
}
# Small inputs, which only SimCC has to be told.
OPTIONS = {
    SIMCC: {
        'model.head.input_size': (WIDTH, HEIGHT),
        'model.head.in_featuremap_size': (WIDTH // 32, HEIGHT // 32),
        'model.head.decoder.input_size': (WIDTH, HEIGHT),
    }
}


# A flip is a matter of the head: heatmaps or vectors.
each_head = pytest.mark.parametrize('video', [RES50, SIMCC], indirect=True)


@pytest.fixture(scope='module', params=KEYPOINTS)
def video(request):
    """An estimator and its frames, with the dense model's results."""

    def warm_up(model):
        model(noise(2, 3, HEIGHT, WIDTH), None, mode='tensor')

    name = request.param
    host = build_host('pose', name, warm_up, OPTIONS.get(name))
    for model in (host.model, host.stock):
        # SimCC has none: it would multiply its vectors to show some.
        model.test_cfg['output_heatmaps'] = name != SIMCC
    video = SimpleNamespace(
        host=host,
        keypoints=KEYPOINTS[name],
        frames=random_walk(FRAMES, 1, 3, HEIGHT, WIDTH),
    )
    video.raw = [run(host.stock, frame) for frame in video.frames]
    return video


def run(model, frame):
    return model(frame, None, mode='tensor')


def estimate(video, model, frame):
    """Predict as in a test, flipped image included."""
    assert model.test_cfg['flip_test']
    box = np.array([[0.0, 0.0, WIDTH, HEIGHT]])
    sample = structures.PoseDataSample(
        metainfo=dict(
            img_shape=(HEIGHT, WIDTH),
            input_size=(WIDTH, HEIGHT),
            input_center=np.array([WIDTH / 2, HEIGHT / 2]),
            input_scale=np.array([WIDTH, HEIGHT], float),
            flip_indices=list(range(video.keypoints))[::-1],
        ),
        gt_instances=engine_structures.InstanceData(
            bboxes=box, bbox_scores=np.ones(1)
        ),
    )
    return model(frame, [sample], mode='predict')[0]


def test_is_the_stock_model(video):
    assert_stock(video.host)


def test_unbound_equals_stock_bit_for_bit(video):
    assert_identical(run(video.host.model, video.frames[0]), video.raw[0])


def test_open_gates_equal_dense_on_every_frame(video):
    model = video.host.model
    with video.host.open_gates(), mmskip.stream(model):
        raw = [run(model, frame) for frame in video.frames]
    assert_same(raw, video.raw)


@each_head
def test_open_gates_equal_dense_in_a_flip_test(video):
    model = video.host.model
    with video.host.open_gates(), mmskip.stream(model):
        for frame in video.frames[:2]:
            ours = estimate(video, model, frame)
            theirs = estimate(video, video.host.stock, frame)
            if 'pred_fields' in theirs:
                assert_same(
                    ours.pred_fields.heatmaps, theirs.pred_fields.heatmaps
                )
            for key in ('keypoints', 'keypoint_scores'):
                np.testing.assert_allclose(
                    ours.pred_instances[key], theirs.pred_instances[key]
                )


def test_a_static_video_costs_one_frame(video):
    model = video.host.model
    dense = dense_macs(run, video.host.stock, video.frames[0])
    with mmskip.count_macs(model) as macs, mmskip.stream(model):
        raw = [run(model, video.frames[0]) for _ in range(FRAMES)]
    assert_one_frame(video.host, macs, FRAMES, FRAMES * dense)
    assert_identical(raw, raw[:1] * FRAMES)


@each_head
def test_a_static_video_costs_one_frame_in_a_flip_test(video):
    model = video.host.model
    frame = video.frames[0]
    dense = dense_macs(estimate, video, video.host.stock, frame)
    with mmskip.count_macs(model) as macs, mmskip.stream(model) as state:
        for _ in range(2):
            estimate(video, model, frame)
    assert_one_frame(video.host, macs, 2, 2 * dense)
    converted = [m for m in model.modules() if is_converted(m)]
    assert len(state.slots) == 2 * len(converted)
