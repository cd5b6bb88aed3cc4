"""Plans of graphs over tokens compute what their layers compute."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree

import mmskip
from mmskip.native import library as native
from mmskip.plan.graph import is_shape, trace
from mmskip.skip_conv import kept_attention
from tests.hosts.test_transformers import FAMILIES, converted, walk

pytestmark = pytest.mark.skipif(
    bool(native.MISSING), reason=str(native.MISSING)
)


class Block(nn.Module):
    """Windows of tokens that are rolled and padded, and a few layers."""

    def __init__(self, channels=8):
        super().__init__()
        self.embed = nn.Conv2d(3, channels, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 35, channels))
        self.norm = nn.LayerNorm(channels)
        self.inner = nn.Linear(channels, 3 * channels)
        self.act = nn.GELU()
        self.outer = nn.Linear(3 * channels, channels)
        self.merge = nn.Unfold(2, stride=2)
        self.reduce = nn.Linear(4 * channels, 2 * channels)

    def forward(self, image):
        x = self.embed(image)
        batch, channels, height, width = x.shape
        x = x.flatten(2).transpose(1, 2) + self.position
        windows = self.norm(x).view(batch, height, width, channels)
        windows = F.pad(windows, (0, 0, 0, width % 2, 0, height % 2))
        rows, columns = windows.shape[1:3]
        windows = windows.roll((-1, -1), (1, 2))
        windows = windows.view(
            batch, rows // 2, 2, columns // 2, 2, channels
        ).permute(0, 1, 3, 2, 4, 5)
        windows = windows.reshape(-1, 4, channels)
        y = self.outer(self.act(self.inner(windows)))
        y = y.view(batch, rows // 2, columns // 2, 2, 2, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, -1)
        y = y.roll((1, 1), (1, 2))[:, :height, :width]
        x = x + y.reshape(batch, -1, channels)
        maps = x.transpose(1, 2).unflatten(2, (height, width))
        return maps, self.reduce(self.merge(maps).transpose(1, 2))


def gated(model, threshold, memory='accumulated'):
    gate = dict(
        type='OutputNormGate', threshold=threshold, order=2, relative=True
    )
    model = copy.deepcopy(model).eval()
    mmskip.convert(model, mmskip.SkipConversion(gate, memory, linear=True))
    return model


def run(model, video, state=None):
    outputs = []
    with (
        torch.inference_mode(),
        mmskip.stream(model, state) as state,
        mmskip.count_macs(model) as macs,
    ):
        for frame in video:
            leaves = _pytree.tree_leaves(model(frame))
            outputs += [t.clone() for t in leaves if torch.is_tensor(t)]
    return outputs, macs, state


def assert_like(outputs, expected, rel=0.0):
    for one, other in zip(outputs, expected, strict=True):
        assert one.shape == other.shape
        bound = rel * other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=0, atol=bound)


def make_video(number=5, size=(20, 28)):
    torch.manual_seed(0)
    video = [torch.randn(1, 3, *size)]
    for index in range(number - 1):
        frame = video[-1].clone()
        frame[:, :, 4:8, 4 * index : 4 * index + 8] = torch.randn(1, 3, 4, 8)
        video.append(frame)
    return [*video, video[-1]]


@pytest.fixture(scope='module')
def block():
    torch.manual_seed(0)
    return Block().eval()


@pytest.mark.parametrize('memory', ['accumulated', 'previous'])
@pytest.mark.parametrize('threshold', [-1.0, 0.0, 0.3])
def test_a_plan_computes_what_the_layers_compute(block, threshold, memory):
    video = make_video()
    layers, planned = (gated(block, threshold, memory) for _ in range(2))
    report = mmskip.accelerate(planned)
    expected, macs, _ = run(layers, video)
    outputs, planned_macs, _ = run(planned, video)
    assert_like(outputs, expected)
    assert planned_macs.by_module() == macs.by_module()
    assert planned_macs.frames == macs.frames == len(video)
    assert report.plans.rows[''] == {
        'in a plan': len(video) - 1,
        'recorded for a plan': 1,
    }


def test_a_static_frame_computes_nothing(block, monkeypatch):
    model = gated(block, 0.0)
    mmskip.accelerate(model)
    frame = make_video()[0]
    with torch.inference_mode(), mmskip.stream(model):
        model(frame)
        expected = model(frame)
        for kind in ('MoveStep', 'TokenStep'):
            monkeypatch.setattr(f'mmskip.plan.steps.{kind}.compute', None)
        assert_like(model(frame), expected)


def test_streams_are_apart_and_begin_again(block):
    model = gated(block, 0.1)
    mmskip.accelerate(model)
    video, other = make_video(), make_video()[::-1]
    expected, _, state = run(model, video)
    assert_like(run(model, other)[0], run(gated(block, 0.1), other)[0])
    # The first frame of a third stream is not recorded: its sizes are known.
    assert_like(run(model, video)[0], expected)
    state.reset()
    assert_like(run(model, video, state)[0], expected)


@pytest.mark.parametrize('name', ['norm', 'inner', 'position'])
@pytest.mark.parametrize('past', [False, True], ids=['in place', 'data'])
def test_weights_that_change_are_noticed(block, name, past):
    model, twin = gated(block, 0.0), gated(block, 0.0)
    mmskip.accelerate(model)
    video = make_video()
    _, _, state = run(model, video)
    _, _, other = run(twin, video)
    for one in (model, twin):
        weight = getattr(one, name)
        weight = weight if torch.is_tensor(weight) else weight.weight
        with torch.no_grad():
            (weight.data if past else weight).mul_(1.5)
    if name == 'position' and past:
        state.reset()
        other.reset()
    expected = run(twin, video, other)[0]
    assert_like(run(model, video, state)[0], expected, 1e-6)


def test_batches_are_streams_in_lock_step(block):
    model = gated(block, 0.1)
    mmskip.accelerate(model)
    one, other = make_video(), make_video()[::-1]
    together = run(
        model, [torch.cat(both) for both in zip(one, other, strict=True)]
    )[0]
    for number, video in enumerate((one, other)):
        alone = run(gated(block, 0.1), video)[0]
        apart = [output[number : number + 1] for output in together]
        for found, expected in zip(apart, alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_sizes_are_constants_and_the_model_is_left_alone(block):
    model = gated(block, 0.1)
    before = {k: type(m) for k, m in model.named_modules()}
    graph = trace(model, (torch.randn(1, 3, 20, 28),), {})
    assert not any(map(is_shape, graph.nodes))
    assert {k: type(m) for k, m in model.named_modules()} == before
    assert run(model, make_video())[0]


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize('threshold', [-1.0, 0.05])
def test_transformers_of_the_hosts(name, threshold):
    """Their parts run in plans, or as they did; they compute the same."""
    torch.manual_seed(0)
    video = [frame.float() for frame in walk(FAMILIES[name].shape, 4, 1, 0.05)]
    results = []
    for accelerate in (False, True):
        model = converted(name, threshold, order=2, relative=True)
        model.float()
        model.eval()
        if accelerate:
            report = mmskip.accelerate(model)
        outputs, macs, _ = run(model, [*video, video[-1]])
        results.append((outputs, macs.total(), macs.frames))
    (expected, *counts), (outputs, *planned) = results
    if threshold < 0:
        assert planned == counts
        assert_like(outputs, expected, 1e-4)
    else:
        # A batch norm that is folded is rounded in another way.
        assert planned[0].dense == counts[0].dense
        assert planned[0].executed == pytest.approx(
            counts[0].executed, rel=0.1
        )
    ran = [rows['in a plan'] for rows in report.plans.rows.values()]
    assert sum(ran) > 0


class Halves(nn.Module):
    """Returns tokens in two halves, and uses one of them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.last = nn.Linear(4, 4)

    def forward(self, tokens):
        halves = self.first(tokens).chunk(2, -1)
        one, _ = self.first(tokens + 1).chunk(2, -1)
        return halves, self.last(one)


def test_halves_of_tokens_are_returned_and_read():
    torch.manual_seed(0)
    net = Halves().eval()
    video = [torch.randn(1, 9, 6)]
    for index in range(3):
        video.append(video[-1].clone())
        video[-1][:, index] += 1
    planned = gated(net, 0.0)
    report = mmskip.accelerate(planned)
    outputs = run(planned, video)[0]
    assert_like(outputs, run(gated(net, 0.0), video)[0])
    assert report.plans.rows['']['in a plan'] == 3


def test_tokens_stay_in_float32_whatever_is_asked_for(block):
    planned, exact = gated(block, 0.1), gated(block, 0.1)
    mmskip.accelerate(exact)
    report = mmskip.accelerate(planned, 'bfloat16')
    video = make_video()
    assert_like(run(planned, video)[0], run(exact, video)[0])
    assert 'tokens are kept in it' in str(report)


class Heads(nn.Module):
    """A linear layer over what may be taken for images."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.embed = nn.Conv2d(5, 6, 1)
        self.last = nn.Linear(6, 4)

    def forward(self, tokens):
        maps = self.embed(F.relu(self.first(tokens)))
        return self.last(maps), self.last(maps.permute(0, 2, 3, 1))


def test_tokens_of_four_dimensions_are_no_images():
    """Of (1, 5, 7, 6) the last are features, or the width of an image."""
    torch.manual_seed(0)
    net = Heads().eval()
    video = [torch.randn(1, 5, 7, 6)]
    for index in range(3):
        video.append(video[-1].clone())
        video[-1][:, index, :2] += 1
    planned = gated(net, 0.0)
    mmskip.accelerate(planned)
    expected, macs, _ = run(gated(net, 0.0), video)
    outputs, planned_macs, _ = run(planned, video)
    assert_like(outputs, expected, 1e-6)
    assert planned_macs.by_module() == macs.by_module()


class Transformer(nn.Module):
    """Attends over all tokens of an image, twice."""

    def __init__(self, width=8):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.inner = nn.Linear(width, width)
        self.cross = nn.MultiheadAttention(width, 2)
        self.query = nn.Linear(width, width)

    def forward(self, image):
        x = self.norm(self.embed(image).flatten(2).transpose(1, 2))
        x = x + self.attn(x, x, x, need_weights=False)[0]
        x = x + F.gelu(self.inner(x))
        query = self.query(x[:, :9]).transpose(0, 1)
        x = x.transpose(0, 1)
        mask = torch.ones(9, len(x), device=x.device).tril(20) == 0
        return self.cross(query, x, x, attn_mask=mask, need_weights=False)[0]


@pytest.mark.parametrize('shortest', [4, 128], ids=['blocks', 'whole'])
@pytest.mark.parametrize('threshold', [-1.0, 0.0, 0.3])
@pytest.mark.parametrize('images', [1, 2])
def test_a_plan_attends_as_the_layers_do(
    monkeypatch, shortest, threshold, images
):
    monkeypatch.setattr(kept_attention, 'SHORTEST_BLOCK', shortest)
    torch.manual_seed(0)
    video = make_video(6)
    if images == 2:
        video = [torch.cat(x) for x in zip(video, video[::-1], strict=True)]
    layers, planned = (gated(Transformer(), threshold) for _ in range(2))
    planned.load_state_dict(layers.state_dict())
    report = mmskip.accelerate(planned)
    expected, macs, _ = run(layers, video)
    outputs, planned_macs, state = run(planned, video)

    assert_like(outputs, expected, 1e-6)
    assert planned_macs.by_module() == macs.by_module()
    assert planned_macs.products() == macs.products()
    assert {*macs.products()} == {'attn', 'cross'}
    assert report.plans.rows['']['in a plan'] == len(video) - 1
    if threshold == 0.0 and images == 1:
        count = macs.products()['attn']
        assert count.executed < count.dense
    # Another video begins in the plan that is there.
    state.reset()
    assert_like(run(planned, video, state)[0], expected, 1e-6)
    assert state.nbytes > 0
