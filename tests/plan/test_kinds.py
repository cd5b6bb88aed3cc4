"""Sums, enlarged images and activations are found, and are what they were."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmskip.native import library as native
from mmskip.plan.graph import trace
from mmskip.plan.kinds import affine as what_a_norm_does
from mmskip.plan.kinds import find_sums, is_anywhere
from mmskip.plan.record import compute
from tests.helpers.twins import SHAPE, eventful, twins

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


class Net(nn.Module):
    """Sums up what a function makes of images of three sizes."""

    def __init__(self, function):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(10))
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.silu = nn.SiLU()
        self.up = nn.Upsample(scale_factor=2)
        self.norm = nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        self.bias = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.place = nn.Parameter(torch.randn(1, 4, 12, 12))
        self.function = function

    def forward(self, x):
        images = [conv(x) for conv in self.convs]
        small = self.down(x)
        return self.last(self.function(self, images, small, self.down(small)))


def left(net, x, *_):
    return net.relu(x[0] + x[1] + x[2])


def right(net, x, *_):
    return x[0] + (x[1] + x[2])


def pairs(net, x, *_):
    return (x[0] + x[1]) + (x[2] + x[3])


def many(net, x, *_):
    return sum(x)


def twice(net, x, *_):
    y = x[0] + x[1]
    return net.relu(y + y)


def shared(net, x, *_):
    y = x[0] + x[1]
    net.relu(y)
    return y + y


def enlarged(net, x, small, tiny):
    return net.relu(
        x[0] + F.interpolate(small, scale_factor=2) + net.up(net.up(tiny))
    )


def enlarged_twice(net, x, small, _):
    large = net.up(small)
    return large + large


def by_size(net, x, small, _):
    return x[0] + F.interpolate(small, size=x[0].shape[2:])


def bilinear(net, x, small, _):
    return x[0] + F.interpolate(small, None, 2, 'bilinear')


def exact(net, x, small, _):
    return x[0] + F.interpolate(small, scale_factor=2, mode='nearest-exact')


def not_quite_4(net, x, small, tiny):
    return x[0] + F.interpolate(tiny, scale_factor=4.3)[..., :12, :12]


def numbers(net, x, *_):
    return net.relu(x[0] + x[0].shape[1] + 0) + 0.5


def of_a_parameter(net, x, *_):
    return (x[0] + net.bias) * net.bias + net.place


def times_a_place(net, x, *_):
    return x[0] * net.place


def broadcast(net, x, *_):
    return x[0] + x[1].mean((2, 3), keepdim=True)


def scaled(net, x, *_):
    return torch.add(x[0], x[1], alpha=2) + x[2].add(x[3])


def normed(net, x, *_):
    return net.relu(net.norm(x[0] + x[1] + x[2]))


def norm_alone(net, x, *_):
    return net.norm(x[0])


def norm_of_a_shared_sum(net, x, *_):
    y = x[0] + x[1]
    return y * net.silu(net.norm(y))


def shared_norm(net, x, *_):
    y = net.norm(x[0] + x[1])
    return y + net.silu(y)


NORMS = normed, norm_alone, norm_of_a_shared_sum, shared_norm

FUNCTIONS = (
    left,
    right,
    pairs,
    many,
    twice,
    shared,
    enlarged,
    enlarged_twice,
    by_size,
    bilinear,
    exact,
    not_quite_4,
    numbers,
    of_a_parameter,
    times_a_place,
    broadcast,
    scaled,
)


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('function', FUNCTIONS)
def test_sums_are_those_of_the_stream(function, batch):
    both = twins(Net(function), dict(type='InputNormGate', threshold=0.1))

    both.watch(eventful(batch, *SHAPE[1:]))

    assert len(both.plans) == 1


@pytest.mark.parametrize('function', NORMS)
def test_norms_are_those_of_torch_up_to_rounding(function):
    # To the last bit where the CPU multiplies and adds at once.
    both = twins(Net(function), tolerance=1e-5)

    both.watch(eventful(2, *SHAPE[1:]))

    assert len(both.plans) == 1


@pytest.mark.parametrize('affine', [True, False])
def test_what_a_norm_multiplies_by_and_adds(affine):
    norm = nn.BatchNorm2d(4, affine=affine).eval()
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.running_mean)
    x = torch.randn(SHAPE)

    scale, shift = (v[:, None, None] for v in what_a_norm_does(norm))

    torch.testing.assert_close(x * scale + shift, norm(x))


def test_silu_is_that_of_torch_up_to_rounding():
    both = twins(Net(lambda net, x, *_: net.silu(x[0] + x[1])), tolerance=1e-5)

    both.watch(eventful(*SHAPE))


def found_of(function):
    """How many terms and which activation the sums of a function have."""
    net = Net(function).eval()
    x = torch.randn(SHAPE)
    graph = trace(net, (x,), {})
    values = {}
    for node in graph.nodes:
        if node.op == 'placeholder':
            values[node] = x
        elif node.op != 'output':
            values[node] = compute(node, net, values.__getitem__)
    sums, absorbed = find_sums(graph, net, values)
    found = [
        (len(s.terms), *([s.norm] if s.norm else []), s.activation)
        for s in sums.values()
    ]
    return found, absorbed


@pytest.mark.parametrize(
    ('function', 'sums', 'between'),
    [
        (left, [(3, 'relu')], 2),
        (right, [(3, None)], 1),
        (pairs, [(3, None), (2, None)], 1),
        (twice, [(2, 'relu'), (2, None)], 1),
        (shared, [(2, None), (2, 'relu')], 1),
        (enlarged, [(3, 'relu'), (1, None)], 4),
        (bilinear, [(2, None)], 0),
        (exact, [(2, None)], 0),
        (not_quite_4, [(2, None)], 0),
        (times_a_place, [], 0),
        (normed, [(3, 'norm', 'relu')], 3),
        (norm_alone, [(1, 'norm', None)], 0),
        (norm_of_a_shared_sum, [(1, 'norm', 'silu'), (2, None)], 1),
        (shared_norm, [(2, None), (1, 'silu'), (2, 'norm', None)], 1),
    ],
)
def test_one_step_takes_as_many_terms_as_keep_their_order(
    function, sums, between
):
    found, absorbed = found_of(function)

    assert found == sums
    assert len(absorbed) == between


def test_more_terms_than_a_step_takes_are_left_in_parts():
    found, _ = found_of(many)

    assert max(terms for terms, _ in found) == 8


@pytest.mark.parametrize(
    ('shape', 'anywhere'),
    [
        ((), True),
        ((1, 1, 1, 1), True),
        ((1, 4, 1, 1), True),
        ((4, 1, 1), True),
        ((1, 4, 12, 12), False),
        ((2, 4, 1, 1), False),
        ((4,), False),
        ((4, 1), False),
    ],
)
def test_constants_that_are_the_same_at_all_positions(shape, anywhere):
    assert is_anywhere(torch.zeros(shape)) == anywhere
