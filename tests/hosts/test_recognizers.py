"""Stock video recognisers, converted by a config of ours."""

from types import SimpleNamespace

import pytest
import torch

import mmskip
from tests.hosts.host import (
    assert_identical,
    assert_one_frame,
    assert_same,
    assert_stock,
    build_host,
    dense_macs,
    noise,
    random_walk,
)

pytest.importorskip('mmaction.models')

FRAMES = 3
CLIP = 8
FOLDED = (
    'tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb',
    'tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb',
)
BEFORE_SHIFTS = ('backbone.conv1.conv', 'backbone.layer1.0.downsample.conv')
WINDOWED = (
    'r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb',
    'x3d_m_16x5x1_facebook-kinetics400-rgb',
    'slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb',
)


def run(model, inputs):
    """Scores of the classes, before the softmax."""
    return model(inputs, None, mode='tensor', stage='head')[0]


def build(name, *shape):
    return build_host(
        'recognition', name, lambda model: run(model, noise(2, *shape))
    )


@pytest.fixture(scope='module', params=FOLDED)
def clips(request):
    """A recogniser of folded clips (N, T, C, H, W)."""
    shape = (CLIP, 3, 32, 32)
    walk = random_walk(CLIP, 2, *shape[1:])
    return SimpleNamespace(
        host=build(request.param, *shape), moving=torch.stack(walk, 1)
    )


@pytest.fixture(scope='module', params=WINDOWED)
def windows(request):
    """A recogniser of windows (N, 1, C, T, H, W) of a long video."""
    shape = (1, 3, 4, 48, 48)
    return SimpleNamespace(
        host=build(request.param, *shape),
        frames=random_walk(FRAMES, 1, *shape),
    )


def test_folded_is_the_stock_model(clips):
    assert_stock(clips.host)


def test_folded_unbound_equals_stock_bit_for_bit(clips):
    assert_identical(
        run(clips.host.model, clips.moving),
        run(clips.host.stock, clips.moving),
    )


def test_folded_with_open_gates_equals_dense(clips):
    model = clips.host.model
    with clips.host.open_gates(), mmskip.clip(model, CLIP):
        scores = run(model, clips.moving)
    assert_same(scores, run(clips.host.stock, clips.moving))


def test_a_static_clip_costs_one_frame(clips):
    model = clips.host.model
    still = clips.moving[:, :1].expand(-1, CLIP, -1, -1, -1).contiguous()
    dense = dense_macs(run, clips.host.stock, still)
    with mmskip.count_macs(model) as macs, mmskip.clip(model, CLIP):
        run(model, still)
    if model.backbone.__class__.__name__ != 'ResNetTSM':
        assert_one_frame(clips.host, macs, CLIP, dense)
        return
    # TSM shifts zeros in at both ends of a clip: behind its shifts even
    # equal frames differ.
    assert macs.total().dense == dense
    for name, count in macs.by_module().items():
        if name in BEFORE_SHIFTS:
            assert count.executed * CLIP == count.dense
        else:
            assert count.dense < count.executed * CLIP <= count.dense * CLIP


def test_windowed_is_the_stock_model(windows):
    assert_stock(windows.host)


def test_windowed_unbound_equals_stock_bit_for_bit(windows):
    assert_identical(
        run(windows.host.model, windows.frames[0]),
        run(windows.host.stock, windows.frames[0]),
    )


def test_windowed_with_open_gates_equals_dense_in_every_window(windows):
    model = windows.host.model
    with windows.host.open_gates(), mmskip.stream(model):
        scores = [run(model, frame) for frame in windows.frames]
    assert_same(scores, [run(windows.host.stock, f) for f in windows.frames])


def test_a_static_video_costs_one_window(windows):
    model = windows.host.model
    window = windows.frames[0]
    dense = dense_macs(run, windows.host.stock, window)
    with mmskip.count_macs(model) as macs, mmskip.stream(model):
        scores = [run(model, window) for _ in range(FRAMES)]
    assert_one_frame(windows.host, macs, FRAMES, FRAMES * dense)
    assert_identical(scores, scores[:1] * FRAMES)
