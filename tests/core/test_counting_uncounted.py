"""What ``count_macs`` sees and cannot count."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import mmskip
from mmskip import MacCount
from mmskip.core.counting import read_apart


class Loose(nn.Module):
    """A product that belongs to no layer, between two that do."""

    def __init__(self, product):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.product = product

    def forward(self, x):
        return self.second(self.product(self.first(x)))


@pytest.mark.parametrize(
    'product',
    [
        lambda x: x @ x.mT @ x,
        lambda x: torch.einsum('bij,bkj,bkl->bil', x, x, x),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: F.linear(x, torch.ones(4, 4)),
        lambda x: F.conv1d(x, torch.ones(5, 5, 1)),
        lambda x: x + x[0, 0] @ torch.ones(4),
    ],
    ids=['matmul', 'einsum', 'attention', 'linear', 'conv', 'dot'],
)
@pytest.mark.parametrize(
    'mode',
    [torch.enable_grad, torch.no_grad, torch.inference_mode],
    ids=lambda mode: mode.__name__,
)
def test_products_outside_of_layers_are_reported_as_uncounted(product, mode):
    net = Loose(product)
    x = torch.randn(2, 5, 4)

    with mode(), mmskip.count_macs(net) as macs:
        counted = [net(x) for _ in range(2)]
        plain = net(x)

    assert macs.uncounted()
    assert all(name.startswith('aten.') for name in macs.uncounted())
    assert macs.total().dense == 3 * 2 * (2 * 5 * 4 * 4)
    assert torch.equal(counted[0], plain)


def test_only_one_forward_is_searched_for_loose_products():
    net = Loose(lambda x: x @ x.mT @ x)

    with torch.no_grad(), mmskip.count_macs(net) as macs:
        net(torch.randn(2, 5, 4))
        once = macs.uncounted()
        net(torch.randn(2, 5, 4))

    assert once == macs.uncounted() == {'aten.bmm': 2}


@pytest.mark.parametrize('fast_path', [True, False])
def test_the_products_of_attention_are_reported_as_uncounted(fast_path):
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, batch_first=True))
    net.train(not fast_path)

    with torch.set_grad_enabled(not fast_path), mmskip.count_macs(net) as macs:
        net(torch.randn(2, 5, 8))

    assert macs.uncounted()
    # The feed-forward network, and the projections.
    assert macs.total().dense == 2 * 5 * (2 * 8 * 2048 + 4 * 8 * 8)


@pytest.mark.parametrize(
    ('layer', 'inputs'),
    [(nn.LSTM(3, 4), 1), (nn.Bilinear(3, 3, 4), 2), (nn.GRU(3, 4), 1)],
    ids=['LSTM', 'Bilinear', 'GRU'],
)
@pytest.mark.parametrize('alone', [True, False])
def test_layers_of_an_unknown_kind_are_reported_by_name(layer, inputs, alone):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, *xs):
            return self.layer(*xs)

    net = layer if alone else Holder()
    with mmskip.count_macs(net) as macs:
        for _ in range(2):
            net(*[torch.randn(2, 3) for _ in range(inputs)])

    # Calls in one forward, as those of products are.
    assert macs.uncounted() == {type(layer).__name__: 1}


def test_deformable_convolutions_are_reported():
    ops = pytest.importorskip('mmcv.ops')
    net = ops.ModulatedDeformConv2dPack(2, 4, 3, padding=1)

    with mmskip.count_macs(net) as macs, torch.no_grad():
        net(torch.randn(1, 2, 6, 6))

    assert macs.uncounted() == {'aten.addmm': 1}
    assert macs.total().dense == 36 * (2 * 9) * (3 * 9)  # of the offsets


def test_normalisation_embedding_and_pooling_are_free_and_not_reported():
    net = nn.Sequential(
        nn.Embedding(7, 4),
        nn.LayerNorm((3, 4)),
        nn.Unflatten(1, (1, 3)),
        nn.BatchNorm2d(1),
        nn.PReLU(),
        nn.AvgPool2d(2),
    )

    with mmskip.count_macs(net) as macs:
        net(torch.zeros(2, 3, dtype=torch.long))

    assert macs.total() == MacCount(0, 0, 0, 0)
    assert macs.uncounted() == {}


def test_reparametrised_layers_are_counted():
    conv = parametrizations.weight_norm(nn.Conv2d(2, 4, 3))
    net = nn.Sequential(conv, parametrizations.spectral_norm(nn.Linear(4, 5)))
    net.eval()

    with mmskip.count_macs(net) as macs:
        net(torch.randn(1, 2, 3, 6))

    assert macs.total().dense == 4 * 4 * 18 + 4 * 4 * 5
    assert macs.uncounted() == {}


def test_an_empty_child_does_not_hide_what_a_block_does_itself():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.shortcut = nn.Sequential()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            y = self.conv(self.shortcut(x))
            return y @ y

    net = nn.Sequential(Block())
    with mmskip.count_macs(net) as macs, torch.no_grad():
        net(torch.randn(1, 2, 4, 4))

    assert macs.total().dense == 16 * 4
    assert macs.uncounted() == {'aten.bmm': 1}


def test_counting_goes_on_after_an_exception_in_mid_forward():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 4)

        def forward(self, x, fail=False):
            x = self.net(x)
            if fail:
                raise ArithmeticError
            return x @ x

    net = Sometimes()
    with mmskip.count_macs(net) as macs:
        with pytest.raises(ArithmeticError):
            net(torch.ones(4, 4), fail=True)
        assert torch.ones(4, 4) @ torch.ones(4, 4) is not None
        net(torch.ones(4, 4))

    assert macs.total().dense == 2 * 4 * 16
    assert macs.uncounted() == {}


@pytest.mark.filterwarnings('error')
def test_a_layer_that_raises_counts_nothing():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4))

    with mmskip.count_macs(net) as macs, pytest.raises(RuntimeError):
        net(torch.ones(1, 4))

    assert set(macs.by_module()) == {'0'}


def test_an_interrupt_does_not_leave_the_search_on():
    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    net = Interrupted()
    with contextlib.suppress(KeyboardInterrupt), mmskip.count_macs(net):
        net(torch.ones(1))

    assert not _get_current_dispatch_mode_stack()


class Apart(nn.Module):
    """Multiplies by the weights of layers that it does not call."""

    def __init__(self):
        super().__init__()
        self.joint, self.other = nn.Linear(4, 6, bias=False), nn.Linear(4, 6)
        self.asked = nn.Linear(4, 6)

    def forward(self, x):
        return self.helper(x.to(self.asked.weight.device))

    def helper(self, x):
        y = F.linear(x, self.joint.weight, bias=torch.ones(6))
        return y + x @ self.other.weight.T + self.asked(x)

    def init_weights(self):
        nn.init.zeros_(self.asked.weight)


@pytest.mark.parametrize(
    'mode',
    [torch.enable_grad, torch.no_grad, torch.inference_mode],
    ids=lambda mode: mode.__name__,
)
def test_a_product_by_the_weight_of_a_layer_counts_as_the_layer(mode):
    net = Apart()
    x = torch.randn(2, 5, 4)

    with mode(), mmskip.count_macs(net) as macs:
        counted = [net(x) for _ in range(3)]
        plain = net(x)

    assert {name: c.dense for name, c in macs.by_module().items()} == {
        'joint': 4 * 2 * 5 * 4 * 6,
        'asked': 4 * 2 * 5 * 4 * 6,
    }
    assert macs.frames == 4 * 2
    assert sum(macs.uncounted().values()) == 1
    assert torch.equal(counted[0], plain)


def test_layers_whose_weights_are_read_are_found_in_any_method():
    net = Apart()

    assert read_apart(net) == [
        (net.joint, net, True),
        (net.other, net, False),
    ]
