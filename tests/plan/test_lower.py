"""Each node has the step that suits it, and the right result."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mmskip
from mmskip.native import library as native
from mmskip.plan.steps import NativeSteps, PointStep, WholeStep
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.twins import SHAPE, Twins, convert, eventful, twins

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
GATE = dict(type='InputNormGate', threshold=0.1)
NATIVE, POINT, WHOLE = NativeSteps, PointStep, WholeStep


class Net(nn.Module):
    """Two convolutions, and a function of the first one's output between."""

    def __init__(self, function, part=None):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.part = part or nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.place = nn.Parameter(torch.randn(1, 4, 12, 12))
        self.function = function

    def forward(self, x):
        return self.last(self.function(self, self.first(x), x))


class Attention(nn.Module):
    """Scales an image by its mean."""

    def __init__(self, sigmoid):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.sigmoid = sigmoid

    def forward(self, x):
        return x * self.sigmoid(self.pool(x))


def by_part(net, y, _):
    return net.part(y)


def crop_by_size(net, y, x):
    return y[..., : x.shape[2] - 1, 1 : x.shape[3]]


def swap(net, y, _):
    a, b = y.chunk(2, 1)
    return torch.cat([b, a], 1)


def with_places(net, y, _):
    return torch.cat([y[:, :2], net.place[:, :2].expand(2, -1, -1, -1)], 1)


def pool_by_size(net, y, _):
    padding = [y.shape[-2] % 2, y.shape[-1] % 2]
    return F.max_pool2d(y, 3, stride=2, padding=padding, ceil_mode=True)


def weighted_sum(net, y, x):
    weights = F.relu(net.place[0, 0, 0, :2])
    weights = weights / (weights.sum() + 1e-4)
    return F.silu(sum(weights[i] * z for i, z in enumerate([y, x])))


CASES = {
    'relu': (by_part, None, [NATIVE], 0),
    'sigmoid': (by_part, nn.Sigmoid(), [NATIVE, POINT, NATIVE], 1e-5),
    'norm': (by_part, nn.BatchNorm2d(4), [NATIVE], 1e-6),
    'sigmoid of a norm': (
        by_part,
        nn.Sequential(nn.BatchNorm2d(4), nn.Sigmoid()),
        [NATIVE, POINT, NATIVE],
        1e-5,
    ),
    'norm of the batch': (
        by_part,
        nn.BatchNorm2d(4, track_running_stats=False),
        [NATIVE, WHOLE, NATIVE],
        1e-4,
    ),
    'group norm': (by_part, nn.GroupNorm(2, 4), [NATIVE, WHOLE, NATIVE], 1e-4),
    'pool': (by_part, nn.MaxPool2d(3, 2, 1), [NATIVE], 0),
    'large pool': (by_part, nn.MaxPool2d(13, 1, 6), [NATIVE], 0),
    'narrow pool': (by_part, nn.MaxPool2d((2, 3), (3, 1)), [NATIVE], 0),
    'pool to the edge': (
        by_part,
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        [NATIVE],
        0,
    ),
    'pool by size': (pool_by_size, None, [NATIVE], 0),
    'pool with places': (
        lambda net, y, _: F.max_pool2d(y, 2, return_indices=True)[0],
        None,
        [NATIVE, WHOLE, WHOLE, NATIVE],
        0,
    ),
    'mean': (by_part, Attention(nn.Sigmoid()), [NATIVE], 1e-5),
    'hard factors': (by_part, Attention(nn.Hardsigmoid()), [NATIVE], 1e-5),
    'weighted sum': (weighted_sum, None, [NATIVE], 1e-6),
    'times a number': (
        lambda net, y, _: y * net.place.mean(),
        None,
        [NATIVE],
        1e-6,
    ),
    'dropped path': (
        lambda net, y, x: x + net.part(y),
        nn.Dropout(0.5),
        [NATIVE],
        0,
    ),
    'dilated pool': (
        by_part,
        nn.MaxPool2d(3, 1, 1, dilation=2),
        [NATIVE, WHOLE, NATIVE],
        0,
    ),
    'a place': (
        lambda net, y, _: y * net.place,
        None,
        [NATIVE, WHOLE, NATIVE],
        0,
    ),
    'crop': (
        lambda net, y, _: y[..., 1:-1, ::2],
        None,
        [NATIVE, WHOLE, NATIVE],
        0,
    ),
    'crop by size': (crop_by_size, None, [NATIVE, WHOLE, NATIVE], 0),
    'join': (lambda net, y, x: torch.cat([y, x], 1)[:, 2:6], None, None, 0),
    'swap': (swap, None, None, 0),
    'with places': (with_places, None, None, 0),
    'attention': (
        lambda net, y, _: y * y.mean((2, 3), keepdim=True).sigmoid(),
        None,
        None,
        1e-5,
    ),
    'by another image': (
        lambda net, y, x: y * torch.sigmoid(x),
        None,
        None,
        1e-5,
    ),
    'bilinear': (
        lambda net, y, _: F.interpolate(y, scale_factor=2, mode='bilinear'),
        None,
        [NATIVE, WHOLE, NATIVE],
        1e-5,
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_steps_are_those_of_their_kind_and_right(name):
    function, part, kinds, tolerance = CASES[name]
    both = twins(Net(function, part), GATE, tolerance=tolerance)

    both.watch(eventful(2, *SHAPE[1:]))

    (plan,) = both.plans
    found = [type(step) for step in plan.steps]
    if kinds is not None:
        assert found == kinds
    assert NATIVE in found


@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_a_factor_behind_a_convolution_is_applied_in_each_frame(memory):
    net = Net(lambda net, y, _: y * net.place.mean())
    both = twins(net, GATE, memory, tolerance=1e-6)

    both.watch(eventful(2, *SHAPE[1:]))


def test_a_mean_is_not_computed_anew_in_a_frame_that_is_the_same():
    both = twins(Net(by_part, nn.AdaptiveAvgPool2d(1)), GATE, tolerance=1e-5)
    x = torch.randn(SHAPE)

    both.watch([x, x])

    (plan,) = both.plans
    assert plan._frame.change(plan.convs[1].source) is False


def test_images_whose_number_depends_on_values_run_as_before():
    both = twins(Net(lambda net, y, x: y[x[:, 0, 0, 0] > 0]), GATE)

    both.watch([torch.randn(6, 4, 12, 12) for _ in range(5)])

    assert not both.plans


def test_constants_are_no_change():
    both = twins(Net(lambda net, y, _: y + net.place), GATE)
    x = torch.randn(SHAPE)

    both.watch([x, x, x])

    (plan,) = both.plans
    frame = plan._frame
    assert frame.change(plan.convs[1].source) is False


def test_an_image_that_only_convolutions_read_is_not_kept():
    direct = twins(nn.Sequential(nn.Conv2d(4, 4, 3)), GATE)
    copied = twins(Net(lambda net, y, x: y + x), GATE)

    for both in (direct, copied):
        both.watch(eventful(*SHAPE)[:3])

    assert direct.plans[0].nbytes == 0
    # The copy, and the sum.
    assert copied.plans[0].nbytes == 2 * 4 * 4 * 12 * 12


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('activation', [nn.ReLU, nn.SiLU])
def test_a_folded_model_runs_as_one_step_each(activation, memory):
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        activation(inplace=True),
        nn.Conv2d(8, 4, 3, padding=1),
        nn.BatchNorm2d(4),
    )
    net = convert(net, GATE, memory)
    mmskip.fold(net)
    both = Twins(net, tolerance=1e-5)

    both.watch(eventful(2, 4, 12, 12))

    (plan,) = both.plans
    assert len(plan.steps) == 1
    assert len(plan.convs) == 2
