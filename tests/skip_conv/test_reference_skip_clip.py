"""Skip-Convolutions over whole clips, as in training."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmskip.native import ConvGeometry, convolve
from mmskip.skip_conv import (
    MEMORY_RULES,
    GateParams,
    SkipParams,
    gate_mask,
    skip_clip,
    skip_conv,
)
from mmskip.skip_conv.gate_mask import GatePlace
from mmskip.skip_conv.gates import Drawn, Gate
from tests.helpers.convs import make_video

SAME_3X3 = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
RULES = pytest.mark.parametrize('rule', MEMORY_RULES)
GEOMETRIES = pytest.mark.parametrize(
    'geometry',
    [
        SAME_3X3,
        SAME_3X3._replace(stride=(2, 1)),
        SAME_3X3._replace(dilation=(2, 2), padding=((2, 2), (2, 2))),
        SAME_3X3._replace(padding_mode='reflect'),
    ],
    ids=['plain', 'stride', 'dilation', 'reflect'],
)


def gate_of(threshold):
    return GateParams('input_norm', threshold)


class FixedGate(Gate):
    """A gate whose scores, of a function and a parameter, are its masks."""

    def __init__(self, function, parameter=None):
        super().__init__()
        self.function = function
        self.values = parameter

    def weights(self):
        return () if self.values is None else (self.values,)

    def score(self, residual, frame, place):
        return self.function(residual, frame)

    def decide(self, score):
        return Drawn(score, score, soft=score)

    def decide_gradient(self, score, drawn, of_mask, of_probability):
        return of_mask


def norm_gate(gate, geometry):
    def score(residual, frame):
        mask = gate_mask(residual, torch.ones(()), (3, 3), geometry, gate)
        return mask.to(residual.dtype)

    return FixedGate(score)


def place_of(geometry=SAME_3X3):
    return GatePlace(torch.ones(()), geometry, (3, 3))


@RULES
@GEOMETRIES
@pytest.mark.parametrize('with_bias', [True, False])
def test_a_clip_equals_its_frames_one_by_one(rule, geometry, with_bias):
    video = make_video(5, 2, 3, 9, 8)
    weight = torch.randint(-3, 4, (4, 3, 3, 3)).float()
    bias = torch.arange(4.0) if with_bias else None
    gate = gate_of(0.3)
    memory, expected, fired = None, [], []
    for x in video:
        params = SkipParams(weight, bias, geometry, gate, rule)
        output, mask, memory = skip_conv(x, memory, params)
        expected.append(output)
        fired.append(mask)

    clip = torch.stack(video, 1)
    outputs, _ = skip_clip(
        clip,
        weight,
        bias,
        norm_gate(gate, geometry),
        place_of(geometry),
        rule,
    )

    torch.testing.assert_close(outputs, torch.stack(expected, 1))
    assert 0 < torch.stack(fired[1:]).float().mean() < 1


@RULES
def test_open_gates_give_the_dense_convolution(rule):
    clip = torch.randn(2, 3, 4, 6, 6)
    weight, bias = torch.randn(6, 2, 3, 3), torch.randn(6)
    geometry = SAME_3X3._replace(groups=2)
    gate = norm_gate(gate_of(-1), geometry)

    outputs, _ = skip_clip(clip, weight, bias, gate, place_of(geometry), rule)

    dense = convolve(clip.flatten(0, 1), weight, bias, geometry)
    torch.testing.assert_close(outputs.flatten(0, 1), dense)


@RULES
def test_gradients_reach_weights_bias_gate_and_every_frame(rule):
    clip, weight, bias, score = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((1, 3, 2, 4, 4), (2, 2, 3, 3), (2,), (1, 1, 4, 4))
    )

    # Masks between 0 and 1 that depend on nothing but the score: smooth,
    # so that numerical gradients exist.
    def run(clip, weight, bias, score):
        gate = FixedGate(
            lambda r, x: (0.97 + 0.01 * score.sigmoid()).expand(
                len(r), -1, -1, -1
            ),
            score,
        )
        return skip_clip(clip, weight, bias, gate, place_of(), rule)[0]

    assert gradcheck(run, (clip, weight, bias, score))


@pytest.mark.parametrize('seed', range(3))
def test_accumulated_gates_get_the_gradient_of_their_product(seed):
    generator = torch.Generator().manual_seed(seed)
    clip = torch.randn(1, 2, 1, 6, 6, generator=generator)
    share = torch.tensor(0.9).expand(1, 1, 6, 6)
    gates = torch.bernoulli(share, generator=generator).requires_grad_()
    assert 0 in gates
    weight = torch.ones(1, 1, 3, 3)

    gate = FixedGate(lambda r, x: gates, gates)
    outputs, _ = skip_clip(clip, weight, None, gate, place_of(), 'accumulated')
    outputs[:, 1].square().sum().backward()

    reference = gates.detach().clone().requires_grad_()
    # Outside the image nothing is closed.
    around = F.pad(reference, (1, 1, 1, 1), value=1.0)
    readers = around.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2)
    sent = clip[:, 0] + readers.prod(-1) * (clip[:, 1] - clip[:, 0])
    F.conv2d(sent, weight, padding=1).square().sum().backward()
    torch.testing.assert_close(gates.grad, reference.grad)
    assert gates.grad[gates == 0].any()


def test_a_clip_of_one_frame_is_dense():
    clip = torch.randn(2, 1, 3, 5, 5)
    weight = torch.randn(4, 3, 3, 3)

    for rule in MEMORY_RULES:
        outputs, _ = skip_clip(
            clip, weight, None, FixedGate(None), place_of(), rule
        )
        dense = convolve(clip[:, 0], weight, None, SAME_3X3)
        torch.testing.assert_close(outputs[:, 0], dense)
