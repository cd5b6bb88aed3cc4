"""Flags of the hosts, and weights that change: what must not go wrong.

Each function tries one thing and returns whether it held, and what was found.
"""

import copy
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import mmskip
from mmskip.plan import propagate_changes
from mmskip.skip_conv import GateCostLoss

Result = tuple[bool, str]
NORM = dict(type='OutputNormGate', threshold=0.1, relative=True)
LEARNED = dict(type='GumbelGate', bias=0.5, gate_input='magnitude')


class Losses(nn.Module):
    """A backbone that returns a loss in training and else its features."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Any:
        maps = self.backbone(x)
        if not self.training:
            return maps
        return dict(loss=sum(m.sigmoid().square().mean() for m in maps))


def resnet(gate: dict, **flags: Any) -> nn.Module:
    """A small ResNet-18 of mmdet with gates, always the same."""
    from mmdet.models.backbones import ResNet

    torch.manual_seed(0)
    model = Losses(ResNet(18, stem_channels=8, base_channels=8, **flags))
    mmskip.convert(model, mmskip.SkipConversion(gate, memory='accumulated'))
    GateCostLoss(beta=1.0).attach(model)
    return model


def small_net(gate: dict = NORM) -> nn.Module:
    """Three convolutions with gates, in eval mode, whose sums are exact."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    ).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((64 * p).round() / 64)
    mmskip.convert(net, mmskip.SkipConversion(gate, memory='accumulated'))
    return net


def make_video(frames: int = 6) -> list[Tensor]:
    """Frames each of which is new in a corner."""
    torch.manual_seed(1)
    video = [torch.randn(1, 3, 24, 24)]
    for _ in range(frames - 1):
        x = video[-1].clone()
        x[..., 4:10, 4:10] += torch.randn(6, 6)
        video.append(x)
    return video


@contextmanager
def reference_backend():
    """Run on the torch reference."""
    before = os.environ.get('MMSKIP_BACKEND')
    os.environ['MMSKIP_BACKEND'] = 'reference'
    try:
        yield
    finally:
        del os.environ['MMSKIP_BACKEND']
        if before is not None:
            os.environ['MMSKIP_BACKEND'] = before


@torch.no_grad()
def show(
    net: nn.Module,
    video: Sequence[Tensor],
    state: mmskip.StreamState | None = None,
) -> list[Tensor]:
    """What a model makes of frames of a stream."""
    with mmskip.stream(net, state):
        return [net(x) for x in video]


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference as a share of the largest value."""
    return max(
        ((a - b).abs().max() / b.abs().max()).item()
        for a, b in zip(found, expected, strict=True)
    )


def train_step(model: nn.Module) -> tuple[dict, dict, int]:
    """Losses, gradients by name and the number of costs of a step."""
    model.train()
    torch.manual_seed(2)
    clip = torch.randn(4, 3, 64, 64)
    layer = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    with mmskip.clip(model, 2):
        losses = model(clip)
        costs = len(layer._binding.costs)
        sum(v for k, v in losses.items() if 'loss' in k).backward()
    return losses, {k: p.grad for k, p in model.named_parameters()}, costs


def frozen_stages_leave_gates_alone() -> Result:
    """Gates of layers that the host freezes learn, and cost."""
    model = resnet(LEARNED, frozen_stages=1)
    _, grads, costs = train_step(model)
    gates = [k for k in grads if '.gate.' in k]
    still = [k for k in gates if grads[k] is None]
    text = (
        f'{costs} of 20 costs, {len(still)} of {len(gates)} gate parameters '
        'without a gradient'
    )
    return costs == 20 and not still, text


def activation_checkpointing_changes_nothing() -> Result:
    """``with_cp=True`` gives the losses and gradients of ``False``."""
    losses, grads, _ = train_step(resnet(LEARNED))
    found, others, costs = train_step(resnet(LEARNED, with_cp=True))
    lost = [k for k in grads if others[k] is None]
    away = 0.0 if lost else distance(others.values(), grads.values())
    same = abs(found['loss_gate'] - losses['loss_gate']) < 1e-5
    text = (
        f'{costs} costs, loss_gate {found["loss_gate"]:.4f} for '
        f'{losses["loss_gate"]:.4f}, {len(lost)} gradients lost, others '
        f'differ by {away:.1e}'
    )
    return bool(costs == 20 and same and not lost and away < 1e-3), text


def _after_a_write(write: Callable, is_new: bool, gate: dict) -> float:
    """How far a stream is from one that never had the old weights."""
    net, video = small_net(gate), make_video()
    state = mmskip.StreamState()
    show(net, video[:3], state)
    with torch.no_grad():
        for module in net.modules():
            for name, p in list(module._parameters.items()):
                if p is not None:
                    write(module, name, p)
    if is_new:
        state = None
    found = show(net, video[3:], state)
    with reference_backend():
        fresh = small_net(gate)
        fresh.load_state_dict(copy.deepcopy(net.state_dict()))
        return distance(found, show(fresh, video[3:]))


def averaged_gates_fire_as_they_should() -> Result:
    """A gate that is written through ``.data`` counts in a new stream."""

    def write(module: nn.Module, name: str, p: Tensor) -> None:
        if isinstance(module, mmskip.skip_conv.GumbelGate) and p.dim() == 4:
            p.data.fill_(-100.0)

    away = _after_a_write(write, True, LEARNED)
    return away < 1e-4, f'off by {away:.1e}'


def permuted_filters_are_noticed() -> Result:
    """Filters in another order are others, though their sum is the same."""

    def write(module: nn.Module, name: str, p: Tensor) -> None:
        if p.dim() == 4:
            p.data.copy_(p.data.flip(0))

    away = _after_a_write(write, True, NORM)
    return away < 1e-4, f'off by {away:.1e}'


def weights_that_change_in_mid_stream_are_never_mixed() -> Result:
    """Whatever way they are written, by what a new stream would give."""
    ways = {
        'in place': lambda m, n, p: p.mul_(0.5),
        'through .data': lambda m, n, p: p.data.mul_(0.5),
        'new data': lambda m, n, p: setattr(p, 'data', 0.5 * p.data),
        'new parameter': lambda m, n, p: setattr(m, n, nn.Parameter(0.5 * p)),
    }
    away = {k: _after_a_write(w, False, NORM) for k, w in ways.items()}
    text = ', '.join(f'{k} {v:.1e}' for k, v in away.items())
    return max(away.values()) < 1e-4, f'off by: {text}'


def autocast_runs_in_a_stream() -> Result:
    """A stream under autocast is that of the reference."""
    runs = []
    for backend in (nullcontext, reference_backend):
        with (
            backend(),
            torch.autocast('cpu', torch.bfloat16),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter('ignore')
            try:
                runs.append(show(small_net(), make_video()))
            except TypeError as error:
                return False, f'TypeError: {str(error)[:60]}'
    same = all(map(torch.equal, *runs))
    return same, 'equal' if same else f'off by {distance(*runs):.1e}'


def a_norm_in_training_mode_counts_in_a_plan() -> Result:
    """A norm that is set to training mode in mid-stream is in that mode."""
    net, video = small_net(), make_video()
    plain = copy.deepcopy(net)
    propagate_changes(net)
    states = mmskip.StreamState(), mmskip.StreamState()
    away = []
    for index, x in enumerate(video):
        if index == 3:
            net[1].train(), plain[1].train()
        frames = [
            show(m, [x], s) for m, s in zip((net, plain), states, strict=True)
        ]
        away.append(distance(*frames))
    return max(away) < 1e-4, f'off by {max(away):.1e}'


def leaving_the_native_backend_is_told() -> Result:
    """``.bfloat16()`` says that nothing is saved any more, once."""
    net, video = small_net(), make_video()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        show(net.bfloat16(), [x.bfloat16() for x in video])
    said = [str(w.message) for w in told if 'bfloat16' in str(w.message)]
    return len(said) == 1, f'{len(said)} warnings: {"".join(said)[:90]}'


def fused_convolutions_are_refused() -> Result:
    """What mmengine fuses would never skip: it is not converted."""
    from mmengine.model.efficient_conv_bn_eval import (
        turn_on_efficient_conv_bn_eval,
    )

    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ).eval()
    turn_on_efficient_conv_bn_eval(net, '0')
    try:
        mmskip.convert(net, mmskip.SkipConversion(NORM))
    except ValueError as error:
        return True, str(error)
    return False, 'converted, and never called'


def a_copied_state_is_a_state_of_its_own() -> Result:
    """``copy.copy`` of a state shares nothing that a stream writes to."""
    net, video = small_net(), make_video()
    state = mmskip.StreamState()
    show(net, video[:3], state)
    twin = copy.copy(state)
    expected = show(net, video[3:], copy.deepcopy(state))
    show(net, video[::-1], state)
    away = distance(show(net, video[3:], twin), expected)
    return away < 1e-6, f'off by {away:.1e}'


CHECKS = (
    frozen_stages_leave_gates_alone,
    activation_checkpointing_changes_nothing,
    averaged_gates_fire_as_they_should,
    permuted_filters_are_noticed,
    weights_that_change_in_mid_stream_are_never_mixed,
    autocast_runs_in_a_stream,
    a_norm_in_training_mode_counts_in_a_plan,
    leaving_the_native_backend_is_told,
    fused_convolutions_are_refused,
    a_copied_state_is_a_state_of_its_own,
)
