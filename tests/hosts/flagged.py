"""Backbones of the hosts, tiny, with the flags that their users set."""

import copy
import importlib
import inspect
from functools import cache
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmskip
from mmskip.skip_conv import GateCostLoss, SkipConvMixin
from tests.hosts.host import take_statistics

GATES = MappingProxyType(
    {
        'norm': dict(type='OutputNormGate', threshold=0.3, relative=True),
        'gumbel': dict(type='GumbelGate', gate_input='magnitude', bias=0.5),
    }
)
IMAGE, CLIP = (3, 64, 64), (3, 4, 32, 32)


def _stage(modules, block, blocks, channels):
    return dict(
        num_modules=modules,
        num_branches=len(channels),
        block=block,
        num_blocks=blocks,
        num_channels=channels,
    )


_HRNET = dict(
    stage1=_stage(1, 'BOTTLENECK', (1,), (4,)),
    stage2=_stage(1, 'BASIC', (1, 1), (4, 8)),
    stage3=_stage(1, 'BASIC', (1, 1, 1), (4, 8, 8)),
    stage4=_stage(1, 'BASIC', (1, 1, 1, 1), (4, 8, 8, 8)),
)
_DARKNET = dict(deepen_factor=0.167, widen_factor=0.125)
# Where it is, how it is made, what it takes, and a block of it.
HOSTS = MappingProxyType(
    {
        'ResNet': (
            'mmdet',
            dict(depth=18, stem_channels=4, base_channels=4, norm_eval=False),
            IMAGE,
            'layer2',
        ),
        'HRNet': (
            'mmdet',
            dict(extra=_HRNET, norm_eval=False),
            IMAGE,
            'layer1',
        ),
        'CSPDarknet': ('mmdet', _DARKNET, IMAGE, 'stage2'),
        'CSPNeXt': ('mmdet', _DARKNET, IMAGE, 'stage2'),
        'MobileNetV2': ('mmdet', dict(widen_factor=0.25), IMAGE, 'layer2'),
        'ResNet3d': (
            'mmaction',
            dict(depth=18, base_channels=4, pretrained2d=False),
            CLIP,
            'layer2',
        ),
        'X3D': ('mmaction', dict(gamma_w=0.5, gamma_d=0.2), CLIP, 'layer2'),
    }
)
#: What a backbone has no flag for.
LACKS = MappingProxyType(
    {
        'frozen_stages': {'HRNet'},
        'with_cp': {'CSPDarknet', 'CSPNeXt'},
    }
)


class Model(nn.Module):
    """A backbone that gives losses in training and else its features."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        maps = self.backbone(x)
        maps = (maps,) if torch.is_tensor(maps) else maps
        if not self.training:
            return maps
        return dict(loss_task=sum(m.sigmoid().square().mean() for m in maps))


def build(host, gate=None, **flags):
    """A host's backbone, with weights that no flag changes.

    Args:
        host: One of ``HOSTS``.
        gate: One of ``GATES``; None: it is not converted.
        **flags: Of the backbone; ``norm`` is the type of its norms.
    """
    scope, options, *_ = HOSTS[host]
    for flag in flags:
        if host in LACKS.get(flag, ()):
            pytest.skip(f'{host} has no {flag}')
    pytest.importorskip(scope)
    backbones = importlib.import_module(f'{scope}.models.backbones')
    maker = getattr(backbones, host)
    if 'norm' in flags:
        usual = inspect.signature(maker).parameters['norm_cfg'].default
        flags['norm_cfg'] = {**usual, 'type': flags.pop('norm')}
    backbone = maker(**{**options, **flags})
    model = Model(backbone).eval()
    model.load_state_dict(_weights(host))
    return model if gate is None else converted(model, gate)


@cache
def _weights(host):
    scope, options, shape, _ = HOSTS[host]
    backbones = importlib.import_module(f'{scope}.models.backbones')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(getattr(backbones, host)(**options))
        take_statistics(model, lambda m: m.backbone(torch.randn(2, *shape)))
    return model.state_dict()


def converted(model, gate):
    """Convert a model, with a loss on what its gates cost."""
    mmskip.convert(model, mmskip.SkipConversion(GATES[gate], 'accumulated'))
    for layer in skip_convs(model):
        if gate == 'gumbel':
            nn.init.constant_(layer.gate.bias, 0.3)
    GateCostLoss(beta=0.5).attach(model)
    return model


def skip_convs(model):
    return [m for m in model.modules() if isinstance(m, SkipConvMixin)]


def norms(model):
    return [m for m in model.modules() if isinstance(m, _BatchNorm)]


@cache
def make_video(host, frames=4):
    """Frames (1, ...) of which each is new in a corner only."""
    shape = HOSTS[host][2]
    torch.manual_seed(0)
    video = [torch.randn(1, *shape)]
    for _ in range(frames - 1):
        x = video[-1].clone()
        x[..., 8:20, 4:16] += torch.randn(12, 12)
        video.append(x)
    return video


@torch.enable_grad()
def train_step(model, clip, root=None):
    """Losses, gradients by name and the number of costs of one step.

    Args:
        model: Converted.
        clip: Two frames each of two videos.
        root: What is called; the model itself if not given.
    """
    root = model if root is None else root
    torch.manual_seed(1)
    model.zero_grad()
    with mmskip.clip(root, 2):
        losses = root(clip)
        costs = len(skip_convs(model)[0]._binding.costs)
        sum(v for k, v in losses.items() if 'loss' in k).backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return {k: v.detach() for k, v in losses.items()}, grads, costs


def assert_same_step(found, expected, frozen=()):
    """Losses, gradients and costs are the same but for frozen weights."""
    (losses, grads, costs), (losses_0, grads_0, costs_0) = found, expected
    assert costs == costs_0 > 0
    torch.testing.assert_close(losses, losses_0, rtol=1e-5, atol=1e-6)
    for name, grad in grads_0.items():
        if name in frozen:
            assert grads[name] is None
        else:
            limit = 1e-4 * max(grad.abs().max().item(), 1e-3)
            assert (grads[name] - grad).abs().max() <= limit, name


def freeze_by_hand(model, like):
    """Give weights and norms the modes of another model's, gates apart.

    Returns:
        Names of the frozen weights.
    """
    frozen = set()
    for (name, p), q in zip(
        model.named_parameters(), like.parameters(), strict=True
    ):
        if '.gate.' not in name and not q.requires_grad:
            p.requires_grad_(False)
            frozen.add(name)
    for norm, other in zip(norms(model), norms(like), strict=True):
        norm.train(other.training)
    return frozen


@cache
def make_clip(host):
    """Two frames each of two videos."""
    return torch.cat([*make_video(host)])


class Shown:
    """Shows a model a video, frame by frame.

    Args:
        model: Converted.
        root: What is called; the model itself if not given.
    """

    def __init__(self, model, root=None):
        self.root = model if root is None else root
        self.state = mmskip.StreamState()

    @torch.no_grad()
    def show(self, x):
        """Features and masks of a frame."""
        with mmskip.stream(self.root, self.state):
            maps = self.root(x)
        masks = list(self.state.last_masks().values())
        return [m.clone() for m in maps], masks


def assert_same_frame(found, expected, tolerance=1e-4):
    """The same outputs fired, and features are equal up to rounding."""
    for (maps, masks), (maps_0, masks_0) in [(found, expected)]:
        assert len(masks) == len(masks_0) > 0
        assert all(map(torch.equal, masks, masks_0))
        for a, b in zip(maps, maps_0, strict=True):
            assert a.dtype == b.dtype
            assert (a - b).abs().max() <= tolerance * b.abs().max()


def twin(model):
    """The same model once more, without a plan."""
    model = copy.deepcopy(model)
    for part in model.modules():
        part.__dict__.pop('forward', None)
    return model


@cache
def plain_step(host, gate):
    """A step of the model without flags, see :func:`train_step`."""
    return train_step(build(host, gate).train(), make_clip(host))


@cache
def plain_frames(host, gate):
    """What the model without flags makes of the video, on the reference."""
    shown = Shown(build(host, gate))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSKIP_BACKEND', 'reference')
        return [shown.show(x) for x in make_video(host)[:3]]
