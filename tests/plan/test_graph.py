"""What a forward writes, and what it depends on, is in its graph."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmskip.native import library as native
from mmskip.plan.graph import TraceError, find_constants, trace
from tests.helpers.twins import NORM, SHAPE, convert, eventful, twins

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


class Net(nn.Module):
    """Two convolutions, and a forward that is given."""

    def __init__(self, function, **parts):
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.function(self, x)


def write_to_identity(net, x):
    out = net.a(x)
    identity = out
    out = net.b(net.relu(out))
    out += identity
    return net.relu(out), identity


def relu_of_a_name(net, x):
    y = net.a(x)
    net.relu(y)
    return net.b(y), y


def positional_inplace(net, x):
    y = net.a(x)
    F.relu(y, True)
    return net.b(y)


def sum_from_0(net, x):
    y = 0
    for conv in (net.a, net.b):
        y += conv(x)
    return y


def all_operators(net, x):
    y = net.a(x)
    z = y
    z -= x
    z *= 2
    z /= 3
    z **= 2
    z //= 0.1
    z %= 3
    return net.b(y)


def method(net, x):
    y = net.a(x)
    y.clamp_(0, 1)
    y.mul_(2)
    return net.b(y)


def written_after_shape(net, x):
    y = net.a(x)
    size = y.size(1), y.shape[2]
    y += x
    return net.b(y), size


def dead_call(net, x):
    net.b(x)
    return net.b(net.a(x))


WRITES = (
    write_to_identity,
    relu_of_a_name,
    positional_inplace,
    sum_from_0,
    all_operators,
    method,
    written_after_shape,
    dead_call,
)


@pytest.mark.parametrize('function', WRITES)
def test_what_is_written_is_what_later_reads_see(function):
    both = twins(Net(function))
    tolerance = function is all_operators
    both.tolerance = 1e-6 * tolerance

    both.watch(eventful(*SHAPE)[:8])

    assert len(both.plans) == 1


def write_input(net, x):
    x += 1
    return net.b(net.a(x))


def write_slice(net, x):
    y = net.a(x)
    y[:, :2] += 1
    return net.b(y)


def write_after_chunk(net, x):
    y = net.a(x)
    half = torch.chunk(y, 2, 1)[0]
    y += 1
    return half, net.b(y)


def write_view(net, x):
    y = net.a(x)
    view = net.part(y)
    view += 1
    return view, net.b(y)


def write_function(net, x):
    y = net.a(x)
    torch.relu_(y)
    return net.b(y)


def write_out(net, x):
    y = net.a(x)
    torch.add(y, 1, out=y)
    return net.b(y)


def fill(net, x):
    y = net.a(x)
    y.zero_()
    return net.b(y)


def copy_into(net, x):
    y = net.a(x)
    y.copy_(x)
    return net.b(y)


def write_of_a_getattr(net, x):
    y = net.a(x)
    y.data.add_(1)
    return net.b(y)


def branch(net, x):
    return net.b(net.a(x)) if x.max() > 2.5 else net.a(x)


def loop(net, x):
    for _ in range(int(x.max().clamp(1, 3))):
        x = net.a(x)
    return x


def item(net, x):
    return net.b(net.a(x)) * x.max().item()


def number(net, x):
    return net.b(net.a(x)) * float(x.max())


def select(net, x):
    return net.b(net.a(x)), torch.masked_select(x, x > 0)


def places(net, x):
    return net.b(net.a(x)), torch.where(x > 1), x.nonzero()


def ordered(net, x):
    return OrderedDict(a=net.a(x), b=net.b(x))


def only_keywords(net, x):
    return net.b(input=net.a(input=x))


def by_stride(net, x):
    return net.b(net.a(x)) * x.stride(1)


def by_module(net, x):
    return net.b(net.part(net.a(x)))


REFUSED = {
    'input': (write_input, None),
    'slice': (write_slice, None),
    'after chunk': (write_after_chunk, None),
    'module that returns a view': (write_view, nn.Unflatten(1, (2, 2))),
    'module that returns its input': (write_view, nn.AlphaDropout()),
    'function': (write_function, None),
    'out': (write_out, None),
    'zero_': (fill, None),
    'copy_': (copy_into, None),
    'data': (write_of_a_getattr, None),
    'branch': (branch, None),
    'loop': (loop, None),
    'item': (item, None),
    'float': (number, None),
    'masked_select': (select, None),
    'where': (places, None),
    'OrderedDict': (ordered, None),
    'keywords': (only_keywords, None),
    'stride': (by_stride, None),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_no_fixed_graph_is_refused_and_runs_as_before(name):
    function, part = REFUSED[name]
    net = Net(function, **({'part': part} if part else {}))
    both = twins(net)

    with pytest.raises(TraceError):
        trace(both.plain, (torch.zeros(SHAPE),), {})
    both.watch(eventful(*SHAPE)[:8])

    assert not both.plans


@pytest.mark.parametrize(
    'noise',
    [
        lambda net, x: net.a(x) + torch.rand_like(x),
        lambda net, x: net.a(x) + torch.randn(x.shape),
        lambda net, x: F.dropout(net.a(x), training=True),
    ],
)
def test_noise_is_another_in_each_frame(noise):
    net = convert(Net(noise), NORM)

    with pytest.raises(TraceError, match='another in each frame'):
        trace(net, (torch.zeros(SHAPE),), {})


def test_paths_of_mmcv_are_not_taken_for_their_own():
    bricks = pytest.importorskip('mmcv.cnn.bricks')
    net = Net(write_view, part=bricks.DropPath(0.1))

    twins(net).watch(eventful(*SHAPE)[:6])


def test_shapes_are_constants():
    def function(net, x):
        size = x.shape[2:]
        return net.a(x), x.new_ones(x.size(0), 1), size, x.ndim

    graph = trace(convert(Net(function), NORM), (torch.zeros(SHAPE),), {})

    constants = {node.name for node in find_constants(graph)}
    assert {'getattr_1', 'size', 'getattr_2'} <= constants
    assert 'a' not in constants


def test_views_are_taken_in_any_layout():
    both = twins(Net(lambda net, x: (net.a(x), x.view(4, -1), x.view(-1))))

    both.watch(eventful(*SHAPE)[:6])

    assert len(both.plans) == 1
