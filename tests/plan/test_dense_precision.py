"""Layers that are not skipped run in bfloat16 and int8."""

import copy
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip.native import LowKernels, packed
from mmskip.plan import Calibration
from mmskip.plan.dense import LowForward
from mmskip.reading import InputError
from tests.helpers.plans import OPEN, converted, error

LOW = ('bfloat16', 'int8')


class Block(nn.Module):
    """A residual block as hosts write it: one ReLU, sums in place."""

    def __init__(self, channels=16):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        identity = x
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += identity
        return self.relu(x)


class Net(nn.Module):
    """What lies in networks of images, and layers that stay in float32."""

    shape = (2, 3, 24, 32)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.act = nn.SiLU()
        self.blocks = nn.Sequential(Block(), Block())
        self.left = nn.Conv2d(16, 8, 1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.odd = nn.Conv2d(16, 4, 3, padding=1, padding_mode='reflect')
        self.scale = nn.Parameter(torch.rand(()) + 0.5)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.blocks(self.act(self.stem(x)))
        left = nn.functional.interpolate(self.left(x), scale_factor=2)
        x = torch.cat([left, self.up(x)], 1)
        x = self.odd(self.depthwise(x)) * self.scale
        return self.fc(x.mean((2, 3))), x


PRECISIONS = {
    'stem': 'int8',
    **{f'blocks.{i}.conv{j}': 'int8' for i in (0, 1) for j in (1, 2)},
    'left': 'int8',
    'up': 'bfloat16',
    'depthwise': 'bfloat16',
    'fc': 'int8',
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net().eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
    return net


@pytest.fixture
def frames():
    torch.manual_seed(1)
    return [torch.randn(Net.shape) for _ in range(4)]


def lowered(net, precision, frames):
    low = copy.deepcopy(net)
    given = [frames] if precision == 'int8' else []
    return low, mmskip.accelerate(low, precision, *given)


def assert_near(outputs, expected, most):
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.dtype == torch.float32
        assert error(ours, theirs) < most


@pytest.mark.parametrize('precision', LOW)
@torch.no_grad()
def test_results_stay_near_float32(net, frames, precision):
    low, report = lowered(net, precision, frames)

    # More bits in bfloat16: about 1 in 250 against 1 in 63 for weights.
    most = 0.02 if precision == 'bfloat16' else 0.06
    assert_near(low(frames[0]), net(frames[0]), most)

    assert report.dense.frames['']['from end to end'] == 1
    precisions = report.dense.layers
    if precision == 'bfloat16':
        assert precisions == dict.fromkeys(PRECISIONS, 'bfloat16')
    else:
        assert precisions == PRECISIONS
    assert report.dense.left == {'odd': "padding_mode='reflect'"}
    assert '1 in float32' in str(report)


@pytest.mark.parametrize('precision', LOW)
@torch.no_grad()
def test_layers_run_low_without_a_traced_forward(net, frames, precision):
    """Their results are those of the traced one but for the rounding."""
    low, report = lowered(net, precision, frames)
    low.blocks.register_forward_hook(lambda *_: None)

    most = 0.02 if precision == 'bfloat16' else 0.06
    assert_near(low(frames[0]), net(frames[0]), most)
    assert report.dense.frames['']['layer by layer: a hook inside'] == 1
    assert not low.stem(frames[0]).equal(net.stem(frames[0]))


@torch.no_grad()
def test_without_instructions_bfloat16_is_emulated(net, frames, monkeypatch):
    monkeypatch.setattr(packed, 'has_halves', lambda: False)
    for precision, most in (('bfloat16', 0.02), ('int8', 0.06)):
        low, _ = lowered(net, precision, frames)
        assert_near(low(frames[0]), net(frames[0]), most)


@pytest.mark.parametrize('precision', LOW)
@torch.no_grad()
def test_macs_and_state_stay(net, frames, precision):
    low, _ = lowered(net, precision, frames)
    with mmskip.count_macs(net) as dense:
        net(frames[0])
    with mmskip.count_macs(low) as macs:
        low(frames[0])

    assert macs.total() == dense.total()
    assert not macs.uncounted()
    names = set(low.state_dict())
    assert names < set(net.state_dict()) | {
        f'blocks.{i}.conv{j}.bias' for i in (0, 1) for j in (1, 2)
    }
    assert all(v.dtype == torch.float32 for v in low.state_dict().values())


@pytest.mark.parametrize('precision', LOW)
@torch.no_grad()
def test_other_weights_are_noticed(net, frames, precision):
    low, _ = lowered(net, precision, frames)
    before = low(frames[0])
    low.odd.weight.data.neg_()
    low.odd.bias.neg_()
    low.scale.data = low.scale.data * 2
    low.left.weight.data = low.left.weight.data.clone()

    after = low(frames[0])[1]

    torch.testing.assert_close(after, before[1] * -2)
    state = {k: v * 1.5 for k, v in low.state_dict().items()}
    low.load_state_dict(state)
    assert not low(frames[0])[1].equal(after)


@torch.no_grad()
def test_copies_and_pickles_run_alike(net, frames):
    low, _ = lowered(net, 'bfloat16', frames)
    expected = low(frames[0])
    for twin in (copy.deepcopy(low), pickle.loads(pickle.dumps(low))):
        for ours, theirs in zip(twin(frames[0]), expected, strict=True):
            assert ours.equal(theirs)
        assert twin.forward.module is twin
        twin.stem.weight.mul_(2)
    assert low(frames[0])[0].equal(expected[0])


def test_gradients_and_exports_are_of_the_model_in_float32(net, frames):
    low, _ = lowered(net, 'bfloat16', frames)
    with torch.no_grad():
        expected = net(frames[0])
        traced = torch.jit.trace(low, frames[0], check_trace=False)
        assert 'mkldnn' not in str(traced.inlined_graph)
        for ours, theirs in zip(traced(frames[0]), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    learned = low(frames[0])
    torch.testing.assert_close(learned[0], expected[0])
    learned[1].sum().backward()
    assert low.stem.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_sizes_batches_and_empty_images_may_change(net, frames):
    low, report = lowered(net, 'bfloat16', frames)
    for shape in ((1, 3, 16, 16), (3, 3, 40, 24), (1, 3, 16, 16)):
        x = torch.randn(shape)
        assert_near(low(x), net(x), 0.02)
    assert report.dense.frames['']['from end to end'] == 3

    convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    mmskip.accelerate(convs.eval(), 'bfloat16')
    assert convs(torch.empty(0, 3, 9, 9)).shape == (0, 4, 5, 5)


class Branches(nn.Module):
    """A forward that branches on values, around parts that do not."""

    def __init__(self):
        super().__init__()
        self.first = Block(8)
        self.second = nn.ModuleList([Block(8), Block(8)])

    def forward(self, x):
        x = self.first(x)
        return self.second[int(x.mean() > 1e9)](x)


@torch.no_grad()
def test_parts_of_what_cannot_be_traced_run_from_end_to_end():
    torch.manual_seed(0)
    net, x = Branches().eval(), torch.randn(1, 8, 12, 12)
    expected = net(x)
    report = mmskip.accelerate(net, 'bfloat16')

    for _ in range(2):
        assert error(net(x), expected) < 0.02

    frames = report.dense.frames
    assert frames['first']['from end to end'] == 2
    assert frames['second.0']['from end to end'] == 2
    assert 'second.1' not in frames
    assert 'first.relu' not in frames


@torch.no_grad()
def test_inputs_and_results_are_not_overwritten(frames):
    """A sum may be written over what it adds only if nobody reads that."""

    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)
            )

        def forward(self, x):
            a, b, c, d = self.convs
            first = a(x)
            view = first[:, :2]
            second = b(x) + first
            third = c(x) + second
            return x + 0, d(x) + x, second, third, view

    net = Sums().eval()
    expected = net(frames[0])
    given = frames[0].clone()
    low, _ = lowered(net, 'int8', frames)

    outputs = low(given)

    assert given.equal(frames[0])
    assert_near(outputs, expected, 0.05)


def test_int8_asks_for_frames_that_reach_a_layer(net, frames):
    with pytest.raises(InputError, match='give it about 16 frames'):
        mmskip.accelerate(net, 'int8')
    with pytest.raises(InputError, match='and with no other'):
        mmskip.accelerate(net, 'bfloat16', frames)
    with pytest.raises(ValueError, match='expected frames to calibrate on'):
        mmskip.accelerate(net, 'int8', [])
    with pytest.raises(InputError, match='layers, which int8 is for, got no'):
        mmskip.accelerate(nn.Sequential(nn.ReLU()).eval(), 'int8', frames)
    with pytest.raises(InputError, match='one of float32, bfloat16, int8'):
        mmskip.accelerate(net, 'float16')


def test_a_model_is_lowered_once(net, frames):
    low, _ = lowered(net, 'bfloat16', frames)
    with pytest.raises(InputError, match='is not accelerated, got one in a'):
        mmskip.accelerate(low, 'bfloat16')


@torch.no_grad()
def test_layers_that_lose_much_stay_in_bfloat16(net, frames, tmp_path):
    _, report = lowered(net, 'int8', frames)
    made = report.calibration
    made.grids['left'] = made.grids['left']._replace(error=0.3)
    made.save(tmp_path / 'int8.json')

    other = copy.deepcopy(net)
    report = mmskip.accelerate(other, 'int8', tmp_path / 'int8.json')

    assert report.dense.layers == {**PRECISIONS, 'left': 'bfloat16'}
    assert 'left: error 0.300 in int8' in str(report)
    assert other.left.packed.grid is None
    assert_near(other(frames[0]), net(frames[0]), 0.06)
    wrong = Calibration({'neck.conv': made.grids['left']})
    with pytest.raises(ValueError, match='a calibration of this model'):
        mmskip.accelerate(copy.deepcopy(net), 'int8', wrong)


@torch.no_grad()
def test_clips_run_low_where_they_run_as_images():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1)),
        nn.ReLU(),
        nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0)),
        nn.Conv3d(8, 4, 3),
    ).eval()
    clips = [torch.randn(1, 3, 5, 9, 9) for _ in range(3)]
    for precision in LOW:
        low, report = lowered(net, precision, clips)
        assert error(low(clips[0]), net(clips[0])) < 0.04
        assert report.dense.layers == dict.fromkeys('02', precision)
        why = 'Conv3d has no kernels of a lower precision'
        assert report.dense.left == {'3': why}


class Detector(nn.Module):
    """A converted body, and a head on parts of what it returns."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.roi_head = nn.Sequential(
            nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)
        )

    def forward(self, x):
        x = self.body(x)
        crops = x.unfold(2, 5, 5).unfold(3, 5, 5)
        crops = crops[0, :, : int(x.shape[2]) // 5].permute(1, 2, 0, 3, 4)
        return self.roi_head(crops.flatten(0, 1))


@pytest.mark.parametrize('precision', LOW)
@torch.no_grad()
def test_heads_beside_a_plan_run_in_its_precision(precision):
    pytest.importorskip('mmcv')
    torch.manual_seed(0)
    net = converted(Detector(), OPEN)
    frames = [torch.rand(1, 3, 15, 15) for _ in range(5)]
    expected = [net(x) for x in frames]
    low, report = lowered(net, precision, frames)

    with mmskip.stream(low), mmskip.count_macs(low) as macs:
        outputs = [low(x) for x in frames]

    assert report.dense.layers == dict.fromkeys(
        ('roi_head.0', 'roi_head.3'), precision
    )
    assert isinstance(low.roi_head[0].packed, LowKernels)
    assert_near(outputs, expected, 0.02 if precision == 'bfloat16' else 0.06)
    assert not macs.uncounted()


def test_layers_whose_weights_others_read_stay_in_float32():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(4, 4)
            self.proj = nn.Linear(4, 4)

        def forward(self, x):
            x = nn.functional.linear(x, self.qkv.weight, self.qkv.bias)
            return self.proj(x)

    report = mmskip.accelerate(Attention().eval(), 'bfloat16')

    assert report.dense.layers == {'proj': 'bfloat16'}
    assert report.dense.left == {'qkv': 'Attention reads its weights'}


def test_the_forward_is_a_low_one_only_where_it_says_so(net, frames):
    low, _ = lowered(net, 'bfloat16', frames)
    assert isinstance(low.forward, LowForward)
    plain, report = lowered(net, 'float32', frames)
    assert 'forward' not in vars(plain)
    assert not report.dense.layers


def test_gates_decide_in_float32():
    net = converted(nn.Sequential(nn.Conv2d(3, 8, 3)), dict(type='GumbelGate'))

    report = mmskip.accelerate(net, 'bfloat16')

    packed_layers = [m for m in net.modules() if hasattr(m, 'packed')]
    assert not packed_layers
    whys = set(report.dense.left.values())
    assert whys <= {'a part of SkipConv2d'}
