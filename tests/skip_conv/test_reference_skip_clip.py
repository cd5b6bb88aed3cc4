"""Skip-Convolutions over whole clips, as in training."""

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mmskip.native import ConvGeometry, convolve
from mmskip.native.geometry import conv_geometry
from mmskip.skip_conv import (
    MEMORY_RULES,
    GateParams,
    SkipConv2d,
    SkipParams,
    as_gate,
    gate_mask,
    skip_clip,
    skip_conv,
)
from mmskip.skip_conv.gate_mask import Drawn, GatePlace
from mmskip.skip_conv.gates import Gate
from mmskip.skip_conv.reference import ClipMemory, transmit_clip
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
    clip = torch.randn(1, 2, 1, 6, 6, generator=generator).double()
    share = torch.tensor(0.9).double().expand(1, 1, 6, 6)
    gates = torch.bernoulli(share, generator=generator).requires_grad_()
    assert 0 in gates
    weight = torch.ones(1, 1, 3, 3, dtype=torch.float64)

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


def transmit_by_autograd(frames, gate, place, start):
    """Transmit as clips do, all steps of which autograd knows."""
    last, inputs, probabilities = start, [], []
    for frame in frames.unbind(1):
        if last is None:
            last = frame
        else:
            decision = gate.draw(frame - last, frame, place)
            reach = place.kernel_size[0] // 2
            # Outside the image nothing is closed.
            around = F.pad(decision.mask, (reach,) * 4, value=1.0)
            size = 2 * reach + 1
            readers = around.unfold(2, size, 1).unfold(3, size, 1)
            whole = readers.flatten(-2).prod(-1)
            last = last + whole * (frame - last)
            probabilities.append(decision.probability)
        inputs.append(last)
    return torch.stack(inputs, 1), torch.cat(probabilities)


GATES = [
    dict(type='LearnedNormGate', threshold=0.5),
    dict(type='LearnedNormGate', threshold=0.5, order=2, block_size=2),
    dict(type='GumbelGate', bias=0.1),
    dict(type='GumbelGate', bias=0.1, gate_input='magnitude', block_size=4),
    dict(type='GumbelGate', bias=0.1, gate_input='frame'),
    dict(type='InputNormGate', threshold=0.5),
]


@pytest.mark.parametrize('goes_on', [True, False])
@pytest.mark.parametrize('kernel_size', [1, 3])
@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('config', GATES)
def test_gradients_are_those_of_frames_one_by_one(
    config, frozen, kernel_size, goes_on
):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 2, kernel_size, padding=kernel_size // 2)
    gate = as_gate(config).double()
    gate.attach(conv.double())
    for parameter in gate.weights():
        parameter.data += 0.1 * torch.randn_like(parameter)
        parameter.requires_grad_(not frozen)
    place = GatePlace(
        torch.ones((), dtype=torch.float64),
        conv_geometry(conv),
        conv.kernel_size,
    )
    clip = torch.randn(2, 4, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    start = torch.randn_like(clip[:, 0]).detach() if goes_on else None
    slope = torch.randn_like(clip).detach()
    sources = [clip, *(() if frozen else gate.weights())]
    found = []
    for transmit in (transmit_clip, transmit_by_autograd):
        torch.manual_seed(1)
        inputs, drawn = transmit(clip, gate, place, start)
        probability = drawn[0].probability if len(drawn) == 1 else drawn
        loss = (inputs * slope).sum() + probability.square().sum()
        for _ in range(2):  # a graph that is kept can be used again
            grads = torch.autograd.grad(loss, sources, retain_graph=True)
        found.append((inputs, probability, *grads))

    assert not torch.equal(found[0][0], clip)
    torch.testing.assert_close(*found)


def test_a_clip_frees_what_its_backward_needs():
    gate = as_gate(dict(type='LearnedNormGate', threshold=0.5))
    clip = torch.randn(1, 3, 2, 4, 4, requires_grad=True)
    frames = clip * 1

    inputs, drawn = transmit_clip(frames, gate, place_of())
    dies = weakref.ref(frames), weakref.ref(drawn[0].mask)
    del frames, inputs, drawn

    assert [ref() for ref in dies] == [None, None]


@RULES
def test_levels_of_clips_in_a_batch_are_their_own(rule):
    gate = dict(type='LearnedNormGate', threshold=0.5, relative=True)
    torch.manual_seed(0)
    layer = SkipConv2d(3, 4, 3, padding=1, gate=gate, memory=rule)
    layer.gate.requires_grad_(False)
    clips = torch.randn(2, 3, 3, 8, 8)
    clips[1] *= 100

    together, *_ = layer.skip_clip(clips)

    alone = [layer.skip_clip(clip[None])[0] for clip in clips]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(
    'options', [dict(padding=1), dict(stride=2), dict(dilation=(2, 1))]
)
def test_a_clip_begins_with_the_level_of_a_reference_frame(options):
    gate = dict(type='OutputNormGate', threshold=0.5, relative=True)
    layer = SkipConv2d(3, 4, 3, gate=gate, **options)
    x = torch.randn(2, 3, 150, 9)
    params = layer.params(x)
    _, _, memory = skip_conv(x, None, params)

    begun = ClipMemory.of_nothing(x, params)

    torch.testing.assert_close(begun.scale, memory.scale)
