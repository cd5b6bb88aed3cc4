"""Tiny networks that carry the closed form of their own MACs."""

from types import MappingProxyType

import torch
from torch import nn

import mmskip
from mmskip.skip_conv import InputNormGate
from tests.helpers.convs import whole_weights


class TinyNet(nn.Module):
    """Three convolutions with in-place ReLUs between, and a linear layer.

    MACs of a convolution are positions x channels x fan-in.
    """

    shape = (3, 16, 16)
    macs = MappingProxyType(
        {
            'stem': 8 * 8 * 8 * (3 * 9),
            'body': 8 * 8 * 8 * (4 * 9),
            'head': 8 * 8 * 4 * 8,
            'classifier': 5 * 4,
        }
    )
    dense = sum(macs.values())
    # One per input element, and kernel size x output positions.
    gate_macs = MappingProxyType(
        {
            'stem': 3 * 16 * 16 + 9 * 64,
            'body': 8 * 64 + 9 * 64,
            'head': 8 * 64 + 1 * 64,
        }
    )

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Conv2d(8, 4, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(self.body(x))
        return self.classifier(self.head(x).sum((2, 3)))


class PyramidNet(nn.Module):
    """One head shared by three levels, as in dense detectors."""

    shape = (2, 8, 12)
    positions = (8 * 12, 4 * 6, 2 * 3)
    dense = 4 * positions[0] * 2 * 9 + 3 * sum(positions) * 4 * 9
    gate_macs = (2 + 9) * positions[0] + (4 + 9) * sum(positions)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        levels = x, x[..., ::2, ::2], x[..., ::4, ::4]
        return [self.shared(level).relu_() for level in levels]


class FlipTest(nn.Module):
    """Runs a network on the image and on its mirror image."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x), self.net(x.flip(-1))


class Windows(nn.Module):
    """Two 3-D convolutions over windows of a video."""

    shape = (3, 4, 16, 16)
    dense = 4 * (4 * 8 * 8) * (3 * 27) + 2 * (2 * 8 * 8) * (4 * 3)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(3, 4, 3, (1, 2, 2), padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.Conv3d(4, 2, (3, 1, 1), (2, 1, 1), (1, 0, 0))

    def forward(self, x):
        return self.pool(self.relu(self.stem(x)))


class Tokens(nn.Module):
    """Linear layers over tokens in rolled windows, which are then merged.

    MACs of a linear layer are tokens x features x features of a result.
    """

    shape = (3, 12, 20)
    macs = MappingProxyType(
        {
            'patches': 60 * 4 * (3 * 4),
            'mix': 60 * 4 * 6,
            'project': 60 * 6 * 4,
            'merge': 15 * 16 * 5,
        }
    )
    dense = sum(macs.values())
    # One per feature of a token, and one per token.
    gate_macs = MappingProxyType(
        {
            'patches': 3 * 12 * 20 + 4 * 60,
            'mix': (4 + 1) * 60,
            'project': (6 + 1) * 60,
            'merge': (16 + 1) * 15,
        }
    )

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 2, 2)
        self.mix = nn.Linear(4, 6)
        self.project = nn.Linear(6, 4, bias=False)
        self.merge = nn.Linear(16, 5)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        rolled = x.roll((-1, -2), (1, 2))
        windows = rolled.unflatten(2, (2, 5)).unflatten(1, (2, 3))
        windows = windows.transpose(2, 3).flatten(3, 4).flatten(0, 2)
        windows = self.project(self.mix(windows).relu_())
        windows = windows.unflatten(0, (-1, 2, 2)).unflatten(3, (3, 5))
        mixed = windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        x = x + mixed.roll((1, 2), (1, 2))
        corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.merge(torch.cat(corners, -1).flatten(1, 2))


SETTINGS = ('threshold', 'block', 'gate', 'memory', 'activation')
SETTINGS += ('weight', 'weight in place', 'bias')


def change_setting(layer, setting, value):
    """Change a setting of a converted layer, as a user may at any time."""
    if setting == 'threshold':
        layer.gate.threshold = value
    elif setting == 'block':
        layer.gate.block_size = 8
    elif setting == 'gate':
        layer.gate = InputNormGate(threshold=value, order=2)
    elif setting == 'memory':
        layer.memory = 'accumulated'
    elif setting == 'activation':
        layer.activation = 'silu'
    elif setting == 'weight in place':
        layer.weight.data.mul_(value)
        layer.weight.add_(0)  # counts the write
    else:
        new = value * getattr(layer, setting)
        setattr(layer, setting, nn.Parameter(new))


NETS = {'2d': TinyNet, 'pyramid': PyramidNet, '3d': Windows, 'tokens': Tokens}


def skipping(net, threshold=0.0, gate='OutputNormGate', block=1, **options):
    """Give a network integer weights, convert it, and return it."""
    gate = dict(type=gate, threshold=threshold, block_size=block)
    options.setdefault('linear', isinstance(net, Tokens))
    whole_weights(net).eval()
    mmskip.convert(net, mmskip.SkipConversion(gate, **options))
    return net
