"""Features move as the flow tells, and the flow is that of the images."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from torch import nn

from mmskip.baselines.feature_flow import PRESETS, dis_flow, to_grey, warp


def constant(x, y, size):
    flow = torch.empty(1, 2, *size)
    flow[:, 0], flow[:, 1] = x, y
    return flow


def random_features(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def texture(size=128):
    noise = np.random.default_rng(0).integers(0, 255, (size, size))
    return cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 3)


def test_no_flow_leaves_features_alone():
    features = random_features(1, 3, 8, 16)
    assert torch.equal(warp(features, constant(0, 0, (64, 128))), features)


@pytest.mark.parametrize(('right', 'down'), [(1, 0), (0, 2), (3, -1)])
@pytest.mark.parametrize('stride', [4, 8])
def test_a_flow_of_whole_strides_moves_features_exactly(right, down, stride):
    features = random_features(1, 3, 8, 16)
    size = (8 * stride, 16 * stride)
    moved = warp(features, constant(right * stride, down * stride, size))
    rows = slice(max(-down, 0), 8 - max(down, 0))
    columns = slice(0, 16 - right)
    source = torch.roll(features, (-down, -right), (2, 3))
    assert torch.equal(moved[..., rows, columns], source[..., rows, columns])
    # What would come from outside of the key frame is nothing.
    assert moved.count_nonzero() == moved[..., rows, columns].numel()


def test_half_a_stride_is_the_mean_of_neighbours():
    features = random_features(1, 2, 4, 8)
    moved = warp(features, constant(4, 0, (32, 64)))
    mean = (features[..., :-1] + features[..., 1:]) / 2
    assert torch.equal(moved[..., :-1], mean)


def test_each_axis_has_its_own_stride():
    features = random_features(1, 2, 8, 8)
    moved = warp(features, constant(4, 16, (128, 32)))
    assert torch.equal(moved[..., :-1, :-1], features[..., 1:, 1:])


def test_a_feature_moves_by_the_mean_flow_of_its_pixels():
    features = random_features(1, 2, 4, 4)
    flow = constant(0, 0, (32, 32))
    flow[:, 0, :, 0:8:2] = 16  # in half of the pixels, 8 in the mean
    moved = warp(features, flow)
    assert torch.equal(moved[..., 0], features[..., 1])
    assert torch.equal(moved[..., 1:], features[..., 1:])


def test_any_size_and_precision_will_do():
    features = random_features(2, 3, 7, 11)
    flow = constant(8, 0, (56, 88)).expand(2, -1, -1, -1)
    moved = warp(features, flow)
    assert torch.allclose(moved[..., :-1], features[..., 1:], atol=1e-5)
    half = warp(features.half(), flow)
    assert half.dtype == torch.half
    assert torch.allclose(half.float(), moved, atol=1e-2)


@pytest.mark.parametrize('preset', PRESETS)
def test_flow_points_from_the_frame_back_to_the_key_frame(preset):
    key = texture()
    frame = np.roll(key, (2, 5), (0, 1))  # it moves down and to the right
    flow = dis_flow(frame, key, preset)
    assert flow.shape == (1, 2, 128, 128)
    x, y = flow[0, :, 32:96, 32:96].flatten(1).median(1).values
    assert float(x) == pytest.approx(-5, abs=0.5)
    assert float(y) == pytest.approx(-2, abs=0.5)


@pytest.mark.parametrize('preset', PRESETS)
def test_nothing_flows_between_equal_frames(preset):
    assert not dis_flow(texture(), texture(), preset).any()


def test_normalisation_is_undone():
    image = torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8)
    preprocessor = ImgDataPreprocessor(
        mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True
    )
    inputs = preprocessor(dict(inputs=[image]))['inputs']
    (grey,) = to_grey(inputs, preprocessor)
    assert grey.dtype == np.uint8
    assert np.abs(grey - image.float().mean(0).numpy()).max() <= 0.51


def test_images_that_were_not_normalised_are_taken_as_they_are():
    images = torch.tensor([-3.0, 7.4, 300.0]).view(1, 1, 1, 3)
    assert to_grey(images, nn.Identity()).tolist() == [[[0, 7, 255]]]
