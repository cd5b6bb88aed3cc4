"""Folded batch norms change the time, and nothing else."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip.plan import fold_batch_norms
from tests.helpers.convs import make_video
from tests.helpers.runs import run_stream


def lively(norm):
    """A norm that has seen data: channels differ by orders of magnitude."""
    channels = norm.num_features
    norm.running_mean.normal_()
    norm.running_var.copy_(torch.logspace(-2, 2, channels))
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


class Net(nn.Module):
    shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = lively(nn.BatchNorm2d(8))
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, groups=2, padding=1),
            lively(nn.BatchNorm2d(8, affine=False)),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Conv2d(8, 4, 1)
        self.eval()

    def forward(self, x):
        x = self.stem_norm(self.stem(x)).relu_()
        return self.head(self.body(x))


def gate_of(kind, relative):
    return dict(type=kind, threshold=0.1, relative=relative)


def close(found, expected):
    return all(
        (a - b).abs().max() <= 1e-4 * b.abs().max()
        for (a,), (b,) in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize('kind', ['OutputNormGate', 'InputNormGate'])
@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
@pytest.mark.parametrize('backend', ['reference', None])
def test_a_folded_stream_fires_and_computes_as_before(
    kind, relative, memory, backend, monkeypatch
):
    if backend is not None:
        monkeypatch.setenv('MMSKIP_BACKEND', backend)
    net = Net()
    gate = gate_of(kind, relative)
    mmskip.convert(net, mmskip.SkipConversion(gate, memory=memory))
    video = make_video(6, 2, *Net.shape, share=0.05)
    expected, macs = run_stream(net, video)

    names, _ = fold_batch_norms(net)
    found, folded_macs = run_stream(net, video)

    assert names == ['stem', 'body.0']
    assert isinstance(net.stem_norm, nn.Identity)
    assert folded_macs.total() == macs.total()
    assert 0 < macs.total().executed < macs.total().dense
    assert close(found, expected)


def test_a_model_that_is_not_converted_computes_the_same():
    net = Net()
    folded = copy.deepcopy(net)
    fold_batch_norms(folded)
    x = torch.randn(2, *Net.shape)

    assert torch.allclose(folded(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_model_in_training_is_refused():
    with pytest.raises(ValueError, match='got stem_norm in training mode'):
        fold_batch_norms(Net().train())


def test_a_channel_that_is_silenced_keeps_its_norm_before_an_output_gate():
    net = Net()
    nn.init.zeros_(net.stem_norm.weight[:1])
    gate = gate_of('OutputNormGate', False)
    mmskip.convert(net, mmskip.SkipConversion(gate))

    folded, left = fold_batch_norms(net)

    assert folded == ['body.0']
    assert 'silences' in left['stem_norm']


def test_what_is_shared_or_ordered_otherwise_stays():
    cnn = pytest.importorskip('mmcv.cnn')
    shared = nn.Conv2d(3, 3, 1)
    net = nn.Sequential(
        nn.Sequential(shared, lively(nn.BatchNorm2d(3))),
        nn.Sequential(shared, lively(nn.BatchNorm2d(3))),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
        cnn.ConvModule(
            3, 3, 1, norm_cfg=dict(type='BN'), order=('conv', 'act', 'norm')
        ),
        cnn.ConvModule(3, 3, 1, norm_cfg=dict(type='BN')),
    ).eval()

    folded, left = fold_batch_norms(net)

    assert folded == ['4.conv']
    assert list(left) == ['0.1', '1.1', '2.2', '3.bn']
