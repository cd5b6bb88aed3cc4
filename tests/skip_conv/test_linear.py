"""Linear layers over tokens, converted: alone, in streams and in clips."""

import copy
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip import SkipConversion, SkipLinear, StreamState
from mmskip.native import library as native
from mmskip.reading import InputError
from mmskip.registry import MODELS
from mmskip.skip_conv import MEMORY_RULES, GateCostLoss
from mmskip.skip_conv.conversion import LINEAR_REASON
from mmskip.skip_conv.linear import row_length
from tests.helpers.convs import make_video
from tests.helpers.nets import Tokens
from tests.helpers.pairwise import every_pair
from tests.helpers.runs import run_clip, run_dense, run_stream, same

BACKENDS = ['reference', *(() if native.MISSING else ('native',))]
OPEN = dict(type='OutputNormGate', threshold=-1.0)
CLOSED = dict(type='InputNormGate', threshold=0.0)
GATES = {
    'norm': dict(type='OutputNormGate', threshold=0.5),
    'relative': dict(type='OutputNormGate', threshold=0.3, relative=True),
    'learned': dict(type='GumbelGate', gate_input='magnitude'),
}
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
RULES = pytest.mark.parametrize('memory', MEMORY_RULES)


def converted(net, gate=CLOSED, memory='accumulated', bias=None, **options):
    """A network all of whose layers skip; learned gates have this bias."""
    net = net.eval()
    mmskip.convert(
        net, SkipConversion(dict(gate, **options), memory, linear=True)
    )
    for module in net.modules():
        if bias is not None and isinstance(module, mmskip.GumbelGate):
            nn.init.constant_(module.bias, bias)
    return net


def frames(number, share=0.1):
    return make_video(number, 2, *Tokens.shape, share=share)


def assert_close(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize('size', [(6,), (5, 6), (2, 5, 6), (2, 3, 5, 6)])
def test_alone_it_is_the_torch_layer_bit_for_bit(size):
    layer = nn.Linear(6, 4)
    x = torch.randn(size)
    expected = layer(x)

    mmskip.convert(layer, SkipConversion(CLOSED, linear=True))

    assert type(layer) is SkipLinear
    assert torch.equal(layer(x), expected)


@every_pair(
    'run,gate,memory,block,dtype,backend',
    [run_stream, run_clip],
    ['norm', 'learned'],
    MEMORY_RULES,
    [1, 4],
    TOLERANCES,
    BACKENDS,
)
@torch.no_grad()
def test_open_gates_equal_dense(
    run, gate, memory, block, dtype, backend, monkeypatch
):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    net = Tokens().to(dtype)
    video = [x.to(dtype) for x in frames(4)]
    expected, _ = run_dense(net, video)
    gate = OPEN if gate == 'norm' else GATES[gate]
    converted(net, gate, memory, bias=1e3, block_size=block)

    found, macs = run(net, video)

    assert_close(found, expected, TOLERANCES[dtype])
    assert macs.total().executed == macs.total().dense


@pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
@every_pair('gate,memory,block', GATES, MEMORY_RULES, [1, 4])
@torch.no_grad()
def test_the_native_backend_computes_what_the_reference_does(
    gate, memory, block, monkeypatch
):
    net = converted(Tokens(), GATES[gate], memory, bias=-0.5, block_size=block)
    runs, masks = {}, {}
    video = frames(4, share=0.03)
    for backend in BACKENDS:
        monkeypatch.setenv('MMSKIP_BACKEND', backend)
        state = StreamState()
        runs[backend] = run_stream(net, video, state)
        masks[backend] = state.last_masks()

    assert_close(runs['native'][0], runs['reference'][0], 1e-5)
    counts = [macs.by_module() for _, macs in runs.values()]
    assert counts[0] == counts[1]
    total = runs['native'][1].total()
    assert total.reference < total.executed < total.dense
    for site, mask in masks['reference'].items():
        assert torch.equal(masks['native'][site], mask)


@RULES
@pytest.mark.parametrize('number', [1, 4])
def test_a_static_video_costs_one_dense_frame_and_the_gates(number, memory):
    net = converted(Tokens(), memory=memory)

    _, macs = run_stream(net, frames(1) * number)

    assert macs.frames == 2 * number
    assert macs.uncounted() == {}
    for name, count in macs.by_module().items():
        assert count == mmskip.MacCount(
            dense=2 * number * Tokens.macs[name],
            executed=2 * Tokens.macs[name],
            overhead=2 * (number - 1) * Tokens.gate_macs[name],
            reference=2 * Tokens.macs[name],
        )


@RULES
def test_a_token_that_changed_is_computed_and_no_other(memory):
    net = converted(Tokens(), memory=memory)
    state = StreamState()
    first = torch.randn(1, *Tokens.shape)
    second = first.clone()
    second[0, :, 5, 9] += 1
    run_stream(net, [first], state)

    _, macs = run_stream(net, [second], state)

    executed = {k: v.executed for k, v in macs.by_module().items()}
    assert executed == {
        'patches': 3 * 4 * 4,
        'mix': 4 * 6,
        'project': 6 * 4,
        'merge': 16 * 5,
    }
    assert [mask.sum() for mask in state.last_masks().values()] == [1] * 4


def test_a_learned_gate_costs_one_mac_for_each_feature():
    layer = converted(nn.Linear(6, 4), GATES['learned'], bias=-100.0)

    _, macs = run_stream(layer, [torch.randn(1, 10, 6)] * 3)

    assert macs.total() == mmskip.MacCount(
        dense=3 * 10 * 6 * 4,
        executed=10 * 6 * 4,
        overhead=2 * 10 * 6,
        reference=10 * 6 * 4,
    )


@torch.no_grad()
def test_another_number_of_tokens_restarts_and_is_counted():
    layer = nn.Linear(6, 4)
    video = [torch.randn(1, tokens, 6) for tokens in (12, 12, 9, 9, 12)]
    dense = [[layer(x)] for x in video]
    state = StreamState()

    found, macs = run_stream(converted(layer), video, state)

    assert_close(found, dense, 1e-5)
    assert state.shape_changes == 2
    assert macs.total().reference == (12 + 9 + 12) * 6 * 4


class SequenceFirst(nn.Module):
    """Lays tokens of images out in the order of older attention modules."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3, 4)

    def forward(self, x):
        return self.mix(x.flatten(2).permute(2, 0, 1))


# Of two images, 20 tokens, 19, and as many as there are images.
@pytest.mark.parametrize('size', [(4, 5), (1, 19), (1, 2)])
@torch.no_grad()
def test_tokens_before_images_run_with_one_image_at_a_time(size):
    net = converted(SequenceFirst(), OPEN)
    image = torch.randn(1, 3, *size)
    expected = net(image)

    with mmskip.stream(net):
        assert_close([[net(image)]], [[expected]], 1e-5)
    with (
        mmskip.stream(net),
        pytest.raises(InputError, match=r'mix: .*2 images.*batch_size=1'),
    ):
        net(torch.randn(2, 3, *size))


class FramesOfWindows(nn.Module):
    """Convolves the frames of windows (N, windows, C, T, H, W) one by one."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 2, 2)
        self.mix = nn.Linear(4, 5)

    def forward(self, x):
        windows = x.flatten(0, 1)
        frames = windows.transpose(1, 2).flatten(0, 1)
        tokens = self.patches(frames).flatten(2).transpose(1, 2)
        return self.mix(tokens.reshape(len(windows), -1, 4))


@RULES
def test_frames_of_a_window_are_streams_of_their_own(memory):
    video = make_video(3, 2, 1, 3, 4, 6, 6, share=0.0)
    for number, x in enumerate(video):
        x[:, :, :, number, 3:, 3:] += 1
    net = converted(FramesOfWindows(), memory=memory)

    streamed, macs = run_stream(net, video)
    clipped, clip_macs = run_clip(net, video)

    assert_close(clipped, streamed, 1e-5)
    assert clip_macs.by_module() == macs.by_module()
    # The corner of two frames, in each later window of two videos.
    tokens = 2 * 4 * 9 + 2 * 2 * 2 * 4
    assert macs.by_module()['mix'].executed == tokens * 4 * 5


@RULES
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    'write',
    [
        lambda weight: weight.mul_(0.9),
        lambda weight: weight.data.mul_(0.9),
        lambda weight: setattr(weight, 'data', 0.9 * weight.data),
    ],
    ids=['in place', 'past the counter', 'data'],
)
@torch.no_grad()
def test_weights_that_change_in_mid_stream_restart_their_layer(
    write, backend, memory, monkeypatch
):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    net = converted(Tokens(), memory=memory)
    state = StreamState()
    image = torch.randn(1, *Tokens.shape)
    run_stream(net, [image] * 2, state)
    before = state.last_masks()

    write(net.mix.weight)
    found, _ = run_stream(net, [image], state)

    assert_close(found, [[net(image)]], 1e-5)
    assert not any(mask.any() for mask in before.values())
    assert state.last_masks()['mix', 0].all()
    assert not state.last_masks()['patches', 0].any()
    assert state.weight_changes == 1


@pytest.mark.parametrize('gate', ['norm', 'learned'])
def test_revert_gives_exact_classes_and_keys_back(gate):
    net = Tokens()
    before = {name: type(m) for name, m in net.named_modules()}
    keys, attributes = list(net.state_dict()), set(vars(net.mix))

    converted(net, GATES[gate])
    run_stream(net, frames(2))
    added = set(net.state_dict()) - set(keys)
    mmskip.revert(net)

    assert all('.gate.' in key for key in added)
    assert bool(added) is (gate == 'learned')
    assert {name: type(m) for name, m in net.named_modules()} == before
    assert list(net.state_dict()) == keys
    assert set(vars(net.mix)) == attributes


@pytest.mark.parametrize(
    'duplicate', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_skip_alike(duplicate):
    net = converted(Tokens(), GATES['norm'])
    video = frames(3)
    expected, macs = run_stream(net, video)

    found, copied = run_stream(duplicate(net), video)

    assert same(found, expected)
    assert copied.by_module() == macs.by_module()


class Loss(nn.Module):
    """Gives a loss in training."""

    def __init__(self):
        super().__init__()
        self.tokens = Tokens()

    def forward(self, x):
        return dict(loss_task=self.tokens(x).square().mean())


@RULES
def test_gates_learn_in_clips_and_their_layers_have_a_price(memory):
    model = converted(Loss(), GATES['learned'], memory, bias=2.0).train()
    GateCostLoss(beta=0.5).attach(model)

    with mmskip.clip(model, 3) as binding:
        losses = model(torch.randn(6, *Tokens.shape))
        costs = binding.costs
    sum(v for k, v in losses.items() if 'loss' in k).backward()

    assert [cost.dense for cost in costs] == [
        2 * 2 * macs for macs in Tokens.macs.values()
    ]
    assert 'loss_gate' in losses
    for name in Tokens.macs:
        layer = model.tokens.get_submodule(name)
        assert layer.gate.weight.grad.abs().sum() > 0
        assert layer.gate.bias.grad.item() != 0
        assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('size', [(1, 60), (7, 7), (64, 64), (1, 197), (8, 9)])
def test_rows_are_as_long_as_threads_like_them(size):
    tokens = size[0] * size[1]
    row = row_length(tokens)

    assert tokens % row == 0
    assert 8 <= row <= 64 or row == tokens


def test_without_the_option_linear_layers_stay_dense():
    net = Tokens()

    report = mmskip.convert(net, SkipConversion(CLOSED))

    assert report.converted == ['patches']
    assert report.left_dense == dict.fromkeys(
        ['mix', 'project', 'merge'], LINEAR_REASON
    )
    assert type(net.mix) is nn.Linear


def test_layers_whose_weights_others_read_stay_dense():
    net = nn.TransformerEncoderLayer(8, 2, 16)
    net.extra = nn.Linear(8, 8)

    report = mmskip.convert(net, SkipConversion(CLOSED, linear=True))

    assert report.converted == ['extra']
    why = 'TransformerEncoderLayer reads its weight, and never calls it'
    assert report.left_dense['linear1'] == why
    assert report.left_dense['linear2'] == why


def test_the_wrapper_of_mmcv_skips_and_comes_back():
    bricks = pytest.importorskip('mmcv.cnn.bricks')
    layer = bricks.Linear(6, 4)
    x = torch.randn(1, 5, 6)
    expected = layer(x)

    converted(layer, OPEN)
    found, _ = run_stream(layer, [x])

    assert_close(found, [[expected]], 1e-5)
    mmskip.revert(layer)
    assert type(layer) is bricks.Linear


def test_a_config_builds_a_single_layer():
    layer = MODELS.build(
        dict(type='SkipLinear', in_features=6, out_features=4, gate=CLOSED)
    )

    assert type(layer) is SkipLinear
    assert layer.gate.params().kind == 'input_norm'
    mmskip.revert(layer)
    assert type(layer) is nn.Linear


def test_a_layer_with_one_result_gets_no_gate_that_costs_as_much():
    net = nn.ModuleDict(dict(score=nn.Linear(8, 1), mix=nn.Linear(8, 8)))

    report = mmskip.convert(net, SkipConversion(GATES['learned'], linear=True))

    assert report.converted == ['mix']
    assert 'cost as much' in report.left_dense['score']
