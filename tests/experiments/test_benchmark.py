"""Skipping and its rivals get the same frames, and are compared fairly."""

import sys

import pytest
import torch
from torch import nn

import mmskip
from mmskip.apis import UserError
from mmskip.experiments import (
    RIVALS,
    Contest,
    RawOutputs,
    Rival,
    build_rivals,
    build_skips,
    compare,
    find_errors,
    force,
    forced_frames,
    measure,
    output_sizes,
    region,
)
from mmskip.native import library
from mmskip.plan import propagate_changes
from tests.helpers.nets import PyramidNet, TinyNet

needs_native = pytest.mark.skipif(
    bool(library.MISSING), reason=library.MISSING
)
IMAGE = (1, 3, 16, 16)


def forcible(net, memory='accumulated'):
    """Convert a network to layers that can be forced."""
    gate = dict(type='InputNormGate', threshold=0.0)
    mmskip.convert(net.eval(), mmskip.SkipConversion(gate, memory=memory))
    return net


def make_contest(*precisions, rivals=None):
    torch.manual_seed(0)
    net = TinyNet().eval()
    skip = TinyNet()
    skip.load_state_dict(net.state_dict())
    image = torch.randn(IMAGE).contiguous(memory_format=torch.channels_last)
    skips = build_skips(RawOutputs(forcible(skip)), precisions, [image])
    dense = RawOutputs(net)
    if rivals is None:
        rivals = {'eager': Rival(dense)}
    return Contest(dense, skips, rivals, precisions), image


@pytest.mark.parametrize('pattern', ['blob', 'blocks', 'pixels'])
@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
def test_a_region_has_the_share_that_is_asked_for(pattern, share):
    place = region(pattern, share, torch.Size([64, 32]))

    assert place.shape == (1, 1, 64, 32)
    assert place.float().mean() == share


@needs_native
@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
@pytest.mark.parametrize('in_a_plan', [False, True])
def test_every_layer_fires_in_its_region_and_nowhere_else(in_a_plan, memory):
    net = forcible(TinyNet(), memory)
    if in_a_plan:
        propagate_changes(net)
    state = mmskip.StreamState()
    with torch.inference_mode():
        sizes = output_sizes(net, torch.randn(IMAGE))
        for share in (0.25, 1.0, 0.5):
            force(sizes, 'blob', share)
            state.reset()
            with mmskip.stream(net, state):
                for _ in range(2):
                    net(torch.randn(IMAGE))
            for (name, _), mask in state.last_masks().items():
                size = sizes[net.get_submodule(name)]
                assert mask.equal(region('blob', share, size))


@needs_native
def test_a_share_of_nothing_leaves_it_to_the_gate():
    net = forcible(TinyNet())
    image = torch.randn(IMAGE)
    with torch.inference_mode():
        sizes = output_sizes(net, image)
        force(sizes, 'blob', 0.5)
        force(sizes, 'blob', 0.0)
        with mmskip.stream(net) as state:
            net(image)
            net(image)
            assert not any(m.any() for m in state.last_masks().values())
            net(image + 1)
    assert all(mask.all() for mask in state.last_masks().values())


def test_layers_of_several_sizes_are_left_to_their_gates():
    net = forcible(PyramidNet())

    with torch.inference_mode():
        sizes = output_sizes(net, torch.randn(1, *PyramidNet.shape))

    assert sizes == {net.stem: (8, 12)}


def test_outputs_are_the_tensors_of_whatever_is_returned():
    class Nested(nn.Module):
        def forward(self, x):
            return dict(a=[x, (x + 1, None)], b='text')

    class Model(nn.Module):
        def forward(self, inputs, data_samples=None, mode='loss'):
            assert mode == 'tensor'
            return inputs

    x = torch.zeros(1)
    assert RawOutputs(Nested())(x) == (x, x + 1)
    assert RawOutputs(Model(), is_model=True)(x) == (x,)


@pytest.mark.parametrize(
    ('error', 'fastest', 'speed_up'),
    [(1e-6, 'sound', 4.0), (0.01, 'sound', 4.0), (0.1, 'coarse', 2.0)],
)
def test_the_fastest_rival_that_agrees_as_well_counts(
    error, fastest, speed_up
):
    rivals = dict(
        slow=dict(ms=9.0, error=0.0),
        sound=dict(ms=8.0, error=1e-3),
        coarse=dict(ms=4.0, error=0.05),
    )

    assert compare(2.0, error, rivals) == dict(
        speed_up=speed_up, fastest_rival=fastest
    )


def test_without_a_fair_rival_there_is_no_speed_up():
    rivals = dict(coarse=dict(ms=4.0, error=0.05))

    none = dict(speed_up=None, fastest_rival=None)
    assert compare(2.0, 0.0, rivals) == none
    assert compare(2.0, 0.0, {}) == none


def test_a_rival_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    dense = RawOutputs(TinyNet().eval())

    rivals, missing = build_rivals(
        ['eager', 'openvino', 'onnxruntime'], dense, [torch.randn(IMAGE)], 1
    )

    assert list(rivals) == ['eager']
    kinds = ('openvino f32', 'openvino bf16', 'openvino int8')
    assert missing == {
        **dict.fromkeys(kinds, 'openvino is not installed'),
        'onnxruntime': 'onnxruntime is not installed',
    }


def test_a_rival_that_cannot_take_the_part_is_named_with_the_reason(
    monkeypatch,
):
    def fail(*_):
        raise RuntimeError('no such\noperator')

    monkeypatch.setitem(RIVALS, 'eager', {'eager': fail})

    rivals, missing = build_rivals(
        ['eager'], RawOutputs(TinyNet()), [torch.randn(IMAGE)], 1
    )

    assert rivals == {}
    assert missing == {'eager': 'no such operator'}


@pytest.mark.parametrize('kind', ['compile', 'openvino', 'onnxruntime'])
def test_rivals_compute_what_the_dense_part_does(kind):
    if kind != 'compile':
        pytest.importorskip(kind)
    torch.manual_seed(0)
    dense = RawOutputs(PyramidNet().eval())
    image = torch.randn(1, *PyramidNet.shape)

    rivals, _ = build_rivals([kind], dense, [image], 1)

    rival = next(iter(rivals.values()))
    with torch.inference_mode():
        for ours, theirs in zip(rival.run(image), dense(image), strict=True):
            torch.testing.assert_close(torch.asarray(ours), theirs)


@needs_native
def test_the_error_of_a_precision_is_that_of_its_rounding():
    def scaled(factor):
        return lambda x: [factor * y for y in contest.dense(x)]

    rivals = {'eager': Rival(scaled(1)), 'off': Rival(scaled(1.25))}
    contest, image = make_contest('bfloat16', rivals=rivals)
    with torch.inference_mode():
        for skip in contest.skips.values():
            force(skip.sizes, 'blob', 0.25)
        frames = forced_frames(image, 'blob', 0.25, 3)
        errors = find_errors(contest, frames)

    assert errors['float32'] < 1e-5
    assert 1e-4 < errors['bfloat16'] < 0.05
    assert errors['eager'] == 0
    assert errors['off'] == pytest.approx(0.25)


@needs_native
def test_a_row_of_each_precision_that_is_timed():
    contest, image = make_contest('bfloat16')
    with torch.inference_mode():
        for skip in contest.skips.values():
            force(skip.sizes, 'blob', 0.25)
        frames = forced_frames(image, 'blob', 0.25, 5)
        (row,) = measure(contest, frames, 'blob', 0.25, 1, load=True)

    assert row['precision'] == 'bfloat16'
    assert row['load'] is True
    linear = TinyNet.macs['classifier']
    executed = (TinyNet.dense - linear) / 4 + linear
    assert row['mac_reduction'] == pytest.approx(TinyNet.dense / executed)
    assert row['mib_per_stream'] > 0
    eager = row['rivals']['eager']
    assert row['fastest_rival'] == 'eager'
    assert row['speed_up'] == eager['ms'] / row['skip_ms']


@needs_native
def test_a_part_that_needs_more_than_an_image_is_refused():
    class Pair(TinyNet):
        def forward(self, x, more):
            return super().forward(x + more)

    with pytest.raises(UserError, match='Pair does not run on an image'):
        build_skips(RawOutputs(forcible(Pair())), [], [torch.randn(IMAGE)])
