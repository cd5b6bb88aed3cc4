"""Products of attention are computed for what changed, and named if not."""

import ast
import copy
import importlib
import inspect
import pickle
import pkgutil

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

import mmskip
from mmskip.skip_conv import attention, kept_attention
from mmskip.skip_conv.attention import (
    SEQUENCE_CLASSES,
    WINDOW_CLASSES,
    SkipSequenceMixin,
    multiplies_tokens,
)
from tests.skip_conv.test_attention import (
    EXACT,
    HEADS,
    MASKS,
    OPEN,
    TOLERANCE,
    WIDTH,
    Attends,
    close,
    convert,
)

TOKENS = 12
#: MACs of both products of a query with a key, in all heads.
PAIR = 2 * WIDTH
WHOLE = TOKENS**2 * PAIR


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Three blocks of four keys."""
    monkeypatch.setattr(kept_attention, 'SHORTEST_BLOCK', 4)


class Unweighted(Attends):
    """Asks for no weights."""

    def forward(self, query, key=None, value=None, **options):
        return super().forward(
            query, key, value, need_weights=False, **options
        )[0]


class Takes(nn.Module):
    """Asks for weights, as is torch's default, and drops them."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        return self.attn(x, x, x)[0]


class Reads(Takes):
    """Asks for weights, and reads them."""

    def forward(self, x):
        output, weights = self.attn(x, x, x)
        return output * weights.sum(-1, keepdim=True)


def videomae():
    host = pytest.importorskip('mmaction.models.backbones.vit_mae')
    net = host.Attention(WIDTH, HEADS)
    nn.init.normal_(net.q_bias)
    nn.init.normal_(net.v_bias)
    return net


def biasless():
    host = pytest.importorskip('mmaction.models.backbones.vit_mae')
    return host.Attention(WIDTH, HEADS, qkv_bias=False, qk_scale=0.3)


def uniformer():
    host = pytest.importorskip('mmaction.models.backbones.uniformer')
    return host.Attention(WIDTH, HEADS, qkv_bias=True, qk_scale=0.3)


SEQUENCES = [videomae, biasless, uniformer]
ALL = [Unweighted, Takes, *SEQUENCES]


class Whole(nn.Module):
    """A model of one module, whose name is that of torch's attention."""

    def __init__(self, make):
        super().__init__()
        self.part = make()
        self.eval()

    def forward(self, x):
        return self.part(x)


def name_of(make):
    return 'part.attn' if make in (Unweighted, Takes) else 'part'


def pair_of(make, dtype=torch.float64, gate=EXACT):
    torch.manual_seed(0)
    dense = Whole(make).to(dtype)
    net = copy.deepcopy(dense)
    convert(net, gate)
    return dense, net


def frame_with(x, tokens, sample=0):
    x = x.clone()
    x[sample, list(tokens)] = torch.randn(len(tokens), WIDTH).to(x)
    return x


def video(samples=1, dtype=torch.float64):
    """Nothing, one token, the same, others, and all of them change."""
    x = torch.randn(samples, TOKENS, WIDTH, dtype=dtype)
    shown = [x]
    for tokens in ([], [5], [5], [5, 6], [1, 9], range(TOKENS), [3]):
        shown.append(frame_with(shown[-1], tokens))
    return shown


@pytest.mark.parametrize('make', ALL)
@pytest.mark.parametrize('gate', [OPEN, EXACT], ids=['open', 'exact'])
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('samples', [1, 2])
@torch.no_grad()
def test_a_stream_computes_what_the_dense_model_does(
    make, gate, dtype, samples
):
    dense, net = pair_of(make, dtype, gate)

    with mmskip.stream(net):
        for frame in video(samples, dtype):
            close(net(frame), dense(frame))


@pytest.mark.parametrize('masks', MASKS)
@pytest.mark.parametrize('batch_first', [True, False])
@torch.no_grad()
def test_masks_are_those_of_torch(monkeypatch, masks, batch_first):
    monkeypatch.setattr(kept_attention, 'SHORTEST_BLOCK', 3)
    dense = Unweighted(batch_first).double().eval()
    net = copy.deepcopy(dense)
    convert(net, EXACT)
    query = torch.randn(2, 6, WIDTH).double()
    key = torch.randn(2, 10, WIDTH).double()

    with mmskip.stream(net):
        for number in (0, 3, 3, 4, 9):
            query = frame_with(query, [number % 3], number % 2)
            key = frame_with(key, [number, 5], number % 2)
            for _ in range(2):
                got = net(query, key, **MASKS[masks])
                close(got, dense(query, key, **MASKS[masks]))


@pytest.mark.parametrize('make', ALL)
@torch.no_grad()
def test_a_static_video_computes_the_products_of_one_frame(make):
    _, net = pair_of(make, torch.float32)
    frame = torch.randn(2, TOKENS, WIDTH)

    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        for _ in range(5):
            net(frame)

    (name, count), *others = macs.products().items()
    assert not others
    assert name == name_of(make)
    assert (count.dense, count.executed) == (5 * 2 * WHOLE, 2 * WHOLE)


@pytest.mark.parametrize('make', ALL)
@torch.no_grad()
def test_products_are_a_closed_form(make):
    _, net = pair_of(make)
    frame = torch.randn(1, TOKENS, WIDTH).double()
    computed = []

    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        for tokens in ([], [5], [5], [5, 6], [5, 6]):
            frame = frame_with(frame, tokens)
            before = macs.products().get(name_of(make))
            net(frame)
            after = macs.products()[name_of(make)]
            computed.append(after.executed - (before or (0, 0))[1])

    # Rows of the queries in blocks of no changed key; 6 is dealt to block 0.
    several = 8 * TOKENS + 2 * 4, 4 * TOKENS + 2 * 8
    expected = [WHOLE, WHOLE, (4 * TOKENS + 8) * PAIR]
    assert computed[:3] == expected
    assert computed[3] in [n * PAIR for n in several]
    assert computed[4] == several[1] * PAIR


@torch.no_grad()
def test_queries_and_keys_may_come_from_elsewhere():
    dense = Unweighted(batch_first=True).double().eval()
    net = copy.deepcopy(dense)
    convert(net, EXACT)
    query, key = (torch.randn(1, n, WIDTH).double() for n in (3, TOKENS))
    frames = [
        (query, key, 3 * TOKENS),
        (frame_with(query, [1]), key, TOKENS),
        (frame_with(query, [1]), frame_with(key, [7]), 3 * TOKENS),
    ]
    frames.append((frames[-1][0], frame_with(frames[-1][1], [7]), 3 * 4))

    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        total = 0
        for query, key, pairs in frames:
            close(net(query, key), dense(query, key))
            total += pairs * PAIR
            assert macs.products()['attn'].executed == total


@pytest.mark.parametrize('make', ALL)
@torch.no_grad()
def test_interleaved_streams_are_as_separate_ones(make):
    _, net = pair_of(make)
    videos = [video(), video()]
    alone = []
    for frames in videos:
        with mmskip.stream(net):
            alone.append([net(frame) for frame in frames])

    states = [mmskip.StreamState(), mmskip.StreamState()]
    for index in range(len(videos[0])):
        for state, frames, expected in zip(states, videos, alone, strict=True):
            with mmskip.stream(net, state):
                assert torch.equal(net(frames[index]), expected[index])
    with mmskip.stream(net):
        for index, frames in enumerate(zip(*videos, strict=True)):
            together = net(torch.cat(frames))
            close(together, torch.cat([one[index] for one in alone]))


@pytest.mark.parametrize('make', ALL)
@torch.no_grad()
def test_a_clip_is_a_stream(make):
    _, net = pair_of(make)
    frames = video()
    with mmskip.stream(net):
        expected = torch.cat([net(frame) for frame in frames])

    with mmskip.clip(net, len(frames)), mmskip.count_macs(net) as macs:
        close(net(torch.cat(frames)), expected)

    # A clip computes them whole.
    count = macs.products()[name_of(make)]
    assert count.dense == count.executed == len(frames) * WHOLE


@pytest.mark.parametrize('shortest', [4, 128], ids=['blocks', 'whole'])
@pytest.mark.parametrize('make', ALL)
def test_a_stream_goes_on_in_another_mode(monkeypatch, make, shortest):
    monkeypatch.setattr(kept_attention, 'SHORTEST_BLOCK', shortest)
    dense, net = pair_of(make, torch.float32)
    modes = torch.inference_mode, torch.no_grad

    with mmskip.stream(net):
        for index, frame in enumerate(video(2, torch.float32)):
            with modes[index // 2 % 2]():
                close(net(frame), dense(frame))


@pytest.mark.parametrize('make', ALL)
def test_what_changes_while_nothing_is_kept_is_not_missed(make):
    """With gradients an attention is computed, and not kept."""
    dense, net = pair_of(make)
    frame = torch.randn(1, TOKENS, WIDTH).double()

    with mmskip.stream(net):
        for tokens, gradients in (
            ([], False),
            ([5], False),
            ([1], True),
            ([9], False),
            ([9], False),
        ):
            frame = frame_with(frame, tokens)
            with torch.set_grad_enabled(gradients):
                close(net(frame), dense(frame))


@pytest.mark.parametrize('make', SEQUENCES)
def test_attention_of_a_host_learns_in_a_clip(make):
    dense, net = pair_of(make, gate=OPEN)
    frames = torch.cat(video()[:3])

    with mmskip.clip(net.train(), 3):
        net(frames).square().sum().backward()
    dense(frames).square().sum().backward()

    for got, expected in zip(
        net.parameters(), dense.parameters(), strict=True
    ):
        close(got.grad, expected.grad)


@pytest.mark.parametrize('make', SEQUENCES)
@torch.no_grad()
def test_attention_of_a_host_is_its_own_outside_of_streams(make):
    dense, net = pair_of(make)
    frame = torch.randn(2, TOKENS, WIDTH).double()
    assert isinstance(net.part, SkipSequenceMixin)
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(frame), dense(frame))
        with mmskip.stream(other):
            close(other(frame), dense(frame))
        mmskip.revert(other)
        assert type(other.part) is type(dense.part)
        assert torch.equal(other(frame), dense(frame))


@pytest.mark.parametrize('name', ['q_bias', 'qkv.weight'])
@torch.no_grad()
def test_other_weights_compute_products_anew(name):
    dense, net = pair_of(videomae)
    frames = video()[:3]

    with mmskip.stream(net):
        for frame in frames:
            net(frame)
        for model in (dense, net):
            model.get_parameter(f'part.{name}').data.mul_(2)
        close(net(frames[-1]), dense(frames[-1]))


@torch.no_grad()
def test_weights_that_nobody_reads_are_not_computed():
    for make, drops in ((Takes, True), (Reads, False)):
        dense, net = pair_of(make)
        assert net.part.attn.drops_weights == drops
        frame = torch.randn(1, TOKENS, WIDTH).double()
        returned = []
        hook = net.part.attn.register_forward_hook(
            lambda module, inputs, output, to=returned: to.append(output[1])
        )
        with mmskip.stream(net):
            close(net(frame), dense(frame))
        hook.remove()
        assert [weights is None for weights in returned] == [drops]
        mmskip.revert(net)
        assert 'drops_weights' not in vars(net.part.attn)


def test_an_attention_that_somebody_else_reads_keeps_its_weights():
    net = Whole(Takes)
    net.other = Whole(Reads)
    net.other.part.attn = net.part.attn

    convert(net)

    assert not net.part.attn.drops_weights


def test_the_hosts_drop_the_weights_of_their_attention():
    bricks = pytest.importorskip('mmcv.cnn.bricks.transformer')
    net = bricks.MultiheadAttention(WIDTH, HEADS)
    convert(net)
    assert net.attn.drops_weights

    pvt = pytest.importorskip('mmdet.models.backbones.pvt')
    net = pvt.SpatialReductionAttention(WIDTH, HEADS, sr_ratio=2)
    convert(net)
    assert net.attn.drops_weights


@torch.no_grad()
def test_dropout_in_a_stream_is_that_of_training():
    net = Whole(lambda: Unweighted(batch_first=True, dropout=0.5))
    convert(net, EXACT)
    frame = torch.randn(1, TOKENS, WIDTH)

    with mmskip.stream(net.train()) as state:
        first = net(frame)
        state.reset()
        assert not torch.equal(net(frame), first)


def test_the_report_names_what_is_computed_whole():
    backbones = pytest.importorskip('mmaction.models.backbones')
    with DefaultScope.overwrite_default_scope('mmaction'):
        mvit = backbones.MViT(
            arch=dict(
                embed_dims=8, num_layers=1, num_heads=1, downscale_indices=[]
            ),
            spatial_size=32,
            temporal_size=4,
        )
    net = nn.ModuleDict(dict(a=Takes(), b=videomae(), c=Takes(), d=mvit))
    net['e'] = uniformer()

    report = mmskip.convert(
        net,
        mmskip.SkipConversion(OPEN, linear=True),
        exclude=[r'c\.attn', r'e\.qkv'],
    )

    assert report.dense_products == {
        'c.attn': 'its projections stay dense',
        'd.blocks.0.attn': 'MultiScaleAttention is not known',
        'e': 'its qkv stays dense',
    }
    assert (
        'attention products computed whole, 1 x MultiScaleAttention is not '
        'known: d.blocks.0.attn'
    ) in str(report)


#: Products in methods of the hosts that are no attention: of features with
#: masks, kernels, coordinates, words or the edges of a graph.
NO_ATTENTION = {
    'AdaptiveActivationBlock',
    'BMN',
    'CLIPSimilarity',
    'ContrastiveEmbed',
    'DCC',
    'DynamicConv',
    'Mask2FormerHead',
    'Mask2FormerTrackHead',
    'MaskFormerHead',
    'RTMCCHead',
    'RTMWHead',
    'SimCCHead',
    'SoftTeacher',
    'TaskDecomposition',
    'VLFusionModule',
    'YOLACTProtonet',
    'unit_aagcn',
    'unit_gcn',
}


def classes_of(host):
    """Find all modules of a host that can be imported here."""
    for found in pkgutil.walk_packages(host.__path__, f'{host.__name__}.'):
        try:
            module = importlib.import_module(found.name)
        except ImportError:  # what is not installed here
            continue
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == found.name:
                yield kind


@pytest.mark.parametrize(
    'name', ['mmcv.cnn', 'mmdet.models', 'mmpose.models', 'mmaction.models']
)
def test_all_products_in_modules_of_the_hosts_are_attention_or_known(name):
    host = pytest.importorskip(name)
    known = WINDOW_CLASSES | SEQUENCE_CLASSES
    for kind in classes_of(host):
        if not issubclass(kind, nn.Module):
            continue
        has_products = any(
            attention._multiplies(method)
            for method in attention._nodes_of(kind)
            if isinstance(method, ast.FunctionDef)
        )
        is_named = multiplies_tokens(kind)
        path = kind.__module__, kind.__name__
        assert is_named or path not in known
        assert is_named == (has_products and path[1] not in NO_ATTENTION), path
