"""A converted module and its copy that propagates changes, side by side."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree

import mmskip
from mmskip import StreamState
from mmskip.plan import propagate_changes
from mmskip.plan.plan import Plan

GATES = {
    'input': dict(type='InputNormGate', threshold=0.3),
    'output': dict(type='OutputNormGate', threshold=0.4),
    'order': dict(type='InputNormGate', threshold=0.3, order=2),
    'relative': dict(type='OutputNormGate', threshold=0.3, relative=True),
    'closed at 0': dict(type='InputNormGate', threshold=0.0),
    'open': dict(type='InputNormGate', threshold=-1.0),
    'blocks of 2': dict(type='InputNormGate', threshold=0.3, block_size=2),
    'blocks of 4': dict(type='OutputNormGate', threshold=0.4, block_size=4),
    'blocks of 8': dict(type='InputNormGate', threshold=0.5, block_size=8),
    'residual': dict(type='GumbelGate', gate_input='residual'),
    'magnitude': dict(type='GumbelGate', gate_input='magnitude', block_size=2),
    'frame': dict(type='GumbelGate', gate_input='frame'),
}
NORM = GATES['input']
SHAPE = 1, 4, 12, 12


def flat(tree):
    """Copies of the tensors in lists, tuples and dicts."""
    leaves = _pytree.tree_leaves(tree)
    return [leaf.clone() for leaf in leaves if torch.is_tensor(leaf)]


def convert(net, gate, memory='previous'):
    """Convert a module with gates that mostly wait for a change."""
    mmskip.convert(net.eval(), mmskip.SkipConversion(gate, memory=memory))
    return net


class Twins:
    """Shows two copies of a converted module the same video.

    Args:
        net: Converted.
        states: Of the plain stream and of the one that propagates.
        tolerance: Share of the largest value by which outputs may differ.
    """

    def __init__(self, net, states=None, tolerance=0.0):
        self.plain = net
        self.propagated = copy.deepcopy(net)
        propagate_changes(self.propagated)
        self.tolerance = tolerance
        self.restart(states)

    def restart(self, states=None):
        """Go on with other states, or with new ones."""
        self.states = states or (StreamState(), StreamState())

    @property
    def nets(self):
        return self.plain, self.propagated

    @property
    def plans(self):
        """What runs as steps."""
        plans = self.states[1].plans.values()
        return [plan for plan in plans if isinstance(plan, Plan)]

    def both(self, function):
        """Do the same to both."""
        for net in self.nets:
            function(net)

    @torch.no_grad()
    def show(self, *inputs, num_frames=1, **options):
        """Show both a frame, and check what they make of it.

        Tensors are copied first; other inputs are passed as they are.

        Returns:
            The tensors that the propagated one returns, copies.
        """
        results = []
        for net, state in zip(self.nets, self.states, strict=True):
            with mmskip.stream(net, state, num_frames):
                results.append(net(*copy.deepcopy(inputs), **options))
        self.check(*results)
        return flat(results[1])

    @torch.no_grad()
    def count(self, *inputs):
        """The same, while MACs are counted."""
        results, counted = [], []
        for net, state in zip(self.nets, self.states, strict=True):
            with mmskip.count_macs(net) as macs, mmskip.stream(net, state):
                results.append(net(*copy.deepcopy(inputs)))
            counted.append(
                (
                    macs.by_module(),
                    macs.uncounted(),
                    macs.frames,
                    macs.per_frame(),
                )
            )
        self.check(*results)
        assert counted[0] == counted[1]
        return counted[0][0]

    def check(self, expected, found):
        """Whether outputs and masks are the same."""
        assert type(expected) is type(found)
        for a, b in zip(flat(found), flat(expected), strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            if self.tolerance:
                limit = self.tolerance * max(b.abs().max().item(), 1e-6)
                assert (a - b).abs().max() <= limit
            else:
                assert torch.equal(a, b)
        masks, others = [state.last_masks() for state in self.states]
        assert list(masks) == list(others)
        for site, mask in masks.items():
            assert torch.equal(others[site], mask), site

    def watch(self, video, *others, **options):
        """Show a video."""
        return [self.show(x, *others, **options) for x in video]


def patched(x, number=1, size=3):
    """The next frame: some patches of a frame (N, C, H, W) are new."""
    x = x.clone()
    for _ in range(number):
        top = torch.randint(x.shape[2], ()).item()
        left = torch.randint(x.shape[3], ()).item()
        patch = x[..., top : top + size, left : left + size]
        patch.copy_(torch.randn_like(patch))
    return x


def eventful(*shape):
    """Partial changes, rests, small drifts, what comes back, a new scene."""
    first = torch.randn(shape)
    second = patched(first)
    third = patched(second, 2)
    drifts = [third + 0.01 * n * torch.randn(shape) for n in range(1, 5)]
    last = torch.randn(shape)
    return [
        first,
        second,
        second,
        second,
        third,
        second,
        *drifts,
        drifts[-1],
        drifts[-1],
        last,
        patched(last),
        last,
        last,
    ]


class Block(nn.Module):
    """Convolutions of many kinds, a residual, a pyramid."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.sparse = nn.Conv2d(8, 8, 1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.relu(self.stem(x))
        identity = x
        out = self.relu(self.depthwise(x))
        out = self.grouped(out)
        out += identity
        out = self.relu(out)
        small = self.down(out) + self.sparse(out)
        wide = out + F.interpolate(small, scale_factor=2, mode='nearest')
        both = torch.cat([small, self.pool(wide)], 1)
        return self.head(both), wide, identity


def lively(net):
    """Give learned gates weights of both signs, and let them wait."""
    for module in net.modules():
        if isinstance(module, mmskip.skip_conv.GumbelGate):
            nn.init.normal_(module.weight)
            nn.init.constant_(module.bias, -1.0)
    return net


def twins(net, gate=NORM, memory='previous', **options):
    return Twins(lively(convert(net, gate, memory)), **options)
