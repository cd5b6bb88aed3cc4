"""Which convolutions are factorised, alone and with another method."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip import SkipConversion, SVDConversion
from mmskip.compression import FactorizedConv
from mmskip.skip_conv import ClipBinding, SkipConv2d
from tests.helpers.convs import make_video, whole_weights
from tests.helpers.nets import TinyNet
from tests.helpers.runs import run_clip, run_dense, run_stream, same

# Of the layers of Net at rank 4: first, second and what they stand for.
MACS = {
    'stem': (8 * 16 * 4 * 3 * 3, 8 * 8 * 8 * 4 * 3, 8 * 8 * 8 * 3 * 9),
    'body': (8 * 8 * 4 * 8 * 3, 8 * 8 * 6 * 4 * 3, 8 * 8 * 6 * 8 * 9),
    'head': (8 * 8 * 4 * 6, 8 * 8 * 4 * 4, 8 * 8 * 4 * 6),
}
RANKS = dict.fromkeys(MACS, 4)
OPEN = dict(type='OutputNormGate', threshold=-1.0)


class Net(nn.Module):
    """Three convolutions with in-place ReLUs between, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 4, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(self.body(x))
        return self.classifier(self.head(x).sum((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def exact():
    """Factors of integers, with which every sum is exact."""
    net = Net().eval()
    mmskip.convert(net, SVDConversion(ranks=RANKS))
    return whole_weights(net)


def test_the_report_names_what_stays(net):
    report = mmskip.convert(net, SVDConversion(ranks={'body': 4}))

    assert report.converted == ['body']
    assert report.left_dense == {
        'stem': 'no rank is given for it',
        'head': 'no rank is given for it',
        'classifier': 'not a convolution',
    }


@pytest.mark.parametrize(
    ('layer', 'method', 'reason'),
    [
        (nn.Conv2d(4, 4, 3, groups=2), 'spatial', 'grouped'),
        (nn.Conv2d(4, 4, 3, groups=4), 'weight', 'grouped'),
        (nn.Conv3d(4, 4, 3), 'spatial', 'not of images'),
        (nn.ConvTranspose2d(4, 4, 2), 'weight', 'transposed'),
        (nn.LazyConv2d(4, 3), 'weight', 'not a class known'),
        (nn.Conv2d(4, 1, 1), 'weight', 'rank 1 costs more than macs=0.5'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_cannot_be_factorised_stays_with_a_reason(
    net, layer, method, reason
):
    net.odd = layer
    kind = type(layer)

    report = mmskip.convert(net, SVDConversion(method, macs=0.5))

    assert reason in report.left_dense['odd']
    assert type(net.odd) is kind


@pytest.mark.parametrize('method', ['spatial', 'weight'])
@pytest.mark.parametrize('share', [0.3, 0.5, 1.0])
def test_a_share_of_macs_is_kept_by_every_layer(net, method, share):
    mmskip.convert(net, SVDConversion(method, macs=share))

    _, macs = run_dense(net, [torch.randn(2, 3, 16, 16)])

    for name, count in macs.by_module().items():
        layer = net.get_submodule(name)
        if isinstance(layer, FactorizedConv):
            assert count.executed <= share * count.dense
            # One more rank would be too many.
            more = count.executed * (layer.rank + 1) / layer.rank
            assert more > share * count.dense or layer.rank == 4


def test_a_plain_checkpoint_loads_strictly(net):
    state = {k: torch.randn_like(v) for k, v in net.state_dict().items()}
    plain, x = Net().eval(), torch.randn(1, 3, 16, 16)
    plain.load_state_dict(state)
    mmskip.convert(plain, SVDConversion(ranks=RANKS))
    mmskip.convert(net, SVDConversion(ranks=RANKS))

    net.load_state_dict(state, strict=True)

    assert torch.equal(net(x), plain(x))


@pytest.mark.parametrize('method', ['spatial', 'weight'])
def test_revert_gives_a_plain_model_with_the_same_outputs(net, method):
    x = torch.randn(2, 3, 16, 16)
    keys, text = list(net.state_dict()), str(net)
    mmskip.convert(net, SVDConversion(method, macs=0.6))
    expected = net(x)

    mmskip.revert(net)

    assert (list(net.state_dict()), str(net)) == (keys, text)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
@pytest.mark.parametrize('run', [run_stream, run_clip])
def test_factors_skip_and_with_open_gates_equal_the_factorised_model(
    exact, memory, run
):
    video = make_video(4, 2, 3, 16, 16)
    expected, plain = run_dense(exact, video)
    report = mmskip.convert(exact, SkipConversion(OPEN, memory=memory))

    outputs, macs = run(exact, video)

    assert report.converted == [
        f'{name}.{part}' for name in MACS for part in ('first', 'second')
    ]
    assert same(outputs, expected)
    layers = macs.by_module()
    assert list(layers) == list(plain.by_module())
    for name, (first, second, dense) in MACS.items():
        count = layers[name]
        assert count.dense == 8 * dense
        assert count.executed == 8 * (first + second)
        assert count.reference == 2 * (first + second)
    assert macs.uncounted() == {}


def test_a_still_video_costs_the_factors_once(exact):
    gate = dict(type='InputNormGate', threshold=0.0)
    mmskip.convert(exact, SkipConversion(gate))
    frame = make_video(1, 1, 3, 16, 16)[0]

    _, macs = run_stream(exact, [frame] * 5)

    total = macs.total()
    once = sum(first + second for first, second, _ in MACS.values())
    assert total.executed == once + 5 * 20
    assert total.dense == 5 * (sum(m[2] for m in MACS.values()) + 20)
    assert total.overhead > 0


def test_revert_undoes_both_conversions(exact):
    x = torch.randn(1, 3, 16, 16)
    expected = exact(x)
    mmskip.convert(exact, SkipConversion(OPEN))

    mmskip.revert(exact)

    assert str(exact) == str(Net().eval())
    torch.testing.assert_close(exact(x), expected)


def test_a_skip_convolution_is_not_factorised_afterwards(net):
    mmskip.convert(net, SkipConversion(OPEN))

    with pytest.raises(ValueError, match='converted already'):
        mmskip.convert(net, SVDConversion(macs=0.5))
    assert type(net.stem) is SkipConv2d


def test_revert_waits_for_the_end_of_a_count(exact):
    with mmskip.count_macs(exact), pytest.raises(RuntimeError):
        mmskip.revert(exact)


@pytest.mark.parametrize(
    ('ranks', 'reason'),
    [
        ({'trunk': 2}, 'trunk, which cannot be converted: the model has no'),
        ({'classifier': 2}, 'classifier.*: not a convolution'),
        ({'head': 5}, 'head.*: its full rank is 4, less than 5'),
    ],
)
def test_ranks_that_cannot_be_are_refused_before_any_change(
    net, ranks, reason
):
    with pytest.raises(ValueError, match=reason):
        mmskip.convert(net, SVDConversion(ranks={'body': 2, **ranks}))

    assert type(net.body) is nn.Conv2d


@pytest.mark.parametrize(
    'options',
    [
        dict(method='tensor', macs=0.5),
        dict(),
        dict(macs=0.5, ranks={'a': 1}),
        dict(macs=0.0),
        dict(macs=1.5),
        dict(ranks={'a': 0}),
        dict(ranks={'a': 0.5}),
    ],
    ids=str,
)
def test_a_faulty_option_is_found_before_there_is_a_model(options):
    with pytest.raises(ValueError, match='expected'):
        SVDConversion(**options)


def test_grouped_layers_of_a_network_stay():
    report = mmskip.convert(TinyNet(), SVDConversion(macs=0.5))

    assert list(report.left_dense) == ['body', 'classifier']


def test_factors_are_factorised_in_turn(net):
    x = torch.randn(2, 3, 16, 16)
    expected, plain = net(x), str(net)
    mmskip.convert(net, SVDConversion('weight', ranks={'body': 6}))
    mmskip.convert(net, SVDConversion('spatial', ranks={'body.first': 18}))

    output, macs = run_dense(net, [x])

    torch.testing.assert_close(output[0][0], expected)
    count = macs.by_module()['body']
    positions = 2 * 8 * 8
    vertical, horizontal = 18 * 8 * 3, 6 * 18 * 3
    assert count.executed == positions * (vertical + horizontal + 6 * 6)
    assert count.dense == positions * 6 * 8 * 9
    mmskip.revert(net)
    assert str(net) == plain
    torch.testing.assert_close(net(x), expected)


def test_learned_gates_of_factors_train_on_clips(net):
    mmskip.convert(net.train(), SVDConversion(ranks=RANKS))
    mmskip.convert(net, SkipConversion(dict(type='GumbelGate', bias=1.0)))
    x = torch.randn(2 * 3, 3, 16, 16)

    with mmskip.count_macs(net) as macs, ClipBinding(net, 3) as binding:
        net(x).square().sum().backward()
        costs = list(binding.costs)

    assert all(p.grad is not None for p in net.parameters())
    for name, (first, second, dense) in MACS.items():
        count = macs.by_module()[name]
        assert count.dense == 6 * dense
        assert count.reference == 2 * (first + second)
        assert count.reference <= count.executed <= 6 * (first + second)
    factors = sum(first + second for first, second, _ in MACS.values())
    assert sum(cost.dense for cost in costs) == 4 * factors
