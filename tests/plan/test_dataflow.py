"""Norms and activations are paired with layers by what reads what."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import mmskip
from mmskip.plan import find_readers, fold_activations, fold_batch_norms
from tests.helpers.convs import make_video
from tests.helpers.runs import run_stream
from tests.helpers.stir import is_norm, stir


def conv(channels=4, outputs=4):
    return nn.Conv2d(channels, outputs, 3, padding=1)


class Parts(nn.Module):
    """Two convolutions, two norms and a ReLU, in the order conv, norm."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = conv(), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = conv(), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)


class PreActivation(Parts):
    """ResNet v2: norm, ReLU, convolution."""

    def forward(self, x):
        y = self.conv1(self.relu(self.norm1(x)))
        return x + self.conv2(self.relu(self.norm2(y)))


class Crossed(Parts):
    """Each convolution runs before the norm that is defined elsewhere."""

    def forward(self, x):
        return self.norm1(self.conv2(self.norm2(self.conv1(x)).relu_()))


class Dense(Parts):
    """DenseNet: what a convolution returns is kept, too."""

    def forward(self, x):
        y = self.conv1(x)
        z = self.conv2(self.relu(self.norm1(y)))
        return torch.cat([y, self.norm2(z)], 1)


class NormTwice(Parts):
    """A norm reads two layers."""

    def forward(self, x):
        return self.norm1(self.conv1(x)) + self.norm1(self.conv2(x))


class ConvTwice(Parts):
    """A convolution with a norm of its own for each input."""

    def forward(self, x):
        return self.norm1(self.conv1(x)) + self.norm2(self.conv1(x + 1))


class PairTwice(Parts):
    """A convolution is called twice, before the same norm."""

    def forward(self, x):
        return self.norm1(self.conv1(self.norm1(self.conv1(x)).relu()))


class Functional(Parts):
    """A convolution's weights are used elsewhere."""

    def forward(self, x):
        y = F.conv2d(x, self.conv1.weight, padding=1)
        return y + self.norm1(self.conv1(x))


class InPlace(Parts):
    """Something is written into what the norm is about to read."""

    def forward(self, x):
        y = self.conv1(x)
        self.relu(y)
        z = self.conv2(y)
        z += x
        return self.norm1(y) + self.norm2(z)


class Shapes(Parts):
    """Only the size of what a convolution returns is read, too."""

    def forward(self, x):
        y = self.conv1(x)
        return self.norm1(y) + y.shape[2] * y.size(3)


class Optional(Parts):
    """An argument says what is returned."""

    def forward(self, x, raw=False):
        y = self.conv1(x)
        return y if raw else self.norm1(y)


class MaybeNone(Parts):
    """Another input comes between the two, if there is one."""

    def forward(self, x, more=None):
        y = self.conv1(x)
        if more is not None:
            y = y + more
        return self.norm1(y)


class Branches(Parts):
    """There is no norm if there is another input."""

    def forward(self, x, more=None):
        y = self.conv1(x)
        return self.norm1(y) if more is None else y + more


class Asks(Parts):
    """No fixed graph; what is inside is."""

    def __init__(self):
        super().__init__()
        self.body = Crossed()
        self.chain = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x):
        if x.sum() > 1e9:
            return self.conv1(x)
        return self.chain(self.body(self.norm1(self.conv1(x))))


class Opaque(Parts):
    """One part cannot be traced; what surrounds it can."""

    def __init__(self):
        super().__init__()
        self.part = Asks()

    def forward(self, x):
        y = self.part(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(y))


class Taps(nn.Module):
    """Reads between the parts of a Sequential, around what is no graph."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(conv(), nn.BatchNorm2d(4), Asks())

    def forward(self, x):
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return torch.cat(found, 1)


CASES = {
    PreActivation: ['conv1'],
    Crossed: ['conv1', 'conv2'],
    Dense: ['conv2'],
    NormTwice: [],
    ConvTwice: [],
    PairTwice: ['conv1'],
    Functional: [],
    InPlace: [],
    Shapes: ['conv1'],
    Optional: [],
    MaybeNone: [],
    Branches: [],
    Asks: ['body.conv1', 'body.conv2', 'chain.0'],
    Opaque: [
        *('conv1', 'conv2'),
        *('part.body.conv1', 'part.body.conv2', 'part.chain.0'),
    ],
    Taps: ['layers.2.body.conv1', 'layers.2.body.conv2', 'layers.2.chain.0'],
}


def check(net, *folded, **kwargs):
    """Fold a net, which then computes the same."""
    net = stir(net).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    expected = net(x, **kwargs)
    norms = sum(map(is_norm, net.modules()))

    report = mmskip.fold(net)

    torch.testing.assert_close(net(x, **kwargs), expected)
    assert report.norms == list(folded)
    assert (
        sum(map(is_norm, net.modules()))
        == len(report.left)
        == (norms - len(folded))
    )
    return report


@pytest.mark.parametrize(('kind', 'folded'), CASES.items())
def test_a_norm_is_folded_into_what_it_alone_reads(kind, folded):
    report = check(kind(), *folded)

    for name, why in report.left.items():
        assert f'x {why}: ' in str(report)
        assert name in str(report)


@pytest.mark.parametrize('option', [dict(raw=True), dict(raw=False)])
def test_an_option_decides_as_before(option):
    check(Optional(), **option)


@pytest.mark.parametrize('kind', [MaybeNone, Branches])
def test_an_optional_input_stays_where_it_was(kind):
    check(kind(), more=torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize(
    'order', [('norm', 'act', 'conv'), ('norm', 'conv', 'act')]
)
def test_a_conv_module_that_begins_with_its_norm_keeps_it(order):
    cnn = pytest.importorskip('mmcv.cnn')
    module = cnn.ConvModule(4, 4, 1, norm_cfg=dict(type='BN'), order=order)

    check(
        nn.Sequential(module, Asks()), *(f'1.{name}' for name in CASES[Asks])
    )


def test_a_shared_conv_module_is_folded_and_a_shared_conv_is_not():
    cnn = pytest.importorskip('mmcv.cnn')

    def module():
        return cnn.ConvModule(4, 4, 1, norm_cfg=dict(type='BN'))

    one = module()
    apart = [module(), module()]
    apart[1].conv = apart[0].conv
    check(nn.Sequential(one, one, *apart), '0.conv')


class Wrapped(Parts):
    """A convolution and a norm with a module around each."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(conv())
        self.norm1 = nn.Sequential(nn.BatchNorm2d(4))

    def forward(self, x):
        return self.norm1(self.conv1(x))


@pytest.mark.parametrize('watched', ['conv1', 'conv1.0', 'norm1', 'norm1.0'])
@pytest.mark.parametrize('how', ['hook', 'pre-hook', 'forward'])
def test_what_is_watched_stays_as_it_is(watched, how):
    net = Wrapped()
    del net.conv2, net.norm2
    module = net.get_submodule(watched)
    if how == 'hook':
        module.register_forward_hook(lambda m, args, output: 2 * output)
    elif how == 'pre-hook':
        module.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    else:
        forward = module.forward
        module.forward = lambda x: 2 * forward(x)

    check(net)


def test_a_hook_around_both_sees_the_same():
    net = Wrapped()
    del net.conv2, net.norm2
    net.register_forward_hook(lambda m, args, output: 2 * output)

    check(net, 'conv1.0')


@pytest.mark.parametrize(
    'layer',
    [
        parametrizations.weight_norm(conv()),
        parametrizations.spectral_norm(conv()),
        nn.utils.spectral_norm(conv()),
    ],
    ids=['weight norm', 'spectral norm', 'old spectral norm'],
)
def test_a_layer_with_other_weights_than_its_own_stays(layer):
    check(nn.Sequential(layer, nn.BatchNorm2d(4)))


def test_a_layer_that_standardises_its_weights_stays():
    bricks = pytest.importorskip('mmcv.cnn.bricks')
    layer = bricks.conv_ws.ConvWS2d(4, 4, 1)

    check(nn.Sequential(layer, nn.BatchNorm2d(4)))


def test_checkpointing_hides_nothing():
    blocks = pytest.importorskip('mmdet.models.backbones.resnet')
    block = blocks.BasicBlock(4, 4, with_cp=True)

    check(block, 'conv1', 'conv2')
    assert block.with_cp


def test_the_model_is_only_read():
    net = Asks().eval()
    before = {name: id(module) for name, module in net.named_modules()}
    state = {k: v.clone() for k, v in net.state_dict().items()}

    find_readers(net, lambda m: isinstance(m, nn.Conv2d), is_norm)

    assert {n: id(m) for n, m in net.named_modules()} == before
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_folding_twice_is_folding_once():
    net = stir(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)))
    mmskip.convert(
        net, mmskip.SkipConversion(dict(type='OutputNormGate', threshold=0.1))
    )
    x = torch.randn(1, 4, 6, 6)
    expected = net(x)
    assert fold_batch_norms(net)[0] == ['0']

    folded, left = fold_batch_norms(net)

    assert not folded
    assert 'took another' in left['2']
    torch.testing.assert_close(net(x), expected)


class Activated(nn.Module):
    """Convolutions with activations of their own, and a shared one."""

    def __init__(self):
        super().__init__()
        self.act2, self.conv2 = nn.SiLU(), conv()
        self.act1, self.conv1 = nn.ReLU(inplace=True), conv()
        self.conv3, self.norm3, self.shared = (
            conv(),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )

    def forward(self, x):
        y = self.act2(self.conv2(self.act1(self.conv1(x))))
        z = self.shared(self.norm3(self.conv3(y)))
        return self.shared(y + z)


@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
def test_an_activation_is_folded_by_what_it_reads(memory):
    net = stir(Activated())
    gate = dict(type='OutputNormGate', threshold=0.1)
    mmskip.convert(net, mmskip.SkipConversion(gate, memory=memory))
    video = make_video(6, 1, 4, 12, 12, share=0.1)
    expected, macs = run_stream(net, video)

    report = mmskip.fold(net)
    found, folded_macs = run_stream(net, video)

    assert report.norms == ['conv3']
    assert report.activations == ['conv2', 'conv1']
    assert list(report.left) == ['shared']
    assert folded_macs.total() == macs.total()
    for (a,), (b,) in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_activation_stays_if_others_read_what_it_reads():
    class Net(Parts):
        def forward(self, x):
            y = self.conv1(x)
            return self.relu(y + 0) + y

    gate = dict(type='OutputNormGate', threshold=0.1)
    net = Net().eval()
    mmskip.convert(net, mmskip.SkipConversion(gate))

    assert fold_activations(net) == (
        [],
        {'relu': 'it reads something else'},
    )
