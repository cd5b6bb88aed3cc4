"""Attentions whose projections are no layers that anybody calls."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

import mmskip
from mmskip.core.convert import check_gates
from mmskip.skip_conv.attention import (
    SkipLinearApart,
    SkipMultiheadAttention,
)

OPEN = dict(type='OutputNormGate', threshold=-1.0)
EXACT = dict(type='OutputNormGate', threshold=0.0)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
QUERIES, KEYS, WIDTH, HEADS = 6, 10, 8, 2


class Attends(nn.Module):
    """A model of one attention, with images first."""

    def __init__(self, batch_first=False, **options):
        super().__init__()
        self.attn = nn.MultiheadAttention(
            WIDTH, HEADS, batch_first=batch_first, **options
        )
        for bias in (self.attn.in_proj_bias, self.attn.out_proj.bias):
            if bias is not None:
                nn.init.normal_(bias)

    def forward(self, query, key=None, value=None, **options):
        key = query if key is None else key
        value = key if value is None else value
        tokens = query, key, value
        if not self.attn.batch_first:
            tokens = [x.transpose(0, 1) for x in tokens]
        output, weights = self.attn(*tokens, **options)
        if not self.attn.batch_first:
            output = output.transpose(0, 1)
        return output, weights


class Joint(nn.Module):
    """Multiplies by the weight of a layer, with a bias that it puts together.

    mmaction2's VideoMAE does.
    """

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias = nn.Parameter(torch.randn(WIDTH))
        self.v_bias = nn.Parameter(torch.randn(WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        k_bias = torch.zeros_like(self.v_bias, requires_grad=False)
        bias = torch.cat((self.q_bias, k_bias, self.v_bias))
        qkv = F.linear(input=x, weight=self.qkv.weight, bias=bias)
        q, k, v = qkv.chunk(3, -1)
        return self.proj((q @ k.mT).softmax(-1) @ v)


def convert(model, gate=OPEN, memory='accumulated'):
    return mmskip.convert(
        model, mmskip.SkipConversion(gate, memory, linear=True)
    )


def close(got, expected):
    assert got.shape == expected.shape
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def video(frames=4, images=1, tokens=QUERIES, dtype=torch.float32):
    """Make frames in which a third of the tokens change."""
    x, shown = torch.randn(images, tokens, WIDTH, dtype=dtype), []
    for _ in range(frames):
        x = x.clone()
        x[:, : tokens // 3] += torch.randn_like(x[:, : tokens // 3])
        shown.append(x)
    return shown


MASKS = {
    'none': {},
    'bool': dict(attn_mask=torch.ones(QUERIES, KEYS).tril(5) == 0),
    'float': dict(attn_mask=torch.randn(QUERIES, KEYS).double()),
    'heads': dict(attn_mask=torch.randn(2 * HEADS, QUERIES, KEYS).double()),
    'padding': dict(key_padding_mask=(torch.arange(KEYS) > 7).expand(2, -1)),
    'both': dict(
        attn_mask=torch.ones(QUERIES, KEYS).tril(5) == 0,
        key_padding_mask=(torch.arange(KEYS) > 7).expand(2, -1),
    ),
}


@pytest.mark.parametrize('masks', MASKS)
@pytest.mark.parametrize('batch_first', [True, False])
@pytest.mark.parametrize('dtype', TOLERANCE)
@torch.no_grad()
def test_an_open_gate_attends_as_torch_does(dtype, batch_first, masks):
    dense = Attends(batch_first).to(dtype).eval()
    net = copy.deepcopy(dense)
    convert(net)
    masks = {
        name: mask if mask.dtype == torch.bool else mask.to(dtype)
        for name, mask in MASKS[masks].items()
    }
    ways = [
        dict(need_weights=False),
        dict(need_weights=True),
        dict(need_weights=True, average_attn_weights=False),
    ]
    for options in ways:
        with mmskip.stream(net):
            for _ in range(3):
                query = torch.randn(2, QUERIES, WIDTH, dtype=dtype)
                key = torch.randn(2, KEYS, WIDTH, dtype=dtype)
                value = torch.randn(2, KEYS, WIDTH, dtype=dtype)
                expected = dense(query, key, value, **masks, **options)
                got = net(query, key, value, **masks, **options)
                close(got[0], expected[0])
                assert (got[1] is None) == (expected[1] is None)
                if got[1] is not None:
                    close(got[1], expected[1])


@pytest.mark.parametrize('bias', [True, False])
@torch.no_grad()
def test_an_open_gate_equals_self_attention_on_the_fast_path(bias):
    dense = Attends(batch_first=True, bias=bias).eval()
    net = copy.deepcopy(dense)
    convert(net)

    with mmskip.stream(net):
        for frame in video():
            close(net(frame)[0], dense(frame)[0])


@torch.no_grad()
def test_keys_and_values_may_be_of_other_widths():
    dense = Attends(kdim=5, vdim=3).double()
    net = copy.deepcopy(dense)
    keys = set(dense.state_dict())
    convert(net)
    assert set(net.state_dict()) == keys

    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        for _ in range(2):
            tokens = [
                torch.randn(2, length, width).double()
                for length, width in ((QUERIES, WIDTH), (KEYS, 5), (KEYS, 3))
            ]
            close(net(*tokens)[0], dense(*tokens)[0])

    once = 2 * WIDTH * (2 * QUERIES * WIDTH + KEYS * (5 + 3))
    assert macs.total().dense == macs.total().executed == 2 * once


@torch.no_grad()
def test_a_single_sequence_needs_no_batch():
    class Alone(Attends):
        def forward(self, frame):
            return self.attn(*frame, *frame, *frame)

    dense = Alone().double()
    net = copy.deepcopy(dense)
    convert(net)

    with mmskip.stream(net):
        for x in video(dtype=torch.float64):
            for got, expected in zip(net(x), dense(x), strict=True):
                close(got, expected)


def test_a_causal_hint_without_its_mask_is_refused():
    net = Attends()
    convert(net)

    with mmskip.stream(net), torch.no_grad():
        mask = torch.ones(QUERIES, QUERIES).triu(1) == 1
        net(video()[0], attn_mask=mask, is_causal=True, need_weights=False)
        with pytest.raises(ValueError, match='expected the causal attn_mask'):
            net(video()[0], is_causal=True, need_weights=False)


@pytest.mark.parametrize('make', [Attends, Joint])
@torch.no_grad()
def test_outside_of_a_stream_nothing_is_different(make):
    dense = make().eval()
    net = copy.deepcopy(dense)
    keys = list(dense.state_dict())
    report = convert(net)
    assert report.converted
    x = torch.randn(2, QUERIES, WIDTH)

    assert list(net.state_dict()) == keys
    for got, expected in zip(net(x), dense(x), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize('make', [Attends, Joint])
def test_revert_is_exact(make):
    net = make()
    kinds = [(name, type(m)) for name, m in net.named_modules()]
    kept = [{*vars(m)} for m in net.modules()]
    parameters = dict(net.named_parameters())
    convert(net)
    with mmskip.stream(net), torch.no_grad():
        net(torch.randn(1, QUERIES, WIDTH))

    mmskip.revert(net)

    assert [(name, type(m)) for name, m in net.named_modules()] == kinds
    assert [{*vars(m)} for m in net.modules()] == kept
    for name, parameter in net.named_parameters():
        assert parameter is parameters[name]


@pytest.mark.parametrize('make', [Attends, Joint])
@pytest.mark.parametrize('memory', ['accumulated', 'previous'])
@torch.no_grad()
def test_a_clip_is_a_stream(make, memory):
    net = make().double().eval()
    convert(net, dict(type='OutputNormGate', threshold=0.3), memory)
    frames = video(5, dtype=torch.float64)

    with mmskip.stream(net) as state:
        shown = [net(frame) for frame in frames]
        masks = state.last_masks()
    with mmskip.clip(net, len(frames)):
        whole = net(torch.cat(frames))

    assert not all(mask.all() for mask in masks.values())
    for got, expected in zip(whole, shown, strict=False):
        if isinstance(expected, tuple):
            got, expected = whole[0], torch.cat([y for y, _ in shown])
        close(got, expected.reshape(got.shape))


@pytest.mark.parametrize('make', [Attends, Joint])
@torch.no_grad()
def test_interleaved_streams_are_as_separate_ones(make):
    net = make().double().eval()
    convert(net, dict(type='OutputNormGate', threshold=0.3))
    videos = [video(3, dtype=torch.float64) for _ in range(2)]
    alone = []
    for frames in videos:
        with mmskip.stream(net):
            alone.append([net(frame) for frame in frames])

    states = [mmskip.StreamState(), mmskip.StreamState()]
    for index in range(3):
        for state, frames, expected in zip(states, videos, alone, strict=True):
            with mmskip.stream(net, state):
                for got, wanted in zip(
                    net(frames[index]), expected[index], strict=True
                ):
                    assert torch.equal(got, wanted)


@pytest.mark.parametrize('make', [Attends, Joint])
@torch.no_grad()
def test_a_static_video_costs_one_frame(make):
    dense = make().eval()
    net = copy.deepcopy(dense)
    convert(net, EXACT)
    frame = torch.randn(2, QUERIES, WIDTH)
    once = 2 * QUERIES * 4 * WIDTH * WIDTH

    counts = []
    for model in (dense, net):
        with mmskip.count_macs(model) as macs:
            for _ in range(5):
                model(frame)
        counts.append(macs)
    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        for _ in range(5):
            close(
                *(
                    y[0] if isinstance(y, tuple) else y
                    for y in (net(frame), dense(frame))
                )
            )

    for count in (*counts, macs):
        assert count.total().dense == 5 * once
        assert count.frames == 10
        # Scores, and what is attended to.
        assert sum(count.uncounted().values()) == 2
    assert counts[0].total() == counts[1].total()
    assert macs.total().executed == once


@torch.no_grad()
def test_macs_are_those_of_the_tokens_that_changed():
    net = Attends().double().eval()
    convert(net, EXACT)
    query, key = (torch.randn(1, n, WIDTH).double() for n in (QUERIES, KEYS))

    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        net(query, key)
        query[:, :2] += 1
        net(query, key)
        key[:, 3] += 1
        net(query, key)

    executed = {k: v.executed for k, v in macs.by_module().items()}
    token = WIDTH * WIDTH
    # A query attends by itself, a key is attended to by all.
    assert executed == {
        'attn.query': token * (QUERIES + 2),
        'attn.key': token * (KEYS + 1),
        'attn.value': token * (KEYS + 1),
        'attn.out_proj': token * (QUERIES + 2 + QUERIES),
    }


@pytest.mark.parametrize('fast_path', [True, False])
def test_projections_count_in_models_that_are_not_converted(fast_path):
    net = Attends(batch_first=True).train(not fast_path)
    x = torch.randn(2, QUERIES, WIDTH)

    with torch.set_grad_enabled(not fast_path), mmskip.count_macs(net) as macs:
        for _ in range(3):
            net(query=x)

    assert macs.by_module()['attn'].dense == 3 * 2 * QUERIES * 4 * WIDTH**2
    assert macs.frames == 6
    assert macs.uncounted()


def change_in_place(parameter):
    parameter += 1


def change_data(parameter):
    parameter.data.add_(1)


def replace_data(parameter):
    parameter.data = parameter.data + 1


@pytest.mark.parametrize(
    'change', [change_in_place, change_data, replace_data]
)
@pytest.mark.parametrize(
    ('make', 'name'),
    [
        (Attends, 'attn.in_proj_weight'),
        (Attends, 'attn.in_proj_bias'),
        (Attends, 'attn.out_proj.weight'),
        (Joint, 'qkv.weight'),
        (Joint, 'q_bias'),
    ],
)
@pytest.mark.parametrize('dtype', TOLERANCE)
@torch.no_grad()
def test_other_weights_are_noticed_in_mid_stream(dtype, make, name, change):
    net = make().to(dtype).eval()
    convert(net, EXACT)
    dense = copy.deepcopy(net)
    mmskip.revert(dense)
    frame = torch.randn(1, QUERIES, WIDTH, dtype=dtype)

    with mmskip.stream(net):
        for _ in range(3):
            net(frame)
        for model in (net, dense):
            change(model.get_parameter(name))
        got, expected = net(frame), dense(frame)

    for y, wanted in zip(got, expected, strict=True):
        close(y, wanted)


@torch.no_grad()
def test_a_replaced_parameter_is_noticed():
    net = Attends().eval()
    convert(net, EXACT)
    frame = torch.randn(1, QUERIES, WIDTH)

    with mmskip.stream(net):
        for _ in range(3):
            net(frame)
        net.attn.in_proj_weight = nn.Parameter(torch.randn(3 * WIDTH, WIDTH))
        got = net(frame)[0]

    close(got, net(frame)[0])


@pytest.mark.parametrize('make', [Attends, Joint])
def test_learned_gates_learn_in_a_clip_and_so_do_the_weights(make):
    net = make()
    convert(net, dict(type='GumbelGate', gate_input='magnitude'))
    weights = list(make().state_dict())
    frames = torch.cat(video(4))

    with mmskip.clip(net, 4) as binding:
        output = net(frames)
        output = output[0] if isinstance(output, tuple) else output
        cost = sum(cost.expected for cost in binding.costs)
        (output.square().mean() + cost).backward()

    gates = [n for n in net.state_dict() if n not in weights]
    assert gates
    assert all('.gate.' in name for name in gates)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('make', [Attends, Joint])
def test_an_open_gate_has_the_gradients_of_the_dense_model(make):
    dense = make().double()
    net = copy.deepcopy(dense)
    convert(net)
    frames = torch.cat(video(3, dtype=torch.float64))

    with mmskip.clip(net, 3):
        output = net(frames)
        (output[0] if make is Attends else output).square().sum().backward()
    output = dense(frames)
    (output[0] if make is Attends else output).square().sum().backward()

    for got, expected in zip(
        net.parameters(), dense.parameters(), strict=True
    ):
        close(got.grad, expected.grad)


@pytest.mark.parametrize('need_weights', [True, False])
def test_attention_is_dropped_in_training_alone(need_weights):
    net = Attends(dropout=0.5)
    convert(net)
    frames = torch.cat(video(3))

    with mmskip.clip(net, 3):
        drawn = [net(frames, need_weights=need_weights)[0] for _ in range(2)]
        net.eval()
        kept = [net(frames, need_weights=need_weights)[0] for _ in range(2)]

    assert not torch.allclose(*drawn)
    assert torch.equal(*kept)


@pytest.mark.parametrize('make', [Attends, Joint])
@torch.no_grad()
def test_autocast_attends_as_torch_does(make):
    dense = make().eval()
    net = copy.deepcopy(dense)
    convert(net)

    with torch.autocast('cpu', torch.bfloat16), mmskip.stream(net):
        for frame in video():
            got, expected = net(frame), dense(frame)
            for y, wanted in zip(got, expected, strict=True):
                assert y.dtype == wanted.dtype
                torch.testing.assert_close(y, wanted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('make', [Attends, Joint])
def test_gates_in_a_file_are_known(make):
    net = make()
    convert(net, dict(type='GumbelGate'))
    saved = net.state_dict()

    assert check_gates(net, saved, 'net.pth') is False
    assert check_gates(net, make().state_dict(), 'dense.pth') is True
    with pytest.raises(ValueError, match='in it are not in the model'):
        check_gates(make(), saved, 'net.pth')


@pytest.mark.parametrize('make', [Attends, Joint])
@pytest.mark.parametrize(
    'clone', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
@torch.no_grad()
def test_copies_compute_with_their_own_weights(clone, make):
    net = make().eval()
    convert(net)
    frame = torch.randn(1, QUERIES, WIDTH)
    with mmskip.stream(net):
        net(frame)
        net(frame)
    twin = clone(net)
    for parameter in net.parameters():
        parameter.zero_()

    with mmskip.stream(twin):
        for _ in range(3):
            got = twin(frame)
    expected = twin(frame)

    assert expected[0].abs().sum() > 0
    for y, wanted in zip(got, expected, strict=True):
        close(y, wanted)


class Between(nn.Module):
    """Tokens between images."""

    def __init__(self, inner):
        super().__init__()
        self.before = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1), nn.ReLU()
        )
        self.inner = inner
        self.behind = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, x):
        x = self.before(x)
        tokens = self.inner(x.flatten(2).mT)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        return self.behind(x + tokens.mT.reshape(x.shape))


class Apart(nn.Module):
    """Has no layer that it calls."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH, bias=False)
        self.shift = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x):
        return F.linear(x, self.fc.weight, 2 * self.shift)


@pytest.mark.parametrize('make', [Attends, Joint, Apart])
@torch.inference_mode()
def test_with_plans_for_images_tokens_are_skipped_all_the_same(make):
    net = Between(make()).eval()
    convert(net, EXACT)
    fast = copy.deepcopy(net)
    mmskip.accelerate(fast)
    x = torch.randn(1, 3, 8, 8)

    results = []
    for model in (net, fast):
        with mmskip.count_macs(model) as macs, mmskip.stream(model):
            outputs = []
            for shift in range(4):
                frame = x.clone()
                frame[..., :2, :2] += shift
                outputs.append(model(frame))
        results.append((outputs, macs.total(), macs.uncounted()))

    assert results[0][1:] == results[1][1:]
    for got, expected in zip(results[1][0], results[0][0], strict=True):
        close(got, expected)


def test_the_report_names_the_layers_of_an_attention():
    net = nn.ModuleDict(dict(a=Attends(), b=Joint(), c=Attends()))
    net['kv'] = nn.MultiheadAttention(WIDTH, HEADS, add_bias_kv=True)

    report = mmskip.convert(
        net, mmskip.SkipConversion(OPEN, linear=True), exclude=r'c\.attn'
    )

    layers = ['query', 'key', 'value', 'out_proj']
    assert report.converted == [
        *(f'a.attn.{layer}' for layer in layers),
        'b.qkv',
        'b.proj',
    ]
    assert report.left_dense == {
        'c.attn': 'excluded',
        'kv': 'it adds keys of its own (add_bias_kv or add_zero_attn)',
    }
    assert type(net['a'].attn) is SkipMultiheadAttention
    assert type(net['b'].qkv) is SkipLinearApart
    assert type(net['c'].attn) is nn.MultiheadAttention
    assert type(net['c'].attn.out_proj) is NonDynamicallyQuantizableLinear


def test_the_layers_of_an_attention_are_excluded_together():
    net = Attends()

    with pytest.raises(ValueError, match='exclude attn'):
        mmskip.convert(
            net,
            mmskip.SkipConversion(OPEN, linear=True),
            exclude='.*out_proj',
        )
    assert type(net.attn) is nn.MultiheadAttention


def test_an_attention_has_a_threshold_for_each_layer():
    names = [f'attn.{n}' for n in ('query', 'key', 'value', 'out_proj')]
    thresholds = {name: 0.1 * i for i, name in enumerate(names)}
    net = Attends()

    mmskip.convert(
        net, mmskip.SkipConversion(OPEN, linear=True, thresholds=thresholds)
    )

    for name in names:
        assert net.get_submodule(name).gate.threshold == thresholds[name]
    del thresholds['attn.key']
    with pytest.raises(ValueError, match='there is no threshold for it'):
        mmskip.convert(
            nn.ModuleList([Attends(), nn.Linear(2, 2)]),
            mmskip.SkipConversion(
                OPEN,
                linear=True,
                thresholds={'1': 0.1}
                | {f'0.{name}': t for name, t in thresholds.items()},
            ),
        )


def test_what_a_fused_layer_reads_stays_dense():
    net = nn.ModuleList(
        [
            nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True),
            nn.Linear(2, 2),
        ]
    )

    report = convert(net)

    assert report.converted == ['1']
    assert {*report.left_dense} == {'0.self_attn', '0.linear1', '0.linear2'}
    assert all('reads its weight' in r for r in report.left_dense.values())


class Detr(nn.Module):
    """An encoder layer and a decoder layer of mmdet's DETR."""

    def __init__(self):
        super().__init__()
        layers = pytest.importorskip('mmdet.models.layers')
        attention = dict(embed_dims=16, num_heads=2, batch_first=True)
        ffn = dict(
            embed_dims=16,
            feedforward_channels=32,
            num_fcs=2,
            act_cfg=dict(type='ReLU', inplace=True),
        )
        self.encoder = layers.DetrTransformerEncoderLayer(attention, ffn)
        self.decoder = layers.DetrTransformerDecoderLayer(
            attention, attention, ffn
        )
        self.query = nn.Parameter(torch.randn(1, 5, 16))
        self.place = nn.Parameter(torch.randn(1, 24, 16))

    def forward(self, x):
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[:, -3:] = True
        query, place = (
            p.expand(len(x), -1, -1) for p in (self.query, self.place)
        )
        memory = self.encoder(
            query=x, query_pos=place, key_padding_mask=padding
        )
        return self.decoder(
            query=torch.zeros_like(query),
            key=memory,
            value=memory,
            query_pos=query,
            key_pos=place,
            key_padding_mask=padding,
        )


def timesformer():
    backbones = pytest.importorskip('mmaction.models.backbones')
    with DefaultScope.overwrite_default_scope('mmaction'):
        return backbones.TimeSformer(
            num_frames=3,
            img_size=32,
            patch_size=16,
            embed_dims=16,
            num_heads=2,
            num_transformer_layers=1,
        )


def videomae():
    backbones = pytest.importorskip('mmaction.models.backbones')
    return backbones.VisionTransformer(
        img_size=32,
        patch_size=16,
        embed_dims=16,
        depth=2,
        num_heads=2,
        num_frames=4,
        init_values=0.5,
    )


def uniformer():
    backbones = pytest.importorskip('mmaction.models.backbones')
    return backbones.UniFormerV2(
        input_resolution=32,
        patch_size=16,
        width=16,
        layers=2,
        heads=2,
        t_size=2,
        return_list=[1],
        n_layers=1,
        n_dim=16,
        n_head=2,
        mlp_dropout=[0.0],
        clip_pretrained=False,
    )


@pytest.mark.parametrize(
    ('make', 'shape', 'left', 'share'),
    [
        (Detr, (2, 24, 16), [], 1),
        (timesformer, (2, 3, 3, 32, 32), [], 1),
        (videomae, (2, 3, 4, 32, 32), [], 1),
        # Its extractors multiply by parts of the weight of an attention.
        (uniformer, (1, 3, 2, 32, 32), ['transformer.dec.0.attn'], 0.99),
    ],
)
@torch.no_grad()
def test_models_of_the_hosts_are_converted_and_equal(make, shape, left, share):
    dense = make().eval()
    for parameter in dense.parameters():
        nn.init.normal_(parameter, std=0.2)
    dense.double()
    net = copy.deepcopy(dense)
    report = convert(net)

    with (
        mmskip.count_macs(dense) as expected,
        mmskip.count_macs(net) as macs,
        mmskip.stream(net),
    ):
        for _ in range(3):
            x = torch.randn(shape, dtype=torch.float64)
            for y, wanted in zip(net(x), dense(x), strict=True):
                close(y, wanted)

    assert list(report.left_dense) == left
    assert macs.total().dense == expected.total().dense
    assert macs.total().executed == macs.total().dense
    counts = macs.by_module()
    converted = sum(counts[name].dense for name in report.converted)
    assert converted >= share * macs.total().dense


@pytest.fixture
def attended(monkeypatch):
    """Sizes (samples, queries) of what was attended for, in their order."""
    sizes = []
    inner = SkipMultiheadAttention._attend

    def attend(self, q, *others):
        sizes.append((len(q), q.shape[2]))
        return inner(self, q, *others)

    monkeypatch.setattr(SkipMultiheadAttention, '_attend', attend)
    return sizes


def mask_of(kind, batch):
    if kind == 'mask':
        return dict(attn_mask=torch.randn(QUERIES, KEYS).double())
    if kind == 'padding':
        padding = torch.zeros(batch, KEYS, dtype=torch.bool)
        padding[:, -2:] = True
        return dict(key_padding_mask=padding)
    return {}


@pytest.mark.parametrize('needs', [True, False])
@pytest.mark.parametrize('kind', ['none', 'mask', 'padding'])
@pytest.mark.parametrize('batch', [1, 3])
@torch.no_grad()
def test_only_queries_that_changed_attend_again(attended, batch, kind, needs):
    dense = Attends(batch_first=True).double().eval()
    net = copy.deepcopy(dense)
    convert(net, gate=EXACT)
    query = torch.randn(batch, QUERIES, WIDTH).double()
    memory = torch.randn(batch, KEYS, WIDTH).double()
    options = dict(mask_of(kind, batch), need_weights=needs)
    other = query.clone()
    other[0, 2] += 1
    later = memory.clone()
    later[0, 1] += 1
    with mmskip.stream(net):
        for q, m, size in (
            (query, memory, [(batch, QUERIES)]),
            (query, memory, []),
            (other, memory, [(1, 1) if batch == 1 else (1, QUERIES)]),
            (other, later, [(1, QUERIES)]),
        ):
            attended.clear()
            found = net(q, m, m, **options)
            assert attended == size
            for y, wanted in zip(
                found, dense(q, m, m, **options), strict=True
            ):
                assert (y is None) == (wanted is None)
                if y is not None:
                    close(y, wanted)


@torch.no_grad()
def test_another_mask_attends_again(attended):
    dense = Attends(batch_first=True).double().eval()
    net = copy.deepcopy(dense)
    convert(net, gate=EXACT)
    query = torch.randn(1, QUERIES, WIDTH).double()
    with mmskip.stream(net) as state:
        for _ in range(2):
            mask = torch.randn(QUERIES, QUERIES).double()
            (y, _), (wanted, _) = (
                m(query, attn_mask=mask) for m in (net, dense)
            )
            close(y, wanted)
        assert len(attended) == 2
        assert state.nbytes > sum(s.nbytes for s in state.slots.values())
