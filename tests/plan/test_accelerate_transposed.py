"""Transposed convolutions in plans: steps of the library, idle at rest."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
from mmskip.plan import Calibration
from mmskip.plan.quantize import InputGrid
from mmskip.plan.steps import NativeSteps, WholeStep
from mmskip.skip_conv import MEMORY_RULES, SkipConvMixin
from tests.helpers.convs import make_video
from tests.helpers.plans import (
    INSTRUCTIONS,
    OPEN,
    converted,
    error,
    run,
    run_tests_with,
)
from tests.helpers.stir import stir
from tests.helpers.twins import GATES, Twins, convert, eventful
from tests.hosts.host import default_scope, without_downloads

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

LAYERS = {
    '4x4 by 2': dict(kernel_size=4, stride=2, padding=1),
    '2x2 by 2': dict(kernel_size=2, stride=2),
    '3x3 by 2': dict(kernel_size=3, stride=2, padding=1, output_padding=1),
    '3x3 by 1': dict(kernel_size=3, padding=1),
    '8x8 by 4': dict(kernel_size=8, stride=4, padding=2),
    'oblong': dict(kernel_size=(2, 5), stride=(2, 1), padding=(0, 2)),
    'many channels': dict(
        kernel_size=4,
        stride=2,
        padding=1,
        in_channels=40,
        out_channels=70,
        bias=False,
    ),
}
EACH = pytest.mark.parametrize('name', LAYERS)


def layer(name):
    return nn.ConvTranspose2d(
        **(dict(in_channels=8, out_channels=16) | LAYERS[name])
    )


def decoder():
    """A stem, and enlargements with norms, activations and a sum."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(6, 4, 3, 2, 1, 1),
        nn.SiLU(),
        nn.Conv2d(4, 2, 1),
    )


@EACH
@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('gate', GATES)
def test_a_plan_computes_what_layers_do(gate, memory, name):
    net = nn.Sequential(layer(name), nn.ReLU(), nn.Conv2d(16, 4, 3))
    if name == 'many channels':
        net[2] = nn.Conv2d(70, 4, 3)
    both = Twins(convert(net, GATES[gate], memory), tolerance=1e-6)

    video = eventful(2, net[0].in_channels, 7, 9)
    both.watch(video)

    both.count(video[0])
    (plan,) = both.plans
    assert [type(step) for step in plan.steps] == [NativeSteps]


@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_a_folded_decoder_runs_as_one_step_each(memory):
    net = convert(stir(decoder()), GATES['input'], memory)
    dense = copy.deepcopy(net)
    x = torch.randn(2, 3, 12, 12)

    report = mmskip.fold(net)

    assert report.norms == ['1']
    assert report.activations == ['1', '4']
    torch.testing.assert_close(net(x), dense(x))
    both = Twins(net, tolerance=1e-5)
    both.watch(eventful(2, 3, 12, 12))
    (plan,) = both.plans
    assert len(plan.steps) == 1
    assert len(plan.convs) == 4


@pytest.mark.parametrize('groups', [1, 2])
@torch.no_grad()
def test_a_norm_goes_into_a_dense_one_too(groups):
    net = stir(
        nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=groups),
            nn.BatchNorm2d(6),
        )
    )
    x = torch.randn(2, 4, 5, 6)
    expected = net(x)

    report = mmskip.fold(net)

    assert report.norms == ['0']
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize('activation', [nn.Identity, nn.ReLU, nn.ReLU6])
@EACH
def test_outputs_in_bfloat16_are_rounded_once(name, activation):
    conv = layer(name)
    for parameter in conv.parameters():
        parameter.data.mul_(20).round_()
    dense = copy.deepcopy(nn.Sequential(conv, activation()))
    net = converted(nn.Sequential(conv, activation()), OPEN)
    mmskip.accelerate(net, 'bfloat16')
    video = make_video(5, 2, conv.in_channels, 9, 11)

    outputs = run(net, video)

    for x, output in zip(video, outputs, strict=True):
        assert output.equal(dense(x).detach().bfloat16().float())


@pytest.mark.parametrize('activation', [nn.Identity, nn.ReLU])
@EACH
def test_sums_of_bytes_are_exact(name, activation):
    zero, conv = 10, layer(name)
    weight = torch.randint(-63, 64, conv.weight.shape).float()
    # Each phase has a scale of its own: here 1.
    height, width = conv.stride
    weight[:1, :, :height, :width] = 63
    conv.weight.data.copy_(weight)
    if conv.bias is not None:
        conv.bias.data.copy_(torch.randint(-99, 100, conv.bias.shape))
    dense = copy.deepcopy(nn.Sequential(conv, activation()))
    net = converted(nn.Sequential(conv, activation()))
    mmskip.accelerate(net, 'int8', Calibration({'0': InputGrid(1, zero, 0)}))
    frame = torch.randint(-zero, 256 - zero, (1, conv.in_channels, 9, 11))
    video = [frame.float()]
    for t in range(3):
        video.append(video[-1].clone())
        video[-1][..., t : t + 4, 3:7] = 5 * t - zero

    outputs = run(net, video)

    for x, output in zip(video, outputs, strict=True):
        assert output.equal(dense(x).detach().bfloat16().float())


@pytest.mark.parametrize('instructions', INSTRUCTIONS)
def test_every_instruction_set_computes_the_same(instructions):
    names = 'rounded_once or bytes_are_exact'

    done = run_tests_with(instructions, __file__, names)

    assert done.returncode == 0, done.stdout


@torch.no_grad()
def test_calibration_finds_a_grid_for_them():
    net = converted(stir(decoder()), OPEN)
    dense = copy.deepcopy(net)
    video = make_video(4, 1, 3, 16, 16)

    report = mmskip.accelerate(net, 'int8', calibration=video)

    assert {'1', '4'} <= report.calibration.in_int8().keys()
    for x, output in zip(video, run(net, video), strict=True):
        assert error(output, dense(x)) < 0.05


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_at_rest_nothing_is_computed_and_nothing_changes(precision):
    net = converted(stir(decoder()), OPEN)
    mmskip.accelerate(net, precision)
    (x, y), state = make_video(2, 1, 3, 16, 16), StreamState()

    run(net, [x, y], state)
    with mmskip.count_macs(net) as macs:
        first, again = run(net, [y, y], state)

    assert torch.equal(first, again)
    assert macs.total().executed == 0
    (plan,) = state.plans.values()
    assert not any(mask.any() for mask in state.last_masks().values())
    assert [type(step) for step in plan.steps] == [NativeSteps]


def test_another_video_begins_as_the_first():
    net = converted(stir(decoder()), OPEN)
    mmskip.accelerate(net, 'bfloat16')
    video = make_video(3, 1, 3, 16, 16)
    state = StreamState()
    expected = run(net, video, state)
    run(net, make_video(3, 1, 3, 16, 16), state)
    state.reset()

    found = run(net, video, state)

    assert all(map(torch.equal, found, expected))


def test_one_that_stays_dense_is_idle_at_rest():
    grouped = nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), grouped, nn.Conv2d(4, 2, 1))
    net = converted(net, OPEN)
    mmskip.accelerate(net)
    x, y = make_video(2, 1, 3, 8, 8)
    calls, state = [], StreamState()
    run(net, [x, y], state)
    (plan,) = state.plans.values()
    (step,) = (step for step in plan.steps if isinstance(step, WholeStep))
    compute = step.function
    step.function = lambda values: calls.append(1) or compute(values)

    run(net, [y, y, x], state)

    assert len(calls) == 1


@torch.no_grad()
def test_the_heads_of_simple_baseline_are_in_the_plan():
    pytest.importorskip('mmpose.utils').register_all_modules(
        init_default_scope=False
    )
    name = 'body_2d_keypoint/topdown_heatmap/coco/'
    name += 'td-hm_res50_8xb64-210e_coco-256x192'
    cfg = Config.fromfile(Config._get_cfg_path(f'mmpose::{name}.py', '')[0])
    cfg.model.backbone.depth = 18
    cfg.model.head.in_channels = 512
    cfg.model.head.deconv_out_channels = (16, 16, 16)
    with default_scope('mmpose'):
        model = MODELS.build(without_downloads(cfg.model))
    dense = stir(model)
    net = converted(copy.deepcopy(dense), OPEN)
    mmskip.accelerate(net)
    video = make_video(4, 1, 3, 64, 64, share=0.02)
    state = StreamState()
    with mmskip.stream(net, state):
        outputs = [net(x, None) for x in [*video, video[-1]]]

    ups = [m for m in net.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    for x, output in zip(video, outputs, strict=False):
        assert error(output, dense(x, None)) < 1e-4
    steps = [type(s) for p in state.plans.values() for s in p.steps]
    assert [isinstance(m, SkipConvMixin) for m in ups] == [True] * 3
    assert steps == [NativeSteps]
    assert not any(mask.any() for mask in state.last_masks().values())
