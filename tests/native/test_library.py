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
    gate_logits,
    gate_statistic,
    native_call,
    skip_conv,
)
from mmskip.skip_conv.native_layer import PackedWeight
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
    region=st.sampled_from([None, None, 'shared', 'by stream']),
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
    region,
    seed,
):
    (geometry, shape, channels, size), gate = gated_layer
    torch.manual_seed(seed)
    frames = make_frames(number, batch, channels, size, share)
    weight = torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5
    bias = torch.randn(shape[0]) if with_bias else None
    if region is not None:
        like = convolve(frames[0], weight, None, geometry)[:, :1]
        place = torch.rand_like(like if region == 'by stream' else like[:1])
        gate = gate._replace(region=place < 0.5)
    job = (frames, weight, bias, geometry, gate, rule)

    expected = run(*job, None, activation)
    found = run(*job, PackedWeight(), activation)

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
    packed = PackedWeight()
    with torch.no_grad():
        job = (weight, None, SAME_3X3, gate, rule, packed)
        memory = skip_conv(x, None, *job)[2]
        return native_call(x, memory, *job), x, memory


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


def make_call_of(rule):
    torch.manual_seed(1)
    return make_call(rule)[0]


def test_the_output_is_no_part_of_the_memory():
    call, x, memory = make_call()
    output, _ = call.run(x + 1)
    kept = memory.output.clone()

    output.zero_()

    assert torch.equal(memory.output, kept)


BAD_ARGUMENTS = {
    'dtype': (
        0,
        lambda t: t.double(),
        TypeError,
        'x of dtype float32.*Double',
    ),
    'shape': (0, lambda t: t[..., 1:], ValueError, r'\[2, 20, 6, 7\].*6, 6'),
    'layout': (
        1,
        lambda t: t.contiguous(),
        ValueError,
        'input to be contiguous in channels_last, got strides',
    ),
    'output': (
        2,
        lambda t: t[:, :, 1:].contiguous(memory_format=torch.channels_last),
        ValueError,
        r'output of shape \[2, 40, 6, 7\], got \[2, 40, 5, 7\]',
    ),
    'scale': (3, lambda t: torch.ones(3), ValueError, 'one for each of 2'),
    'computed': (
        4,
        lambda _: torch.zeros(2),
        ValueError,
        r'computed \(int64\).*one value for each of 2 streams.*Float',
    ),
    'norms alone': (5, lambda _: torch.ones(40), ValueError, 'got them alone'),
    'weight': (6, lambda t: t[1:], ValueError, 'packed by mmskip::pack_wei'),
    'bias': (7, lambda _: torch.ones(3), ValueError, r'shape \[40\], got \[3'),
    'region': (
        8,
        lambda _: torch.ones(2, 1, 6, 6, dtype=torch.bool),
        ValueError,
        r'region of shape \[1 or 2, 1, 6, 7\]',
    ),
    'stride': (10, lambda _: (1, 0), ValueError, r'stride of at least 1'),
    'padding': (11, lambda _: [1, 1], ValueError, '4 values of padding'),
    'groups': (13, lambda _: 3, ValueError, 'groups that divide 20.*got 3'),
    'threshold': (
        14,
        lambda _: torch.ones(2),
        ValueError,
        r'one value.*2',
    ),
    'block': (15, lambda _: 3, ValueError, 'block_size 1, 2, 4 or 8, got 3'),
    'order': (16, lambda _: 0, ValueError, 'order 1 or 2, got 0'),
    'one part of a gate': (18, lambda _: torch.ones(1), ValueError, 'or none'),
    'sees': (20, lambda _: 'past', ValueError, "'frame', got 'past'"),
    'activation': (21, lambda _: 'gelu', ValueError, "or none, got 'gelu'"),
}


@pytest.mark.parametrize('name', BAD_ARGUMENTS)
def test_bad_arguments_are_refused_by_name(name):
    place, spoil, error, message = BAD_ARGUMENTS[name]
    call, x, _ = make_call()
    arguments = [x, *call.arguments]
    arguments[place] = spoil(arguments[place])

    with pytest.raises(error, match=f'(?s){message}'):
        torch.ops.mmskip.skip_frame(*arguments)


@pytest.mark.parametrize('rule', MEMORY_RULES)
def test_torch_accepts_the_operators(rule):
    call, x, _ = make_call(rule)
    operators = torch.ops.mmskip
    checks = 'test_schema', 'test_autograd_registration'

    learned = torch.randn(1, 20, 3, 3), torch.randn(1), 'magnitude', 'silu'
    for arguments in (call.arguments, (*call.arguments[:-4], *learned)):
        torch.library.opcheck(
            operators.skip_frame.default,
            (x + 1, *arguments),
            test_utils=checks,
        )
    for shape, groups in (((40, 20, 3, 3), 1), ((8, 1, 3, 3), 8)):
        torch.library.opcheck(
            operators.pack_weight.default,
            (torch.randn(shape), groups),
            test_utils=checks,
        )


def test_a_weight_is_packed_anew_only_when_it_changes():
    weight, packed = torch.nn.Parameter(torch.randn(8, 4, 3, 3)), None
    holder = PackedWeight()

    packed = holder.get(weight, 1)
    assert holder.get(weight, 1) is packed
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(holder.get(weight, 1), 2 * packed)
    weight.data = 3 * weight.data
    assert torch.equal(holder.get(weight, 1), 6 * packed)


def test_a_write_past_the_version_counter_is_seen_in_reference_frames():
    # Whole numbers, whose sum does not depend on their order.
    weight = torch.nn.Parameter(torch.randint(-9, 9, (8, 4, 3, 3)).float())
    holder = PackedWeight()
    packed = holder.get(weight, 1)

    weight.data.mul_(2)
    assert torch.equal(holder.get(weight, 1, check=True), 2 * packed)

    weight.data.copy_(weight.data.flip(0))
    fresh = PackedWeight().get(weight, 1)
    assert torch.equal(holder.get(weight, 1, check=True), fresh)
    assert not torch.equal(fresh, 2 * packed)


def test_a_library_of_other_sources_is_not_used(monkeypatch):
    known = native._ARGUMENTS
    assert len(make_call()[0].arguments) + 1 == known['skip_frame']
    for name, count in known.items():
        other = {**known, name: 99}
        monkeypatch.setattr(native, '_ARGUMENTS', other)
        text = f'mmskip::{name} with 99 arguments, got one with {count}'
        assert text in native._load()


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
    gate = GateParams('input_norm', 2.0, 1, 1, False)
    frames = make_video(4, 2, 24, 40, 40, share=0.3)
    number, found = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            job = (weight, None, SAME_3X3, gate, 'accumulated')
            found.append(run(frames, *job, PackedWeight()))
    finally:
        torch.set_num_threads(number)

    assert 0 < found[0][-1][1].float().mean() < 1
    for one, four in zip(*found, strict=True):
        assert torch.equal(one[0], four[0])
        assert torch.equal(one[1], four[1])
