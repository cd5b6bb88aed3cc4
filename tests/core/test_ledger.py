"""The ledger of multiply-accumulates."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip import MacCount
from mmskip.core import MacLedger
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.convs import make_video
from tests.helpers.nets import NETS, TinyNet, skipping


@pytest.fixture
def layers():
    return nn.Linear(2, 2), nn.Linear(2, 2)


@pytest.fixture
def ledger(layers):
    return MacLedger({layers[0]: 'first', layers[1]: 'second'})


def test_what_is_done_again_is_recorded_once(ledger, layers):
    ledger.record(layers[0], 10, 5)
    with ledger.paused():
        ledger.record(layers[0], 10, 5)
        ledger.record_uncounted('mm')
    ledger.record(layers[0], 10, 5)

    assert ledger.by_module() == {'first': MacCount(20, 10, 0, 0)}
    assert ledger.uncounted() == {}


def test_counts_add_up_column_by_column():
    counts = [MacCount(10, 5, 1, 2), MacCount(100, 50, 10, 20)]

    assert MacCount.sum(counts) == MacCount(110, 55, 11, 22)
    assert MacCount.sum([]) == MacCount(0, 0, 0, 0)


def test_reduction_counts_the_overhead():
    assert MacCount(100, 20, 5, 10).spent == 25
    assert MacCount(100, 20, 5, 10).reduction == 4


def test_firing_rate_leaves_reference_frames_out():
    assert MacCount(100, 40, 0, 20).firing_rate == 20 / 80
    assert MacCount(100, 100, 0, 100).firing_rate == 0


def test_totals_are_integers_whatever_the_layers_report(ledger, layers):
    first, second = layers
    ledger.record(first, 10, torch.tensor(3), overhead=1)
    ledger.record(first, 10, torch.tensor(4), overhead=1)
    ledger.record(second, 5, 5, reference=5)

    assert ledger.by_module() == {
        'first': MacCount(20, 7, 2, 0),
        'second': MacCount(5, 5, 0, 5),
    }
    assert ledger.total() == MacCount(25, 12, 2, 5)
    assert all(type(value) is int for value in ledger.total())


def test_reading_does_not_disturb_counting(ledger, layers):
    for executed in (1, 2, 3):
        ledger.record(layers[0], 10, torch.tensor(executed))
        ledger.total()

    assert ledger.total().executed == 6


def test_sums_are_exact_beyond_the_precision_of_floats(ledger, layers):
    for _ in range(3):
        ledger.record(layers[0], 2**60 + 1, torch.tensor(2**60 + 1))

    assert ledger.total()[:2] == (3 * (2**60 + 1), 3 * (2**60 + 1))


def test_per_frame_divides_by_the_images_of_each_forward(ledger, layers):
    for batch in (4, 2):
        ledger.begin_forward()
        ledger.note_batch(batch)
        ledger.note_batch(99)  # a later layer of the same forward
        ledger.record(layers[0], 30 * batch, 12 * batch)

    assert ledger.frames == 6
    assert ledger.per_frame() == MacCount(30, 12, 0, 0)


def test_nothing_counted_is_an_error_and_not_a_zero(ledger):
    with pytest.raises(RuntimeError, match='at least one forward'):
        ledger.per_frame()


def test_skipped_frames_cost_nothing_and_would_have_cost_a_dense_one(
    ledger, layers
):
    for _ in range(2):
        ledger.begin_forward()
        ledger.note_batch(2)
        for _ in range(2):
            ledger.record(layers[0], 10, 10)

    ledger.record_skipped_frames(3)

    assert ledger.frames == 2 + 2 + 3
    assert ledger.total() == MacCount(40 + 3 * 10, 40, 0, 0)


def test_a_reused_part_costs_nothing_and_would_have_cost_its_last_run(
    ledger, layers
):
    part, rest = layers
    for ran, reused in ((1, 0), (2, 1), (0, 3)):
        ledger.begin_forward()
        if ran:
            ledger.note_batch(ran)
            ledger.record(part, 10 * ran, 10 * ran)
        ledger.record_reused_part(ran, reused)
        ledger.note_batch(ran + reused)
        ledger.record(rest, 7 * (ran + reused), 7 * (ran + reused))

    assert ledger.frames == 1 + 3 + 3
    assert ledger.by_module() == {
        'first': MacCount(70, 30, 0, 0),
        'second': MacCount(49, 49, 0, 0),
    }
    assert ledger.uncounted() == {}


def test_a_part_that_never_ran_is_uncounted_and_not_free(ledger):
    ledger.begin_forward()
    ledger.record_reused_part(0, 2)

    assert ledger.frames == 2
    assert ledger.uncounted() == {'dense part, never run': 2}


def test_overhead_without_a_layer_is_counted(ledger):
    for _ in range(2):
        ledger.record_overhead('warp', 5)

    assert ledger.by_module() == {'warp': MacCount(0, 0, 10, 0)}


def test_uncounted_operations_are_listed(ledger):
    for name in ('LSTM', 'aten.bmm', 'LSTM'):
        ledger.record_uncounted(name)

    assert ledger.uncounted() == {'LSTM': 2, 'aten.bmm': 1}


@pytest.mark.parametrize('memory', MEMORY_RULES)
@pytest.mark.parametrize('kind', NETS)
@pytest.mark.parametrize('bind', ['stream', 'clip'])
def test_counting_never_reads_a_tensor_in_forward(kind, memory, bind):
    # A tensor without data cannot be read.
    net = skipping(NETS[kind](), 0.1, block=4, memory=memory).to('meta')
    batch = torch.cat(make_video(2, 2, *NETS[kind].shape)).to('meta')
    bound = mmskip.stream(net) if bind == 'stream' else mmskip.clip(net, 2)

    with mmskip.count_macs(net) as macs, bound, torch.no_grad():
        for _ in range(3):
            net(batch)

    assert macs.frames == 12
    with pytest.raises(RuntimeError, match='meta'):
        macs.total()


@pytest.mark.parametrize('mode', ['reflect', 'replicate', 'circular'])
def test_no_padding_mode_reads_a_tensor_in_forward(mode):
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode)
    net = skipping(nn.Sequential(conv), memory='accumulated').to('meta')

    with mmskip.stream(net) as state, torch.no_grad():
        for _ in range(2):
            net(torch.zeros(1, 2, 8, 8, device='meta'))

    assert state.frames == 2


def test_counting_does_not_read_in_a_plain_forward(monkeypatch):
    net = skipping(TinyNet())
    video = make_video(3, 1, *TinyNet.shape)

    def refuse(*_):
        raise AssertionError('a tensor was read in forward')

    with mmskip.count_macs(net) as macs, mmskip.stream(net):
        with monkeypatch.context() as patch:
            for name in ('item', '__int__', '__bool__', '__float__', 'tolist'):
                patch.setattr(torch.Tensor, name, refuse)
            for x in video:
                net(x)
        assert macs.total().dense == 3 * TinyNet.dense
