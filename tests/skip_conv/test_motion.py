from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import mmskip
from mmskip.plan.record import skip_convs
from mmskip.registry import MODELS
from mmskip.skip_conv import HomographyMotion
from tests.helpers.convs import whole_numbers
from tests.helpers.nets import TinyNet, skipping
from tests.helpers.runs import run_stream


@dataclass(frozen=True)
class Given:
    """Motion that is known; None for what cannot be told."""

    x: float | None = 0.0
    interpolate: bool = False

    def estimate(self, previous, current):
        if self.x is None:
            return None
        matrix = np.eye(3)
        matrix[0, 2] = self.x
        return matrix


@dataclass(frozen=True)
class Recorded(Given):
    """Keeps the pairs of images that it gets."""

    pairs: list = field(default_factory=list, compare=False)

    def estimate(self, previous, current):
        self.pairs.append((previous, current))
        return super().estimate(previous, current)


class Features(TinyNet):
    """The convolutions of the tiny network, total stride 2."""

    def forward(self, x):
        return self.head(self.relu(self.body(self.relu(self.stem(x)))))


@pytest.fixture
def pan():
    torch.manual_seed(0)
    image = whole_numbers(1, 3, 16, 40)
    return [image[..., 2 * t :][..., :16] for t in range(4)]


def panned(motion, memory='accumulated', threshold=0.0):
    torch.manual_seed(0)
    motion = motion and dict(type=Given, x=motion)
    return skipping(Features(), threshold, memory=memory, motion=motion)


@pytest.mark.parametrize('memory', ['accumulated', 'previous'])
def test_a_pan_by_whole_strides_is_exact_and_costs_the_bands(pan, memory):
    net = panned(2.0, memory)
    with torch.no_grad():
        dense = [net(x) for x in pan]
    with torch.no_grad(), mmskip.stream(net) as state:
        with mmskip.count_macs(net) as macs:
            for x, expected in zip(pan, dense, strict=True):
                assert torch.equal(net(x), expected)
        columns = {
            site[0]: mask[0, 0].any(0).nonzero().flatten().tolist()
            for site, mask in state.last_masks().items()
        }
    assert state.lost_motion == 0
    # The band that comes in, wider with every kernel, and what was padding.
    assert columns == dict(stem=[0, 7], body=[0, 1, 6, 7], head=[0, 1, 6, 7])
    spent = {n: c.executed - c.reference for n, c in macs.by_module().items()}
    assert spent['stem'] == 3 * Features.macs['stem'] * 2 // 8
    assert spent['body'] <= 3 * Features.macs['body'] * 4 // 8
    assert spent['head'] <= 3 * Features.macs['head'] * 4 // 8
    assert spent['motion.warp'] == 0
    assert macs.uncounted()['Given'] == 3


def test_without_compensation_the_same_pan_costs_everything(pan):
    _, macs = run_stream(panned(None), pan)
    total = macs.by_module()['stem']
    assert total.executed > 0.9 * total.dense


@pytest.mark.parametrize('guess', [None, 1.0, -4.0, 2.3])
def test_threshold_zero_is_dense_whatever_the_estimate(pan, guess):
    net = panned(2.0)
    for layer in (net.stem, net.body, net.head):
        layer.motion = Given(guess)
    with torch.no_grad():
        dense = [net(x) for x in pan]
    with torch.no_grad(), mmskip.stream(net) as state:
        for x, expected in zip(pan, dense, strict=True):
            assert torch.equal(net(x), expected)
    assert state.lost_motion == (3 if guess is None else 0)


def test_a_still_camera_costs_nothing_more():
    torch.manual_seed(0)
    image = whole_numbers(1, *Features.shape)
    video = [image, image.clone(), image.clone()]
    video[2][..., 4:6, 4:6] += 1
    outputs, macs = run_stream(panned(None), video)
    net = skipping(
        panned_weights(),
        memory='accumulated',
        motion=dict(type='HomographyMotion'),
    )
    found, with_motion = run_stream(net, video)
    assert with_motion.total() == macs.total()
    for a, b in zip(outputs, found, strict=True):
        assert torch.equal(a[0], b[0])


def panned_weights():
    torch.manual_seed(0)
    return Features()


def test_a_new_stream_and_a_new_size_forget_the_last_image(pan):
    net = panned(2.0)
    with torch.no_grad(), mmskip.stream(net) as state:
        net(pan[0])
        net(pan[1][..., :12])
        assert state.last_images.shape == (1, 16, 12)
        assert state.shape_changes == 3
        state.reset()
        assert state.last_images is None
        net(pan[2])
        assert all(mask.all() for mask in state.last_masks().values())


def test_interleaved_streams_follow_their_own_motion(pan):
    net = panned(2.0)
    alone, _ = run_stream(net, pan)
    states = mmskip.StreamState(), mmskip.StreamState()
    found = []
    for x in pan:
        found += run_stream(net, [x], states[0])[0]
        run_stream(net, [x.flip(-1)], states[1])
    for a, b in zip(alone, found, strict=True):
        assert torch.equal(a[0], b[0])


def test_clips_and_batches_of_frames_are_refused(pan):
    net = panned(2.0)
    with (
        pytest.raises(RuntimeError, match='it is for streams'),
        mmskip.clip(net, 2),
    ):
        net(torch.cat(pan))
    with (
        pytest.raises(RuntimeError, match='one frame per forward'),
        mmskip.stream(net, num_frames=2),
    ):
        net(torch.cat(pan))


def test_models_without_images_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    net = skipping(net, memory='accumulated', motion=dict(type=Given))
    net.forward = lambda frame: net[0](frame['image'])
    with (
        pytest.raises(RuntimeError, match='expected the images'),
        torch.no_grad(),
        mmskip.stream(net),
    ):
        net(dict(image=torch.zeros(1, 3, 4, 4)))


def textured(height=160, width=240):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width), dtype=np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 2) * 3


def moved(image, matrix):
    size = image.shape[::-1]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(image, np.float64(matrix), size, flags=flags)
    return warped[20:-20, 20:-20]


def estimate(matrix):
    image = textured()
    return HomographyMotion().estimate(
        moved(image, np.eye(3)), moved(image, matrix)
    )


@pytest.mark.parametrize('shift', [(0, 0), (4, 0), (-3, 7), (1, -1)])
def test_shifts_by_whole_pixels_are_found_exactly(shift):
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    assert np.array_equal(estimate(matrix), matrix)


def test_shifts_by_fractions_are_found_as_shifts():
    matrix = np.eye(3)
    matrix[:2, 2] = 1.5, -0.3
    found = estimate(matrix)
    assert np.array_equal(found[:2, :2], np.eye(2))
    assert found[:2, 2] == pytest.approx([1.5, -0.3], abs=0.1)


def test_trembling_by_less_than_a_tenth_of_a_pixel_is_none():
    matrix = np.eye(3)
    matrix[0, 2] = 0.05
    assert np.array_equal(estimate(matrix), np.eye(3))


def test_zoom_is_found_as_a_homography():
    matrix = np.diag([0.95, 0.95, 1.0])
    found = estimate(matrix)
    # Of the whole image, of which 20 pixels were cut off.
    corner = found @ [200, 120, 1]
    expected = 0.95 * (np.array([200, 120]) + 20) - 20
    assert corner[:2] / corner[2] == pytest.approx(expected, abs=0.3)


def test_an_object_that_moves_is_not_the_camera():
    image = textured()
    other = image.copy()
    other[40:80, 60:120] = image[45:85, 60:120]
    found = HomographyMotion().estimate(image, other)
    assert np.array_equal(found, np.eye(3))


def test_images_without_corners_cannot_be_told():
    motion = HomographyMotion()
    flat = np.full((64, 64), 7, np.uint8)
    assert motion.estimate(flat, flat + 1) is None
    noise = np.random.default_rng(0)
    a, b = noise.integers(0, 256, (2, 64, 64), dtype=np.uint8)
    assert motion.estimate(a, b) is None


def test_it_is_registered_and_equal_options_are_one_motion():
    kind = MODELS.get('mmskip.HomographyMotion')
    assert len({kind(), kind(), kind(points=100)}) == 2


@pytest.mark.parametrize('level', [0.0, 1e4])
def test_a_black_or_white_first_frame_does_not_set_the_scale(level, pan):
    shown = []
    for video in (pan, [torch.full_like(pan[0], level), *pan]):
        net = panned(None)
        motion = Recorded()
        for layer in skip_convs(net):
            layer.motion = motion
        run_stream(net, video)
        shown.append(motion.pairs[-3:])

    for expected, found in zip(*shown, strict=True):
        assert all(map(np.array_equal, expected, found))
        assert np.ptp(found[0]) > 200


def test_streams_in_lock_step_have_a_scale_each(pan):
    dark = [x / 100 for x in pan]
    shown = []
    for video in (
        dark,
        [torch.cat(pair) for pair in zip(dark, pan, strict=True)],
    ):
        net = panned(None)
        motion = Recorded()
        for layer in skip_convs(net):
            layer.motion = motion
        run_stream(net, video)
        shown.append(motion.pairs)

    for expected, found in zip(shown[0], shown[1][::2], strict=True):
        assert all(map(np.array_equal, expected, found))
