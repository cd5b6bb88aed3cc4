"""Models without a plan compute the same, densely and fast."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip.core import layer
from mmskip.native import packed as kernels
from mmskip.plan import PackedConv2d, PlanarConv3d
from tests.sof_net.nets import build, tsn_config

pytest.importorskip('mmaction')


@pytest.fixture(autouse=True)
def small_ones_are_packed(monkeypatch):
    monkeypatch.setattr(kernels, 'LEAST', 0)


class Block(nn.Module):
    """What a network of images does, and some that cannot be packed."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(8, 8, 3, padding='same')
        self.third = nn.Conv2d(8, 8, 1)
        self.last = nn.SiLU()

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        return self.last(self.third(x + self.second(x)))


class Clips(nn.Module):
    """A factorised convolution of clips, and one that is not."""

    def __init__(self):
        super().__init__()
        self.space = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1))
        self.act = nn.ReLU()
        self.time = nn.Conv3d(8, 8, (3, 1, 1), (2, 1, 1), padding=(1, 0, 0))
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.wide = nn.Conv3d(8, 8, (1, 3, 3), padding=1)
        self.cube = nn.Conv3d(8, 4, 3)

    def forward(self, x):
        x = self.pool(self.time(self.act(self.space(x))))
        return self.cube(self.wide(x))


class Seldom(nn.Sequential):
    """Activations that oneDNN is not asked for."""

    def __init__(self):
        convs = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)]
        acts = [nn.ReLU6(), nn.Hardswish(), nn.LeakyReLU(0.1)]
        super().__init__(
            *[m for both in zip(convs, acts, strict=True) for m in both]
        )


@pytest.mark.parametrize(
    ('net', 'shape', 'packed', 'taken'),
    [
        (Block, (2, 3, 9, 11), 2, 2),
        (Clips, (2, 3, 7, 12, 14), 2, 1),
        (Seldom, (2, 3, 9, 11), 3, 3),
    ],
)
@torch.no_grad()
def test_results_stay(net, shape, packed, taken):
    torch.manual_seed(0)
    model, x = net().eval(), torch.randn(shape)
    expected = model(x)
    with mmskip.count_macs(model) as before:
        model(x)

    report = mmskip.accelerate(model)

    torch.testing.assert_close(model(x), expected)
    with mmskip.count_macs(model) as after:
        model(x)
    assert after.total() == before.total()
    text = str(report)
    assert f'{packed} convolutions run on oneDNN' in text
    assert f'{taken} of them with their activation' in text


@torch.no_grad()
def test_only_plain_zero_padded_layers_are_packed():
    image, clip = Block().eval(), Clips().eval()
    for model in (image, clip):
        mmskip.accelerate(model)
    assert type(image.first) is PackedConv2d
    assert type(image.second) is nn.Conv2d
    assert isinstance(image.act, nn.Identity)
    assert type(clip.space) is PlanarConv3d
    assert clip.space.packed is not None
    # It pads in time, which its 2-D convolution would not.
    assert clip.wide.packed is None
    assert type(clip.cube) is nn.Conv3d


def test_an_accelerated_model_can_still_learn():
    model = Block().eval()
    mmskip.accelerate(model)
    model(torch.randn(1, 3, 8, 8)).sum().backward()
    assert model.first.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_single_images_and_copies_work():
    model = Block().eval()
    mmskip.accelerate(model)
    x = torch.randn(2, 3, 8, 8)
    y = model(x)
    twin = copy.deepcopy(model)
    twin.first.weight.mul_(2)
    torch.testing.assert_close(model(x), y)
    torch.testing.assert_close(model.first(x[0]), model.first(x)[0])
    assert not torch.equal(twin(x), y)


@torch.no_grad()
def test_frames_of_a_recognizer_run_in_turns(monkeypatch):
    monkeypatch.setitem(layer.TOGETHER, 3, 2 * 3 * 32 * 32)
    model = build(tsn_config()).float()
    x = torch.randn(5, 3, 32, 32)
    expected = model.backbone(x)
    report = mmskip.accelerate(model)
    sizes = []
    model.backbone.conv1.register_forward_hook(
        lambda m, inputs, y: sizes.append(len(y))
    )
    torch.testing.assert_close(model.backbone(x), expected)
    assert sizes == [2, 2, 1]
    assert 'a few samples at a time' in str(report)


@torch.no_grad()
def test_frames_that_mix_run_together(monkeypatch):
    monkeypatch.setitem(layer.TOGETHER, 3, 2 * 3 * 32 * 32)
    cfg = tsn_config()
    cfg['backbone'] = dict(type='ResNetTSM', depth=18, num_segments=4)
    cfg['cls_head']['in_channels'] = 512
    model = build(cfg).float()
    x = torch.randn(4, 3, 32, 32)
    expected = model.backbone(x)
    mmskip.accelerate(model)
    torch.testing.assert_close(
        model.backbone(x), expected, rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_an_accelerated_model_can_be_exported():
    model, x = Block().eval(), torch.randn(2, 3, 9, 11)
    expected = model(x)
    mmskip.accelerate(model)

    traced = torch.jit.trace(model, x)

    torch.testing.assert_close(traced(x), expected)
    assert 'mmskip::' not in str(traced.inlined_graph)
