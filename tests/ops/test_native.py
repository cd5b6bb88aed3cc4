"""The native backend computes what the torch reference does."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmskip.ops import (
    MEMORY_RULES,
    ConvGeometry,
    GateParams,
    SkipMemory,
    gate_statistic,
    native,
    skip_conv,
)
from mmskip.ops.geometry import output_size

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

POINTWISE = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))
SAME_3X3 = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
KINDS = ('input_norm', 'output_norm')


@st.composite
def layers(draw):
    """Any convolution that the native backend takes."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 5, 'depthwise']))
    if groups == 'depthwise':
        groups = channels = outputs = draw(st.integers(1, 70))
    else:
        channels = groups * draw(st.integers(1, 70 // groups))
        outputs = groups * draw(st.integers(1, 70 // groups))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (7, 7), (9, 8)]))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    edges = st.tuples(st.integers(0, 3), st.integers(0, 3))
    geometry = ConvGeometry(
        draw(pair), (draw(edges), draw(edges)), draw(pair), groups
    )
    size = tuple(
        max(draw(st.integers(1, 20)), d * (k - 1) + 1 - a - b)
        for k, d, (a, b) in zip(
            kernel, geometry.dilation, geometry.padding, strict=True
        )
    )
    return geometry, (outputs, channels // groups, *kernel), channels, size


@st.composite
def gates(draw):
    return GateParams(
        draw(st.sampled_from(KINDS)),
        draw(st.sampled_from([-1.0, 0.0, 0.02, 0.1, 0.3])),
        draw(st.sampled_from([1, 2, 4, 8])),
        draw(st.sampled_from([1, 2])),
        draw(st.booleans()),
    )


def make_frames(number, batch, channels, size, share):
    """Frames in which a share of the pixels is new."""
    frames = [torch.randn(batch, channels, *size)]
    for _ in range(number - 1):
        new = torch.rand(batch, 1, *size) < share
        frames.append(
            torch.where(new, torch.randn_like(frames[0]), frames[-1])
        )
    return frames


def run(frames, weight, bias, geometry, gate, rule, packed=None):
    """Output, mask and memory of each frame."""
    memory, steps = None, []
    for x in frames:
        output, mask, memory = skip_conv(
            x, memory, weight, bias, geometry, gate, rule, packed
        )
        steps.append((output, mask, memory.clone()))
    return steps


def is_near_the_threshold(x, memory, kernel, geometry, gate):
    """Whether rounding may decide what fires."""
    statistic = gate_statistic(
        x - memory.input, memory.scale, kernel, geometry, gate.order
    )
    near = (statistic - gate.threshold).abs() < 1e-5 * abs(gate.threshold)
    return bool(near.any())


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    layer=layers(),
    gate=gates(),
    rule=st.sampled_from(MEMORY_RULES),
    batch=st.integers(1, 4),
    number=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_native_equals_the_reference(
    layer, gate, rule, batch, number, share, with_bias, seed
):
    geometry, shape, channels, size = layer
    torch.manual_seed(seed)
    frames = make_frames(number, batch, channels, size, share)
    weight = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
    bias = torch.randn(shape[0]) if with_bias else None
    job = (frames, weight, bias, geometry, gate, rule)

    expected = run(*job)
    found = run(*job, native.PackedWeight())

    before = None
    for x, (output, mask, memory), step in zip(
        frames, expected, found, strict=True
    ):
        if before is not None and is_near_the_threshold(
            x, before, shape[2:], geometry, gate
        ):
            return
        before = memory
        assert torch.equal(step[1], mask)
        assert (step[0] - output).abs().max() <= 1e-5 * output.abs().max()
        assert torch.equal(step[2].input, memory.input)
        assert torch.equal(step[2].output, step[0])
