"""The native backend computes what the torch reference does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmskip.native import ConvGeometry, activate_, convolve
from mmskip.native import library as native
from mmskip.skip_conv import (
    MEMORY_RULES,
    GateParams,
    SkipParams,
    gate_logits,
    gate_statistic,
    native_call,
    signal_norms,
    skip_conv,
)
from mmskip.skip_conv.native_layer import LayerCache, make_layer
from tests.helpers.any_layer import gated_layers, make_frames
from tests.helpers.convs import make_video

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

SAME_3X3 = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))


def run(frames, *job):
    """Output, mask and memory of each frame."""
    memory, steps = None, []
    for x in frames:
        output, mask, memory = skip_conv(x, memory, *job)
        steps.append((output, mask, memory.clone()))
    return steps


def is_near_the_threshold(x, memory, kernel, geometry, gate):
    """Whether rounding may decide what fires."""
    residual = x - memory.input
    if gate.kind == 'learned':
        logits = gate_logits(residual, x, geometry, gate)
        return bool((logits.abs() < 1e-5).any())
    statistic = gate_statistic(
        residual, memory.scale, kernel, geometry, gate.order
    )
    near = (statistic - gate.threshold).abs() < 1e-5 * abs(gate.threshold)
    return bool(near.any())


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    gated_layer=gated_layers(),
    rule=st.sampled_from(MEMORY_RULES),
    batch=st.integers(1, 4),
    number=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    with_bias=st.booleans(),
    activation=st.sampled_from([None, 'relu', 'silu']),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_native_equals_the_reference(
    gated_layer,
    rule,
    batch,
    number,
    share,
    with_bias,
    activation,
    seed,
):
    (geometry, shape, channels, size), gate = gated_layer
    torch.manual_seed(seed)
    frames = make_frames(number, batch, channels, size, share)
    weight = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
    bias = torch.randn(shape[0]) if with_bias else None
    params = SkipParams(weight, bias, geometry, gate, rule, activation)

    expected = run(frames, params)
    found = run(frames, params, LayerCache())

    before = None
    for x, (output, mask, memory), step in zip(
        frames, expected, found, strict=True
    ):
        if before is not None and is_near_the_threshold(
            x, before, shape[2:], geometry, gate
        ):
            return
        before = memory
        assert torch.equal(step[1], mask)
        limit = 1e-5 * memory.output.abs().max()
        assert (step[0] - output).abs().max() <= limit
        assert (step[2].output - memory.output).abs().max() <= limit
        assert torch.equal(step[2].input, memory.input)
        kept = step[2].output.clone()
        assert torch.equal(activate_(kept, activation), step[0])


def make_call(rule='previous', threshold=0.0, batch=2):
    """A call site after its reference frame, which was all zeros."""
    x = torch.zeros(batch, 20, 6, 7)
    weight = torch.randn(40, 20, 3, 3)
    gate = GateParams('input_norm', threshold)
    params = SkipParams(weight, None, SAME_3X3, gate, rule)
    layers = LayerCache()
    with torch.no_grad():
        memory = skip_conv(x, None, params, layers)[2]
        return native_call(memory, params, layers), x, memory


@pytest.mark.parametrize('rule', MEMORY_RULES)
def test_a_nan_is_computed_and_not_hidden(rule):
    call, x, _ = make_call(rule, threshold=1e9)
    x = x.clone()
    x[1, 3, 2, 2] = float('nan')

    output, mask = call.run(x)

    assert mask.sum() == 9
    assert torch.equal(output.isnan(), mask.expand_as(output))


def test_a_nan_that_stays_is_computed_again():
    call, x, _ = make_call(threshold=1e9)
    x = torch.full_like(x, float('nan'))
    call.run(x)

    assert call.run(x)[1].all()


@pytest.mark.parametrize('rule', MEMORY_RULES)
def test_any_layout_of_the_input_gives_the_same(rule):
    x = torch.randn(2, 6, 20, 7).transpose(1, 2)
    layouts = [x, x.contiguous(), x.to(memory_format=torch.channels_last)]

    torch.manual_seed(0)
    first, *others = [make_call_of(rule).run(layout)[0] for layout in layouts]

    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize('activation', [None, 'relu', 'silu'])
@pytest.mark.parametrize('shape', [(2, 20, 6, 7), (1, 20, 1, 33)])
def test_outputs_are_laid_out_as_those_of_torch(shape, activation):
    weight = torch.randn(40, 20, 3, 3)
    gate = GateParams('input_norm', 0.0)
    params = SkipParams(weight, None, SAME_3X3, gate, activation=activation)
    last = dict(memory_format=torch.channels_last)
    x, y = torch.randn(2, *shape)
    outputs = [
        run([a, b], params, LayerCache())[-1][0]
        for a, b in ((x, y), (x.contiguous(**last), y.contiguous(**last)))
    ]

    assert torch.equal(*outputs)
    for output, image in zip(outputs, (y, y.contiguous(**last)), strict=True):
        dense = convolve(image, weight, None, SAME_3X3)
        assert output.stride() == dense.stride()


def make_call_of(rule):
    torch.manual_seed(1)
    return make_call(rule)[0]


def test_the_output_is_no_part_of_the_memory():
    call, x, memory = make_call()
    output, _ = call.run(x + 1)
    kept = memory.output.clone()

    output.zero_()

    assert torch.equal(memory.output, kept)


def test_frames_of_another_kind_are_refused():
    call, x, _ = make_call()

    with pytest.raises(TypeError, match=r'x of dtype float32.*Double'):
        call.run(x.double())
    with pytest.raises(ValueError, match=r'\[2, 20, 6, 7\].*6, 6'):
        call.run(x[..., 1:])


@pytest.mark.parametrize(
    ('place', 'spoil', 'message'),
    [
        (0, lambda t: t.contiguous(), 'input to be contiguous in channels_la'),
        (0, lambda t: channels_last(t[:, 1:]), r'input \(N, 20, H, W\).*19'),
        (
            1,
            lambda t: channels_last(t[:, :, 1:]),
            r'output of shape \[2, 40, 6, 7\], got \[2, 40, 5, 7\]',
        ),
        (2, lambda _: torch.ones(3), 'for each of 2'),
        (
            3,
            lambda _: torch.zeros(2),
            r'computed \(int64\).*value for each of 2 streams.*Float',
        ),
    ],
)
def test_bad_memory_is_refused_by_name(place, spoil, message):
    call, _, memory = make_call()
    memory = [*memory[:3], torch.zeros(2, dtype=torch.int64)]
    memory[2] = torch.ones(2)
    memory[place] = spoil(memory[place])

    with pytest.raises(ValueError, match=f'(?s){message}'):
        torch.classes.mmskip.CallSite(call.layer, memory)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def test_a_relative_gate_needs_something_to_count_in():
    gate = GateParams('output_norm', 0.1, relative=True)
    params = make_call()[0].params._replace(gate=gate)
    norms = signal_norms(gate, params.weight)
    _, _, memory = make_call()

    with pytest.raises(ValueError, match='expected computed to remember'):
        torch.classes.mmskip.CallSite(make_layer(params, norms), memory[:3])


ONE_GATE = dict(weight=torch.ones(1, 20, 3, 3), bias=torch.ones(1))
BAD_LAYERS = {
    'weight': ('weight', torch.ones(40, 20, 3), r'h, w\), got shape'),
    'bias': ('bias', torch.ones(3), r'shape \[40\], got \[3'),
    'groups': ('groups', 3, 'groups that divide 40.*got 3'),
    'stride': ('stride', (1, 0), 'stride of at least 1'),
    'padding': ('padding', ((1, 1),), '4 values of padding'),
    'block': ('block_size', 3, 'block_size 1, 2, 4 or 8, got 3'),
    'order': ('order', 0, 'order 1 or 2, got 0'),
    'half a gate': ('gate', dict(weight=ONE_GATE['weight']), 'or none, got'),
    'gate': (
        'gate',
        dict(ONE_GATE, weight=torch.ones(1, 19, 3, 3)),
        r'gate weight of shape \[1, 20, 3, 3\]',
    ),
    'gate bias': ('gate', dict(ONE_GATE, bias=torch.ones(2)), r'shape \[1\]'),
    'gate input': ('gate_input', 'past', "'frame', got 'past'"),
    'activation': ('activation', 'gelu', "or none, got 'gelu'"),
}


@pytest.mark.parametrize('name', BAD_LAYERS)
def test_bad_layers_are_refused_by_name(name):
    key, value, message = BAD_LAYERS[name]
    params = make_call()[0].params
    settings = value if key == 'gate' else {key: value}
    if key in params._fields and key != 'gate':
        params = params._replace(**settings)
    elif key in params.geometry._fields:
        geometry = params.geometry._replace(**settings)
        params = params._replace(geometry=geometry)
    else:
        params = params._replace(gate=params.gate._replace(**settings))

    with pytest.raises(ValueError, match=f'(?s){message}'):
        make_layer(params, None)


def test_a_layer_is_made_anew_only_when_it_changes():
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    gate = GateParams('output_norm', 0.1)
    params = SkipParams(weight, None, SAME_3X3, gate)
    layers = LayerCache()

    layer = layers.get(params)
    assert layers.get(params) is layer
    wider = SAME_3X3._replace(padding=((2, 2), (2, 2)))
    assert layers.get(params._replace(geometry=wider)) is not layer
    assert layers.get(params) is layer
    with torch.no_grad():
        weight.mul_(2)
    changed = [layers.get(params)]
    weight.data = 3 * weight.data
    changed.append(layers.get(params))
    for other in (
        dict(bias=torch.zeros(8)),
        dict(gate=gate._replace(threshold=0.2)),
        dict(rule='accumulated'),
        dict(activation='relu'),
    ):
        changed.append(layers.get(params._replace(**other)))

    assert len({id(one) for one in [layer, *changed]}) == 7


def test_a_write_past_the_version_counter_is_seen_in_reference_frames():
    # Whole numbers, whose sum does not depend on their order.
    weight = torch.nn.Parameter(torch.randint(-9, 9, (8, 4, 3, 3)).float())
    gate = GateParams('output_norm', 0.1)
    params = SkipParams(weight, None, SAME_3X3, gate)
    layers = LayerCache()
    layer = layers.get(params)

    weight.data.copy_(weight.data.flip(0))

    assert layers.get(params) is layer
    assert layers.get(params, check=True) is not layer


@pytest.mark.parametrize('table', ['_OPERATORS', '_METHODS'])
def test_a_library_of_other_sources_is_not_used(monkeypatch, table):
    for name, count in getattr(native, table).items():
        other = {**getattr(native, table), name: 99}
        with monkeypatch.context() as patch:
            patch.setattr(native, table, other)
            text = native._load()
        assert f'{name} with 99 arguments, got one with {count}' in text


@pytest.mark.parametrize('capability', ['avx2', 'default'])
def test_every_instruction_set_equals_the_reference(capability):
    test = f'{__file__}::test_native_equals_the_reference'
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', test],
        env={**os.environ, 'ATEN_CPU_CAPABILITY': capability},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(sys.platform != 'linux', reason='not built with OpenMP')
def test_the_operators_share_work_among_threads():
    # Torch's parallel_for is in a header: without OpenMP when it is compiled
    # it runs on one thread, and says nothing.
    library = Path(native.__file__).with_name('_native.so').read_bytes()

    assert b'GOMP_parallel' in library or b'__kmpc_fork_call' in library


def test_results_do_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    weight = torch.randn(40, 24, 3, 3)
    gate = GateParams('input_norm', 2.0)
    frames = make_video(4, 2, 24, 40, 40, share=0.3)
    number, found = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            params = SkipParams(weight, None, SAME_3X3, gate, 'accumulated')
            found.append(run(frames, params, LayerCache()))
    finally:
        torch.set_num_threads(number)

    assert 0 < found[0][-1][1].float().mean() < 1
    for one, four in zip(*found, strict=True):
        assert torch.equal(one[0], four[0])
        assert torch.equal(one[1], four[1])


@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last]
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    'shape', [(2, 5, 7, 9), (1, 80, 52, 52), (1, 1, 0, 3)]
)
def test_float_copies_are_those_of_torch(shape, dtype, layout):
    values = torch.randn(shape).to(dtype, memory_format=layout)

    copy = native.float_copy(values)

    assert torch.equal(copy, values.float())
    assert copy.stride() == values.stride()
    assert copy.data_ptr() != values.data_ptr() or copy.numel() == 0


def test_a_float_copy_of_a_part_is_refused():
    with pytest.raises(RuntimeError, match='without gaps'):
        native.float_copy(torch.zeros(4, 6)[:, ::2])
