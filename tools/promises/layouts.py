"""What a converted layer returns is safe for every operator behind it.

Each function reproduces a fault and says whether it holds now, and what it
measured.
"""

import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmcv.ops import (
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    roi_align,
)
from torch import nn

import mmskip
from mmskip.plan import propagate_changes

TOLERANCE = 1e-4


def streams_equal_deformable_convolutions_of_version_2() -> tuple[bool, str]:
    """Mmcv's DCNv2 behind a converted layer reads what it returned."""
    deform = ModulatedDeformConv2dPack(8, 8, 3, padding=1)
    return _compare_stream(_behind_a_convolution(deform))


def streams_equal_deformable_convolutions_of_version_1() -> tuple[bool, str]:
    """Mmcv's DCN refused what a converted layer returned."""
    deform = DeformConv2dPack(8, 8, 3, padding=1)
    return _compare_stream(_behind_a_convolution(deform))


def clips_can_be_viewed() -> tuple[bool, str]:
    """Non-local blocks view the output of a convolution of clips."""
    net = nn.Sequential(nn.Conv3d(3, 8, (1, 3, 3)), _View())
    return _compare_stream(net, (1, 3, 4, 12, 12))


def plans_normalise_groups_as_exactly() -> tuple[bool, str]:
    """Group norm takes its variance with fewer digits channels last."""
    net = _behind_a_convolution(nn.GroupNorm(2, 8))
    nn.init.constant_(net[0].bias, 100.0)
    return _compare_stream(net, with_plan=True)


def operators_of_mmcv_read_any_layout() -> tuple[bool, str]:
    """RoIAlign took an image that is channels last for contiguous."""
    image = torch.randn(1, 8, 12, 12)
    rois = torch.tensor([[0, 1.0, 1.0, 9.0, 7.0]])
    last = image.contiguous(memory_format=torch.channels_last)
    error = _error([roi_align(last, rois, 4)], [roi_align(image, rois, 4)])
    return error <= TOLERANCE, f'RoIAlign channels last: error {error:.1e}'


def fast_models_may_look_into_kernels() -> tuple[bool, str]:
    """Weight standardisation views kernels; those of clips stay, too."""
    for layer, shape in (
        (ConvWS2d(3, 8, 3), (1, 3, 12, 12)),
        (nn.Conv3d(3, 8, 3), (1, 3, 4, 12, 12)),
    ):
        net = nn.Sequential(layer).eval()
        try:
            with torch.no_grad():
                mmskip.accelerate(net)
                net(torch.randn(shape))
        except RuntimeError as error:
            return False, f'{type(layer).__name__}: {error}'
    return True, 'accelerate() leaves kernels that others look into'


class _View(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), -1)


def _behind_a_convolution(layer: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), layer)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def _compare_stream(
    net: nn.Module,
    shape: tuple[int, ...] = (1, 3, 12, 12),
    with_plan: bool = False,
) -> tuple[bool, str]:
    """Run a network densely and in a stream with an open gate."""
    frames = [torch.randn(shape)] * 3
    frames[1] = frames[0].clone()
    frames[1][..., 2:6, 2:6] += 1
    gate = dict(type='OutputNormGate', threshold=0.0)
    with torch.no_grad():
        expected = [net.eval()(frame) for frame in frames]
        mmskip.convert(net, mmskip.SkipConversion(gate, 'accumulated'))
        if with_plan:
            propagate_changes(net)
        try:
            with mmskip.stream(net):
                error = _error([net(frame) for frame in frames], expected)
        except (RuntimeError, ValueError) as problem:
            return False, str(problem).splitlines()[0]
    return error <= TOLERANCE, f'error {error:.1e} of the largest value'


def _error(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(
        ((a - b).abs().max() / b.abs().max()).item()
        for a, b in zip(found, expected, strict=True)
    )


CHECKS = (
    streams_equal_deformable_convolutions_of_version_2,
    streams_equal_deformable_convolutions_of_version_1,
    clips_can_be_viewed,
    plans_normalise_groups_as_exactly,
    operators_of_mmcv_read_any_layout,
    fast_models_may_look_into_kernels,
)
