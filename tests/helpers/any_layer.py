"""Random convolutions, gates for them and videos, for hypothesis."""

import torch
from hypothesis import strategies as st

from mmskip.native import ConvGeometry
from mmskip.skip_conv import GateParams


@st.composite
def transposed_layers(draw):
    """Any transposed convolution that the native backend takes."""
    channels, outputs = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    before = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    # What torch calls output_padding.
    more = [
        draw(st.integers(0, min(s - 1, 2 * p)))
        for s, p in zip(stride, before, strict=True)
    ]
    edges = tuple((p, p - m) for p, m in zip(before, more, strict=True))
    kernel = tuple(s + a + b for s, (a, b) in zip(stride, edges, strict=True))
    geometry = ConvGeometry(stride, edges, (1, 1), transposed=True)
    size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    return geometry, (outputs, channels, *kernel), channels, size


@st.composite
def layers(draw):
    """Any convolution that the native backend takes."""
    if draw(st.sampled_from([False, False, False, True])):
        return draw(transposed_layers())
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
def gates(draw, channels, kernel):
    """Any gate for such a layer; learned ones mostly wait for a change."""
    kind = draw(st.sampled_from(['input_norm', 'output_norm', 'learned']))
    block_size = draw(st.sampled_from([1, 2, 4, 8]))
    if kind == 'learned':
        size = torch.Size([1, channels, *kernel])
        return GateParams(
            kind,
            0.0,
            block_size,
            gate_input=draw(
                st.sampled_from(['residual', 'magnitude', 'square', 'frame'])
            ),
            weight=torch.randn(size) / size.numel() ** 0.5,
            bias=torch.tensor([draw(st.sampled_from([-1.0, -0.2, 0.5]))]),
        )
    return GateParams(
        kind,
        draw(st.sampled_from([-1.0, 0.0, 0.02, 0.1, 0.3])),
        block_size,
        draw(st.sampled_from([1, 2])),
        draw(st.booleans()),
    )


@st.composite
def gated_layers(draw):
    """A layer and a gate for it."""
    layer = draw(layers())
    return layer, draw(gates(layer[2], layer[1][2:]))


def make_frames(number, batch, channels, size, share):
    """Frames in which a share of the pixels is new."""
    frames = [torch.randn(batch, channels, *size)]
    for _ in range(number - 1):
        new = torch.rand(batch, 1, *size) < share
        frames.append(
            torch.where(new, torch.randn_like(frames[0]), frames[-1])
        )
    return frames
