"""Attention within windows is computed where a token changed."""

import copy
import pickle

import pytest
import torch

import mmskip
from mmskip.skip_conv import attention
from tests.hosts.test_transformers import stock

EXACT = dict(type='OutputNormGate', threshold=0.0)
WINDOW = 16  # tokens of the tiny Swin


@pytest.fixture
def swin():
    net = copy.deepcopy(stock('Swin'))
    conversion = mmskip.SkipConversion(EXACT, 'accumulated', linear=True)
    mmskip.convert(net, conversion)
    return net


@pytest.fixture
def computed(monkeypatch):
    """Numbers of windows that were computed, one for each call."""
    counts, inner = [], attention.attend

    def attend(qkv, *options):
        counts.append(len(qkv))
        return inner(qkv, *options)

    monkeypatch.setattr(attention, 'attend', attend)
    return counts


def make_frames():
    torch.manual_seed(0)
    frame = torch.randn(1, 3, 40, 56, dtype=torch.float64)
    changed = frame.clone()
    changed[:, :, :4, :4] += 1.0
    return frame, changed


@torch.no_grad()
def test_windows_without_a_change_are_not_computed(swin, computed):
    frame, changed = make_frames()
    with mmskip.stream(swin):
        swin(frame)
        whole = list(computed)
        computed.clear()
        swin(frame)
        assert computed == []
        found = swin(changed)

    # One token of the first layer's ten by fourteen changed.
    assert whole[0] == 12
    assert computed[0] == 1
    assert all(
        some <= all_ for some, all_ in zip(computed, whole, strict=True)
    )
    for output, expected in zip(found, stock('Swin')(changed), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('past', [False, True], ids=['in place', 'data'])
@torch.no_grad()
def test_biases_by_position_that_change_are_noticed(swin, past):
    frame, _ = make_frames()
    dense = copy.deepcopy(stock('Swin'))
    with mmskip.stream(swin):
        swin(frame)
        for net in (swin, dense):
            block = net.stages[0].blocks[0].attn.w_msa
            table = block.relative_position_bias_table
            (table.data if past else table).mul_(3.0)
        found = swin(frame)

    for output, expected in zip(found, dense(frame), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_stream_begins_again_after_a_reset(swin):
    frame, changed = make_frames()
    with mmskip.stream(swin) as state:
        swin(changed)
        assert state.attention
        held = state.nbytes
        state.reset()
        assert not state.attention
        found = swin(frame)
        assert state.nbytes == held

    for output, expected in zip(found, stock('Swin')(frame), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_copies_and_pickles_skip_and_revert(swin):
    frame, changed = make_frames()
    expected = stock('Swin')(changed)
    for net in (copy.deepcopy(swin), pickle.loads(pickle.dumps(swin))):
        with mmskip.stream(net):
            net(frame)
            found = net(changed)
        mmskip.revert(net)
        assert type(net.stages[0].blocks[0].attn.w_msa) is type(
            stock('Swin').stages[0].blocks[0].attn.w_msa
        )
        for output, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(output, wanted, rtol=1e-9, atol=1e-9)
        for output, wanted in zip(net(changed), expected, strict=True):
            assert torch.equal(output, wanted)


def test_what_changes_while_nothing_is_kept_is_not_missed(swin):
    frame, changed = make_frames()
    again = changed.clone()
    again[:, :, -4:, -4:] += 1.0
    with mmskip.stream(swin):
        for image, gradients in (
            (frame, False),
            (changed, True),
            (again, False),
        ):
            with torch.set_grad_enabled(gradients):
                found = swin(image)

    for output, expected in zip(found, stock('Swin')(again), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
