"""``count_macs``: totals of whole models."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmskip
from mmskip import MacCount
from mmskip.core import FrameSkipper
from tests.helpers.convs import make_video
from tests.helpers.nets import NETS, TinyNet, skipping
from tests.helpers.runs import flat, run_stream, same

EACH_NET = pytest.mark.parametrize('kind', NETS)


class Decoder(nn.Module):
    """Transposed convolutions, and linear layers over more than a vector."""

    dense = 4 * 6 * 5 * (8 // 2 * 9) + 7 * (4 * 6 * 5) + 13 * 11 * 8 * 3
    shape = (4, 6, 5)

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(
            4, 8, 3, stride=2, groups=2, output_padding=0
        )
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Linear(8, 3)
        self.code = nn.Linear(4 * 6 * 5, 7, bias=False)

    def forward(self, x):
        y = self.norm(self.up(x)).permute(0, 2, 3, 1)
        return self.out(y), self.code(x.flatten(1))


@pytest.mark.parametrize('net_class', [*NETS.values(), Decoder])
@pytest.mark.parametrize('batch', [1, 3])
def test_dense_macs_equal_the_closed_form_and_torch(net_class, batch):
    net = net_class().eval()
    x = torch.randn(batch, *net_class.shape)

    with FlopCounterMode(display=False) as flops:
        net(x)
    with mmskip.count_macs(net) as macs:
        net(x)

    expected = batch * net_class.dense
    assert macs.total() == MacCount(expected, expected, 0, 0)
    assert flops.get_total_flops() == 2 * expected
    assert macs.uncounted() == {}
    assert macs.frames == batch


@EACH_NET
@pytest.mark.parametrize('threshold', [-1, 15.0, 1e9])
def test_the_dense_column_is_that_of_the_unconverted_model(kind, threshold):
    net = skipping(NETS[kind](), threshold)

    _, macs = run_stream(net, make_video(3, 2, *NETS[kind].shape))

    assert macs.total().dense == 3 * 2 * NETS[kind].dense


def test_every_layer_has_its_closed_form():
    net = skipping(TinyNet(), threshold=1e9)

    _, macs = run_stream(net, make_video(3, 2, *TinyNet.shape))

    by_module = macs.by_module()
    assert set(by_module) == set(TinyNet.macs)
    for name, dense in TinyNet.macs.items():
        if name == 'classifier':
            assert by_module[name] == MacCount(6 * dense, 6 * dense, 0, 0)
        else:
            gate = 4 * TinyNet.gate_macs[name]
            expected = MacCount(6 * dense, 2 * dense, gate, 2 * dense)
            assert by_module[name] == expected


def test_the_order_of_the_two_blocks_does_not_matter():
    net = skipping(TinyNet(), threshold=15.0)
    video = make_video(4, 1, *TinyNet.shape)
    outputs, outside = run_stream(net, video)

    with torch.no_grad(), mmskip.stream(net) as state:
        first = net(video[0])
        with mmskip.count_macs(net) as macs:
            rest = [[net(x)] for x in video[1:]]

    assert same([[first], *rest], outputs)
    assert state.frames == 4
    assert macs.total().reference == 0
    assert macs.total().overhead == outside.total().overhead
    assert macs.total().dense == 3 * TinyNet.dense


def test_gates_are_overhead_and_not_executed():
    net = skipping(TinyNet(), threshold=-1)

    _, macs = run_stream(net, make_video(4, 1, *TinyNet.shape))

    assert macs.total().executed == macs.total().dense
    assert macs.total().overhead == 3 * sum(TinyNet.gate_macs.values())


def test_a_converted_model_outside_a_stream_costs_what_the_dense_one_does():
    net = skipping(TinyNet())

    with mmskip.count_macs(net) as macs:
        net(torch.zeros(2, *TinyNet.shape))

    assert macs.total() == MacCount(2 * TinyNet.dense, 2 * TinyNet.dense, 0, 0)


def test_one_changed_pixel_costs_the_outputs_that_read_it():
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    net = skipping(nn.Sequential(conv))
    still = torch.zeros(1, 3, 16, 16)
    changed = still.clone()
    changed[0, 1, 5, 6] = 1  # read by rows 2, 3 and column 3

    _, macs = run_stream(net, [still, still, changed])

    assert macs.total().executed - macs.total().reference == 2 * 8 * 27
    assert macs.by_module()['0'].firing_rate == 2 / (2 * 64)


def test_the_batch_multiplies_every_column():
    net = skipping(TinyNet(), threshold=15.0)
    video = make_video(4, 1, *TinyNet.shape, share=0.1)

    _, one = run_stream(net, video)
    _, three = run_stream(net, [x.repeat(3, 1, 1, 1) for x in video])

    assert three.total() == MacCount(*(3 * value for value in one.total()))
    assert three.per_frame() == one.per_frame()


def test_counting_leaves_no_trace_on_the_model():
    net = skipping(TinyNet())
    before = [copy.copy(vars(module)) for module in net.modules()]

    with mmskip.count_macs(net):
        net(torch.zeros(1, *TinyNet.shape))

    assert [vars(module) for module in net.modules()] == before


@EACH_NET
def test_counting_changes_no_output(kind):
    net = NETS[kind]()
    x = torch.randn(2, *NETS[kind].shape)
    plain = flat(net(x))

    with mmskip.count_macs(net):
        counted = [flat(net(x)) for _ in range(2)]

    assert all(same(plain, run) for run in counted)


def test_parts_called_on_their_own_are_counted_but_are_no_frames():
    net = TinyNet()

    with mmskip.count_macs(net) as macs:
        for _ in range(3):
            net.stem(torch.zeros(2, *TinyNet.shape))

    assert macs.total().dense == 3 * 2 * TinyNet.macs['stem']
    with pytest.raises(RuntimeError, match='call the model itself'):
        macs.per_frame()


def test_a_converted_model_is_counted_once_at_a_time():
    net = skipping(TinyNet())

    with (
        mmskip.count_macs(net),
        pytest.raises(RuntimeError, match='inside count_macs'),
        mmskip.count_macs(net),
    ):
        pass


def test_the_ledger_can_be_read_inside_and_after_the_block():
    net = TinyNet()
    x = torch.zeros(1, *TinyNet.shape)

    with mmskip.count_macs(net) as macs:
        net(x)
        inside = macs.total()
        net(x)
    net(x)

    assert macs.total().dense == 2 * inside.dense == 2 * TinyNet.dense


def test_flop_counter_and_ledger_agree_side_by_side():
    net = skipping(TinyNet())

    with mmskip.count_macs(net) as macs, FlopCounterMode(display=False) as f:
        net(torch.zeros(2, *TinyNet.shape))

    assert f.get_total_flops() == 2 * macs.total().dense


def test_models_that_skip_whole_frames_get_the_ledger_inside_the_block():
    class EverySecond(TinyNet, FrameSkipper):
        pass

    net = EverySecond()
    with mmskip.count_macs(net) as macs:
        net(torch.zeros(1, *TinyNet.shape))
        net.mmskip_ledger.record_skipped_frames(3)

    assert net.mmskip_ledger is None
    assert macs.frames == 4
    assert macs.total().dense == 4 * TinyNet.dense
    assert macs.total().executed == TinyNet.dense
