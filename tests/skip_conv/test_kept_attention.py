"""Attention to keys in blocks is attention, of which unchanged parts stay."""

import math

import pytest
import torch

from mmskip.skip_conv import kept_attention
from mmskip.skip_conv.kept_attention import (
    AttentionInputs,
    KeptAttention,
    KeyBlocks,
    merge,
    num_blocks,
    results_of,
)

HEADS, QUERIES, KEYS, CHANNELS = 2, 7, 12, 4
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
#: MACs of both products of a query with a key, in all heads.
PAIR = 2 * HEADS * CHANNELS


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Three blocks of four keys."""
    monkeypatch.setattr(kept_attention, 'SHORTEST_BLOCK', 4)


@pytest.fixture(params=[True, False], ids=['fused', 'plain'])
def kernel(request, monkeypatch):
    """The attention of torch that tells sums, and ours in its place."""
    if not request.param:
        monkeypatch.setattr(kept_attention, '_FUSED', None)


def close(got, expected):
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def mask_of(kind, samples=1, dtype=torch.float64):
    if kind == 'none':
        return None
    if kind == 'shared':
        return torch.randn(QUERIES, KEYS, dtype=dtype)
    if kind == 'heads':
        return torch.randn(samples, HEADS, QUERIES, KEYS, dtype=dtype)
    mask = torch.zeros(samples, 1, 1, KEYS, dtype=dtype)
    mask[..., -3:] = -math.inf
    if kind == 'padding':
        return mask
    mask = mask.repeat(1, 1, QUERIES, 1)  # 'closed': one attends to nothing
    mask[..., 2, :] = -math.inf
    return mask


MASKS = 'none', 'shared', 'heads', 'padding', 'closed'


def inputs_of(samples=1, mask='none', dtype=torch.float64, scale=None):
    sizes = QUERIES, KEYS, KEYS
    query, key, value = (
        torch.randn(samples, HEADS, size, CHANNELS, dtype=dtype)
        for size in sizes
    )
    mask = mask_of(mask, samples, dtype)
    return AttentionInputs(query, key, value, mask, scale)


def change(inputs, queries=(), keys=(), sample=0):
    """Change some queries and keys; returns what is true of all of them."""
    inputs = inputs._replace(
        **{
            name: getattr(inputs, name).clone()
            for name in ('query', 'key', 'value')
        }
    )
    samples = len(inputs.query)
    changes = torch.zeros(samples, QUERIES), torch.zeros(samples, KEYS)
    changes = tuple(c.bool() for c in changes)
    for tensor, numbers, changed in (
        (inputs.query, queries, changes[0]),
        (inputs.key, keys, changes[1]),
        (inputs.value, keys, changes[1]),
    ):
        for number in numbers:
            tensor[sample, :, number] = torch.randn(HEADS, CHANNELS)
            changed[sample, number] = True
    return inputs, changes


def keep(kept, inputs, changes=None):
    if changes is None:
        _, changes = change(inputs, range(QUERIES), range(KEYS))
    return KeptAttention.of(kept, inputs, changes, results_of, True)


def kept_in_blocks(inputs):
    """Keep an attention, and let it have blocks; returns the inputs, too."""
    kept = keep(None, inputs)
    for sample in range(len(inputs.query)):
        inputs, changes = change(inputs, keys=[5], sample=sample)
        kept = keep(kept, inputs, changes)
    return kept, inputs


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('mask', MASKS)
@pytest.mark.parametrize('scale', [None, 0.3])
def test_blocks_put_together_are_the_attention(kernel, dtype, mask, scale):
    inputs = inputs_of(2, mask, dtype, scale)

    parts, totals = zip(
        *(
            inputs.of_keys(block).attend_apart()
            for block in torch.arange(KEYS).split([5, 4, 3])
        ),
        strict=True,
    )

    expected = inputs.attend()
    for sample in range(2):
        found = merge(
            torch.stack([part[sample] for part in parts]),
            torch.stack([total[sample] for total in totals]),
        )
        close(found, expected[sample])
    assert expected.isfinite().all()


def test_large_scores_do_not_overflow(kernel):
    inputs = inputs_of(dtype=torch.float32)
    inputs = inputs._replace(query=1000 * inputs.query)
    blocks = torch.arange(KEYS).split(4)
    pairs = [inputs.of_keys(block).attend_apart() for block in blocks]

    parts, totals = zip(*pairs, strict=True)
    found = merge(torch.cat(parts), torch.cat(totals))

    close(found, inputs.attend()[0])


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('mask', MASKS)
@pytest.mark.parametrize('samples', [1, 2])
def test_a_kept_attention_is_the_attention(kernel, dtype, mask, samples):
    torch.manual_seed(0)
    inputs = inputs_of(samples, mask, dtype)
    kept = keep(None, inputs)
    changes = [
        dict(),
        dict(queries=[1, 6]),
        dict(keys=[5]),
        dict(queries=[1], keys=[5]),
        dict(queries=[0, 2]),
        dict(keys=[0, 5, 7]),
        dict(queries=range(QUERIES)),
        dict(keys=range(KEYS)),
        dict(queries=[3], keys=[3]),
    ]
    for number, some in enumerate(changes):
        inputs, changed = change(inputs, sample=number % samples, **some)
        kept = keep(kept, inputs, changed)
        close(kept.output, inputs.attend())


def test_products_are_those_of_blocks_and_rows():
    inputs = inputs_of()
    kept = keep(None, inputs)
    whole = QUERIES * KEYS * PAIR
    assert kept.macs == inputs.products == whole
    frames = [
        # Without blocks.
        (dict(), 0),
        (dict(queries=[1, 2]), 2 * KEYS * PAIR),
        # All keys are dealt to blocks; that which changed is in the first.
        (dict(keys=[9]), whole),
        (dict(keys=[9]), QUERIES * 4 * PAIR),
        (dict(queries=[3]), KEYS * PAIR),
        (dict(keys=[9], queries=[3, 4]), (QUERIES * 4 + 2 * 8) * PAIR),
        (dict(), 0),
        # 11 is in the last block, and comes to the first.
        (dict(keys=[9, 11]), QUERIES * 8 * PAIR),
        (dict(keys=[9, 11]), QUERIES * 4 * PAIR),
        # Most keys changed.
        (dict(keys=range(7)), whole),
    ]
    for some, macs in frames:
        inputs, changes = change(inputs, **some)
        kept = keep(kept, inputs, changes)
        assert kept.macs == macs
        close(kept.output, inputs.attend())


def test_changes_at_other_keys_in_each_frame_are_computed_whole():
    inputs = inputs_of()
    kept, inputs = kept_in_blocks(inputs)
    held = kept.nbytes
    for keys in ([0, 4, 8], [1, 6, 9], [3, 7, 10]):
        inputs, changes = change(inputs, keys=keys)
        kept = keep(kept, inputs, changes)
        assert kept.macs == inputs.products
        close(kept.output, inputs.attend())
    assert kept.nbytes < held


def test_samples_without_a_change_are_left_alone():
    kept, inputs = kept_in_blocks(inputs_of(3))
    inputs, changes = change(inputs, keys=[5], queries=[0], sample=2)

    kept = keep(kept, inputs, changes)

    assert kept.macs == (QUERIES * 4 + 8) * PAIR
    close(kept.output, inputs.attend())


@pytest.mark.parametrize('mask', MASKS[1:])
def test_another_mask_computes_all_anew(mask):
    kept, inputs = kept_in_blocks(inputs_of(mask=mask))
    same = inputs._replace(mask=inputs.mask.clone())
    _, nothing = change(same)
    kept = keep(kept, same, nothing)
    assert kept.macs == 0
    for other in (torch.zeros_like(inputs.mask), None):
        inputs = inputs._replace(mask=other)
        kept = keep(kept, inputs, nothing)
        assert kept.macs == inputs.products
        close(kept.output, inputs.attend())


@pytest.mark.parametrize('how', ['dtype', 'size', 'scale'])
def test_other_inputs_begin_anew(how):
    kept, inputs = kept_in_blocks(inputs_of())
    if how == 'dtype':
        inputs = AttentionInputs(*(x.float() for x in inputs[:3]))
    elif how == 'size':
        inputs = inputs.of_keys(torch.arange(KEYS - 2))
    else:
        inputs = inputs._replace(scale=0.1)
    queries, keys = (
        torch.zeros(1, x.shape[2]).bool() for x in (inputs.query, inputs.key)
    )

    kept = keep(kept, inputs, (queries, keys))

    assert kept.macs == inputs.products
    close(kept.output, inputs.attend())


def test_keys_that_change_do_not_let_it_drift():
    """After 200 frames it is what it would be if it were computed anew."""
    torch.manual_seed(0)
    kept, inputs = kept_in_blocks(inputs_of(dtype=torch.float32))
    for _ in range(200):
        inputs, changes = change(inputs, keys=[5, 6])
        kept = keep(kept, inputs, changes)

    (blocks,) = kept._blocks
    fresh = KeyBlocks(inputs)
    fresh._begin()
    fresh.blocks = blocks.blocks
    fresh._compute(inputs, torch.arange(QUERIES), {0, 1, 2})
    assert torch.equal(kept.output, fresh.result)


def test_queries_that_change_do_not_let_it_drift():
    torch.manual_seed(0)
    kept, inputs = kept_in_blocks(inputs_of(dtype=torch.float32))
    for number in range(200):
        inputs, changes = change(inputs, [number % 5], [5, number % 7])
        kept = keep(kept, inputs, changes)

    exact = AttentionInputs(*(x.double() for x in inputs[:3])).attend()
    assert (kept.output - exact).abs().max() < 1e-6


def test_blocks_are_few_and_not_short(monkeypatch):
    monkeypatch.setattr(kept_attention, 'SHORTEST_BLOCK', 128)

    found = [num_blocks(keys) for keys in (1, 255, 256, 1000, 1024, 10**6)]

    assert found == [1, 1, 2, 7, 8, 8]


def test_blocks_take_the_memory_of_a_result_each():
    kept, _ = kept_in_blocks(inputs_of())

    result = HEADS * QUERIES * CHANNELS * 8
    totals = 3 * HEADS * QUERIES * 8
    numbers = 2 * KEYS * 8
    assert kept.nbytes == 4 * result + totals + numbers
