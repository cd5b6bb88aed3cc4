"""Plans in int8: sums are exact, and layers that lose much are left out."""

import copy
import json

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from mmskip.plan import Calibration, calibrate
from mmskip.plan.quantize import InputGrid
from tests.helpers.convs import make_video
from tests.helpers.nets import PyramidNet, TinyNet
from tests.helpers.plans import (
    INSTRUCTIONS,
    OPEN,
    RELATIVE,
    converted,
    error,
    run,
    run_tests_with,
)

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

ZERO = 10


def whole_weights(conv):
    """Weights that bytes hold exactly, with a scale of 1."""
    shape = conv.weight.shape
    weight = torch.randint(-63, 64, shape).float()
    weight.flatten(1)[:, 0] = 63
    conv.weight.data.copy_(weight)
    if conv.bias is not None:
        conv.bias.data.copy_(torch.randint(-99, 100, conv.bias.shape))


def whole_frames(count, shape):
    """Frames of the numbers that bytes stand for, of which parts change."""
    frame = torch.randint(-ZERO, 256 - ZERO, (1, *shape)).float()
    frames = []
    for _ in range(count):
        frames.append(frame)
        frame = frame.clone()
        patch = torch.randint(-ZERO, 256 - ZERO, (shape[0], 4, 5)).float()
        frame[0, :, 2:6, 5:10] = patch
    return frames


LAYERS = {
    '3x3': dict(kernel_size=3, padding=1),
    'odd channels': dict(kernel_size=3, padding=1, in_channels=3),
    'without padding': dict(kernel_size=3),
    '1x1': dict(kernel_size=1),
    'few channels': dict(kernel_size=1, in_channels=2),
    'strided': dict(kernel_size=3, padding=1, stride=2),
    'dilated': dict(kernel_size=3, padding=2, dilation=2),
    'wide': dict(kernel_size=(1, 7), padding=(0, 3)),
    'groups': dict(kernel_size=3, padding=1, groups=2, in_channels=6),
    'many channels': dict(
        kernel_size=3, padding=1, in_channels=40, out_channels=70, bias=False
    ),
}


@pytest.mark.parametrize('activation', [None, nn.ReLU])
@pytest.mark.parametrize('name', LAYERS)
def test_sums_of_bytes_are_exact(name, activation):
    settings = dict(in_channels=8, out_channels=16) | LAYERS[name]
    conv = nn.Conv2d(**settings)
    whole_weights(conv)
    after = nn.Identity() if activation is None else activation()
    dense = copy.deepcopy(nn.Sequential(conv, after))
    net = converted(nn.Sequential(conv, after))
    mmskip.accelerate(net, 'int8', Calibration({'0': InputGrid(1, ZERO, 0)}))
    video = whole_frames(4, (conv.in_channels, 9, 11))

    outputs = run(net, video)

    for x, output in zip(video[1:], outputs[1:], strict=True):
        assert output.equal(dense(x).detach().bfloat16().float())


def test_the_largest_numbers_do_not_overflow():
    conv = nn.Conv2d(64, 32, 3, bias=False)
    conv.weight.data.fill_(63)
    conv.weight.data[16:].neg_()
    net = converted(nn.Sequential(conv))
    mmskip.accelerate(net, 'int8', Calibration({'0': InputGrid(1, 0, 0)}))
    still = torch.zeros(1, 64, 5, 5)

    *_, output = run(net, [still, still, still + 255])

    expected = torch.full((1, 32, 3, 3), 64 * 9 * 63 * 255.0)
    expected[:, 16:].neg_()
    assert output.equal(expected.bfloat16().float())


def test_only_changes_of_a_step_fire():
    net = converted(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)))
    mmskip.accelerate(net, 'int8', Calibration({'0': InputGrid(0.5, 0, 0)}))
    x = torch.full((1, 4, 8, 8), 8.0)
    less, more = x.clone(), x.clone()
    less[..., 4, 4], more[..., 4, 4] = 8.1875, 8.3125
    fired = []
    for last in (less, more):
        state = StreamState()
        run(net, [x, x, last], state)
        fired.append(state.last_masks()['0', 0].sum().item())

    assert fired == [0, 9]


def test_no_number_stands_for_zero():
    net = converted(nn.Sequential(nn.Conv2d(2, 1, 1, bias=False)), OPEN)
    mmskip.accelerate(net, 'int8', Calibration({'0': InputGrid(1, ZERO, 0)}))
    x = torch.full((1, 2, 4, 4), 3.0)
    broken = x.clone()
    broken[..., 1, 1] = torch.nan

    *_, output = run(net, [x, x, broken])

    assert output[0, 0, 1, 1] == 0
    assert output.isfinite().all()


@pytest.mark.parametrize('instructions', INSTRUCTIONS)
def test_every_instruction_set_computes_the_same(instructions):
    names = 'are_exact or overflow or of_a_step or stands_for'

    done = run_tests_with(instructions, __file__, names)

    assert done.returncode == 0, done.stdout


@torch.no_grad()
@pytest.mark.parametrize(
    ('gate', 'most', 'growth'),
    # With a relative gate other outputs fire than in float32.
    [(OPEN, 0.05, 1.2), (RELATIVE, 0.2, 1.5)],
    ids=['open', 'relative'],
)
def test_a_net_stays_near_float32_and_does_not_drift(gate, most, growth):
    layers = [nn.Conv2d(3, 12, 3, padding=1), nn.SiLU()]
    for _ in range(3):
        layers += [nn.Conv2d(12, 12, 3, padding=1), nn.SiLU()]
    plain = converted(nn.Sequential(*layers), gate)
    background = torch.rand(1, 3, 16, 16)
    frames = []
    for t in range(121):
        x = background.clone()
        x[..., t % 8 : t % 8 + 5, 3:9] = torch.rand(1, 3, 5, 6)
        frames.append(x)
    low = copy.deepcopy(plain)
    report = mmskip.accelerate(low, 'int8', frames[:8])
    mmskip.accelerate(plain)

    errors = [
        error(a, b)
        for a, b in zip(run(low, frames), run(plain, frames), strict=True)
    ]

    assert '4 of 4 layers in int8' in str(report)
    assert max(errors) < most
    assert sum(errors[111:]) < growth * sum(errors[21:31])


@torch.no_grad()
def test_clones_and_frames_without_a_plan_go_on_from_the_bytes():
    net = converted(TinyNet(), dict(type='InputNormGate', threshold=0.1))
    still = make_video(1, 1, *TinyNet.shape)[0]
    mmskip.accelerate(net, 'int8', [still])
    state = StreamState()
    (*_, expected) = run(net, [still + 1, still, still], state)
    other = copy.deepcopy(state)

    (output,) = run(net, [still], other)

    assert not any(m.any() for m in other.last_masks().values())
    assert error(output, expected) < 0.05


def test_memory_is_three_quarters_of_that_in_bfloat16():
    net = converted(nn.Sequential(*[
        nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        for _ in range(4)
    ]))  # fmt: skip
    frames = torch.rand(4, 1, 32, 64, 64).unbind()
    size = {}
    for precision in ('bfloat16', 'int8'):
        one = copy.deepcopy(net)
        given = [frames[:2]] if precision == 'int8' else []
        mmskip.accelerate(one, precision, *given)
        state = StreamState()
        run(one, frames, state)
        size[precision] = state.nbytes

    assert size['int8'] < 0.8 * size['bfloat16']


def test_depthwise_layers_and_those_that_lose_much_stay_in_bfloat16():
    net = converted(
        nn.Sequential(
            nn.Conv2d(4, 8, 3),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.Conv2d(8, 4, 1),
        )
    )
    # A range that is far larger than what the last layer usually reads.
    frames = [torch.rand(1, 4, 12, 12) for _ in range(3)]
    made = calibrate(net, frames)
    assert set(made.grids) == {'0', '2'}
    made.grids['2'] = made.grids['2']._replace(error=0.3)

    report = mmskip.accelerate(net, 'int8', made)

    assert [m.input_grid is not None for m in net] == [True, False, False]
    assert '1 of 2 layers in int8' in str(report)
    assert '2: error 0.300 in int8' in str(report)
    assert run(net, frames)[-1].isfinite().all()


def test_a_coarse_grid_has_a_large_error():
    net = converted(nn.Sequential(nn.Conv2d(2, 4, 1, bias=False)))
    fine = torch.rand(1, 2, 16, 16)
    wide = fine * torch.tensor([1e-3, 1.0]).view(1, 2, 1, 1)
    net[0].weight.data[:, 1] = 0

    (first,) = calibrate(net, [fine]).grids.values()
    (second,) = calibrate(net, [wide]).grids.values()

    assert first.error < 0.02 < second.error


def test_layers_that_read_nothing_but_zeros_stay_in_bfloat16():
    net = converted(nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)))
    net[0].weight.data.zero_()
    net[0].bias.data.zero_()

    assert set(calibrate(net, [torch.rand(1, 2, 8, 8)]).grids) == {'0'}


def test_a_calibration_is_written_and_read(tmp_path):
    net = converted(PyramidNet())
    frames = make_video(3, 1, *PyramidNet.shape)
    made = calibrate(net, frames)
    made.save(tmp_path / 'ranges.json')

    mmskip.accelerate(net, 'int8', tmp_path / 'ranges.json')

    assert Calibration.load(tmp_path / 'ranges.json').grids == made.grids
    layers = [m for m in net.modules() if hasattr(m, 'input_grid')]
    assert any(layer.input_grid for layer in layers)


BROKEN = {
    'no JSON': '{',
    'no object': '[]',
    'no layers': '{"most_error": 0.1}',
    'no step': '{"most_error": 0.1, "layers": {"0": {"zero": 1}}}',
    'a step of 0': json.dumps(
        dict(most_error=0.1, layers={'0': dict(step=0, zero=1, error=0)})
    ),
    'a zero of 300': json.dumps(
        dict(most_error=0.1, layers={'0': dict(step=1, zero=300, error=0)})
    ),
}


@pytest.mark.parametrize('content', BROKEN.values(), ids=BROKEN)
def test_a_broken_calibration_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'ranges.json'
    path.write_text(content)

    with pytest.raises(ValueError, match=r'ranges\.json'):
        Calibration.load(path)


def test_what_cannot_be_is_refused():
    net = converted(TinyNet())
    with pytest.raises(ValueError, match="'int8' and none; give it about 16"):
        mmskip.accelerate(net, 'int8')
    with pytest.raises(ValueError, match="'bfloat16' and one"):
        mmskip.accelerate(net, 'bfloat16', [])
    with pytest.raises(ValueError, match='expected frames to calibrate on'):
        mmskip.accelerate(net, 'int8', [])
    with pytest.raises(ValueError, match="with memory='accumulated'"):
        mmskip.accelerate(converted(TinyNet(), OPEN, 'previous'), 'int8', [])
    other = Calibration({'neck.conv': InputGrid(1, 0, 0)})
    with pytest.raises(ValueError, match='a calibration of this model'):
        mmskip.accelerate(converted(TinyNet()), 'int8', other)


def test_layers_of_mmcv_run_in_int8():
    cnn = pytest.importorskip('mmcv.cnn')
    net = converted(nn.Sequential(cnn.ConvModule(3, 8, 3), nn.Conv3d(1, 1, 1)))

    assert set(calibrate(net[0], [torch.rand(1, 3, 8, 8)]).grids) == {'conv'}
