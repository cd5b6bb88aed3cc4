"""Plans in bfloat16: computed anew, finished at once, without drift."""

import copy

import pytest
import torch
from torch import nn

import mmskip
from mmskip import StreamState
from mmskip.native import library as native
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

#: Half a step of bfloat16, which has 8 digits.
HALF_STEP = 2**-8
#: It sees no difference between a value and what it is rounded to.
CALM = dict(type='InputNormGate', threshold=0.1)


def pair(net):
    """The same net in float32 and in bfloat16."""
    nets = net, copy.deepcopy(net)
    for one, precision in zip(nets, ('float32', 'bfloat16'), strict=True):
        mmskip.accelerate(one, precision)
    return nets


def rounded(x):
    return x.bfloat16().float()


LAYERS = {
    '3x3': dict(kernel_size=3, padding=1),
    'odd channels': dict(kernel_size=3, padding=1, in_channels=3),
    'without padding': dict(kernel_size=3),
    '1x1': dict(kernel_size=1),
    'strided': dict(kernel_size=3, padding=1, stride=2),
    'dilated': dict(kernel_size=3, padding=2, dilation=2),
    'wide': dict(kernel_size=(1, 7), padding=(0, 3)),
    'groups': dict(kernel_size=3, padding=1, groups=2, in_channels=6),
    'depthwise': dict(
        kernel_size=5, padding=2, groups=36, in_channels=36, out_channels=36
    ),
    'many channels': dict(
        kernel_size=3, padding=1, in_channels=40, out_channels=70, bias=False
    ),
}


ACTIVATIONS = {
    'none': nn.Identity(),
    'relu': nn.ReLU(),
    'silu': nn.SiLU(),
    'relu6': nn.ReLU6(),
    'hardswish': nn.Hardswish(),
    'leaky': nn.LeakyReLU(0.1),
}


@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize('name', LAYERS)
def test_outputs_are_those_of_torch_rounded_once(name, activation):
    settings = dict(in_channels=8, out_channels=16) | LAYERS[name]
    conv = nn.Conv2d(**settings)
    for parameter in conv.parameters():
        parameter.data.mul_(20).round_()
    after = ACTIVATIONS[activation]
    dense = copy.deepcopy(nn.Sequential(conv, after))
    net = converted(nn.Sequential(conv, after), OPEN)
    mmskip.accelerate(net, 'bfloat16')
    # Of whole numbers sums are exact in any order.
    video = make_video(5, 2, conv.in_channels, 9, 11)

    outputs = run(net, video)

    for x, output in zip(video[1:], outputs[1:], strict=True):
        expected = dense(x).detach()
        if activation == 'silu':
            torch.testing.assert_close(
                output, expected, rtol=HALF_STEP, atol=1e-6
            )
        else:
            assert output.equal(rounded(expected))


@pytest.mark.parametrize('instructions', INSTRUCTIONS)
def test_every_instruction_set_computes_the_same(instructions):
    names = 'torch_rounded_once or where_nothing_is_rounded'

    done = run_tests_with(instructions, __file__, names)

    assert done.returncode == 0, done.stdout


class Neck(nn.Module):
    """What lies between convolutions: sums, joins, pools, means, scales."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 16, 3, padding=1)
        self.right = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.dense = nn.ConvTranspose2d(32, 8, 2, 2, groups=2)
        self.last = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.up = nn.Upsample(scale_factor=2, mode='nearest')

    def forward(self, x):
        x = self.stem(x).relu()
        low = self.right(x)
        x = (x + self.left(x) + self.up(low)).relu()
        joined = torch.cat([self.pool(x), torch.tanh(low)], 1)
        joined = joined * self.mean(joined).sigmoid()
        return self.last(self.dense(joined)), joined


@torch.no_grad()
def test_all_kinds_of_steps_stay_near_float32():
    plain, halves = pair(converted(Neck(), OPEN))
    video = torch.rand(1, 3, 24, 32).repeat(12, 1, 1, 1)
    for t in range(1, 12):
        video[t, :, 4 : 10 + t, 5 + t : 12 + t] = torch.rand(3, 6 + t, 7)
    frames = video.split(1)

    for one, other in zip(
        run(halves, frames), run(plain, frames), strict=True
    ):
        for half, whole in zip(one, other, strict=True):
            assert half.dtype == whole.dtype == torch.float32
            assert half.is_contiguous() == whole.is_contiguous()
            assert error(half, whole) < 0.01


def test_rounding_does_not_build_up():
    layers = [nn.Conv2d(3, 12, 3, padding=1), nn.SiLU()]
    for _ in range(3):
        layers += [nn.Conv2d(12, 12, 3, padding=1), nn.SiLU()]
    plain, halves = pair(converted(nn.Sequential(*layers), OPEN))
    background = torch.rand(1, 3, 16, 16)
    errors = []
    with torch.no_grad(), mmskip.stream(halves):
        for t in range(301):
            x = background.clone()
            x[..., t % 8 : t % 8 + 5, 3:9] = torch.rand(1, 3, 5, 6)
            errors.append(error(halves(x), plain(x)))

    assert max(errors) < 0.01
    assert sum(errors[291:]) < 1.2 * sum(errors[21:31])


@torch.no_grad()
def test_a_static_frame_computes_nothing_and_noise_below_a_step_is_static():
    net = converted(TinyNet(), OPEN)
    mmskip.accelerate(net, 'bfloat16')
    x = torch.full((1, *TinyNet.shape), 0.75)
    state = StreamState()

    first, second, third = run(net, [x, x, x + 2**-12], state)

    assert first.allclose(second, atol=0.05)
    assert second.equal(third)
    assert not any(m.any() for m in state.last_masks().values())


@torch.no_grad()
def test_the_next_video_begins_in_the_plan_that_is_there():
    net = converted(PyramidNet(), OPEN)
    report = mmskip.accelerate(net, 'bfloat16')
    videos = [make_video(4, 1, *PyramidNet.shape) for _ in range(3)]
    state = StreamState()
    outputs = []
    for video in videos:
        state.reset()
        outputs.append(run(net, video, state))

    assert 'first frames of videos, in a plan' in str(report)
    # A plan that is made rounds its first frame at the end alone.
    for one, other in zip(outputs[2], run(net, videos[2]), strict=True):
        assert all(
            error(*pair) < 0.02 for pair in zip(one, other, strict=True)
        )


@torch.no_grad()
def test_masks_and_macs_are_those_of_float32_where_nothing_is_rounded():
    nets = pair(converted(TinyNet(), OPEN))
    for net in nets:
        for parameter in net.parameters():
            parameter.data.mul_(8).round_()
    video = make_video(5, 1, *TinyNet.shape, share=0.02)
    counts = []
    for net in nets:
        with mmskip.count_macs(net) as macs:
            run(net, video)
        counts.append(macs.by_module())

    assert counts[0] == counts[1]


class Excited(nn.Module):
    """Squeeze-and-excitation between two convolutions."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.excite = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        return self.last(x * self.excite(self.squeeze(x)).sigmoid())


def test_a_scale_that_moved_by_less_than_a_step_changes_nothing():
    plain, halves = pair(converted(Excited(), OPEN))
    x = torch.rand(1, 3, 32, 32)
    other = x.clone()
    other[..., 16, 16] += 0.05
    fired = []
    for net in (plain, halves):
        state = StreamState()
        run(net, [x, x, other], state)
        fired.append(state.last_masks()['last', 0].sum().item())

    assert fired == [32 * 32, 5 * 5]


def test_all_first_frames_are_rounded_and_counted_alike():
    _, net = pair(converted(TinyNet(), RELATIVE))
    video = make_video(3, 1, *TinyNet.shape, share=0.02)
    outputs, counts = [], []
    for _ in range(2):
        with mmskip.count_macs(net) as macs:
            outputs.append(run(net, video))
        counts.append((macs.by_module(), macs.uncounted(), macs.frames))

    assert counts[0] == counts[1]
    for one, other in zip(*outputs, strict=True):
        assert one.equal(other)


def test_memory_is_half():
    size = {}
    nets = pair(converted(nn.Sequential(*[
        nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        for _ in range(4)
    ]), RELATIVE))  # fmt: skip
    for name, net in zip(('float32', 'bfloat16'), nets, strict=True):
        state = StreamState()
        run(net, torch.rand(4, 1, 32, 64, 64).unbind(), state)
        size[name] = state.nbytes

    assert size['bfloat16'] < 0.55 * size['float32']


@torch.no_grad()
def test_a_frame_without_a_plan_goes_on_from_the_memory_of_the_plan():
    net = converted(TinyNet(), CALM)
    report = mmskip.accelerate(net, 'bfloat16')
    still = make_video(1, 1, *TinyNet.shape)[0]
    state = StreamState()
    with mmskip.stream(net, state):
        for x in (still + 1, still, still):
            expected = net(x)
        net.classifier.train()
        output = net(still)

    assert 'without a plan: a part is in training mode' in str(report)
    assert not any(m.any() for m in state.last_masks().values())
    assert error(output, expected) < 0.01


@torch.no_grad()
def test_a_copy_of_a_state_goes_on_from_where_it_was():
    net = converted(TinyNet(), CALM)
    mmskip.accelerate(net, 'bfloat16')
    still = make_video(1, 1, *TinyNet.shape)[0]
    state = StreamState()
    (*_, expected) = run(net, [still + 1, still, still], state)
    other = copy.deepcopy(state)

    (output,) = run(net, [still], other)

    assert not any(m.any() for m in other.last_masks().values())
    assert error(output, expected) < 0.01


def test_new_weights_are_noticed():
    net = converted(TinyNet(), OPEN)
    mmskip.accelerate(net, 'bfloat16')
    video = make_video(4, 1, *TinyNet.shape)
    state = StreamState()
    run(net, video[:3], state)
    net.body.weight.data.mul_(2)

    (output,) = run(net, video[3:], state)

    assert error(output, net(video[3]).detach()) < 0.02


def test_a_running_sum_stays_in_float32():
    net = TinyNet()
    net.classifier = nn.Identity()
    plain, halves = pair(converted(net, OPEN, 'previous'))
    video = make_video(5, 1, *TinyNet.shape)

    for one, other in zip(run(plain, video), run(halves, video), strict=True):
        assert one.equal(other)


def test_the_report_tells_what_stays_in_float32_and_why():
    net = converted(TinyNet(), OPEN, 'previous')
    report = mmskip.accelerate(net, 'bfloat16')
    run(net, make_video(3, 1, *TinyNet.shape))

    assert "in float32: memory='previous' is a running sum" in str(report)


def test_what_cannot_be_is_refused():
    with pytest.raises(
        ValueError, match='one of float32, bfloat16, int8, got'
    ):
        mmskip.accelerate(converted(TinyNet(), RELATIVE), 'int4')
    with pytest.raises(ValueError, match='the model is not on the CPU'):
        mmskip.accelerate(TinyNet().eval().to('meta'), 'bfloat16')
    net = converted(TinyNet(), RELATIVE)
    mmskip.accelerate(net)
    with pytest.raises(ValueError, match='accelerate'):
        mmskip.accelerate(net)


def runs_of_all_lengths(size):
    """A mask of which row h has h outputs side by side, and one more."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    for h in range(size):
        first = h // 3
        mask[h, first : first + h] = True
        mask[h, -1] = True
    return mask


@pytest.mark.parametrize('channels', [3, 8, 24, 40])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('groups', ['one', 'all'])
@pytest.mark.parametrize('width', [1, 3, 5, 7])
def test_outputs_side_by_side_are_those_of_torch(
    width, groups, precision, channels
):
    conv = nn.Conv2d(
        channels,
        channels,
        width,
        padding=width // 2,
        groups=channels if groups == 'all' else 1,
    )
    for parameter in conv.parameters():
        parameter.data.mul_(9).round_()
    dense = copy.deepcopy(conv)
    net = converted(
        nn.Sequential(conv), dict(type='InputNormGate', threshold=-1)
    )
    mmskip.accelerate(net, precision)
    video = [torch.randn(2, channels, 18, 18).round() for _ in range(3)]
    mask = runs_of_all_lengths(18)
    net[0].force_mask(mask)

    outputs = run(net, video)

    expected = dense(video[0])
    for x, output in zip(video, outputs, strict=True):
        now = dense(x)
        expected = now if x is video[0] else torch.where(mask, now, expected)
        if precision == 'bfloat16':
            assert torch.equal(output, rounded(expected))
        else:
            assert torch.equal(output, expected)


@pytest.mark.parametrize('channels', [1, 3, 5, 17, 255, 257, 300])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_changes_are_found_in_any_number_of_channels(precision, channels):
    conv = nn.Conv2d(channels, 4, 1, bias=False)
    conv.weight.data.mul_(9).round_()
    net = converted(
        nn.Sequential(conv), dict(type='InputNormGate', threshold=0)
    )
    mmskip.accelerate(net, precision)
    first = torch.randn(2, channels, 9, 70).round()
    changed = torch.rand(2, 1, 9, 70) < 0.1
    changed[:, :, 2:5] = False
    second = first.clone()
    # In one channel of each position that changed.
    channel = torch.randint(channels, changed.shape)
    second.scatter_add_(1, channel, changed.float())
    state = StreamState()

    outputs = run(net, [first, first, second], state)

    (mask,) = state.last_masks().values()
    assert torch.equal(mask, changed)
    for x, output in zip((first, first, second), outputs, strict=True):
        assert torch.equal(
            output, rounded(conv(x)) if precision == 'bfloat16' else conv(x)
        )
