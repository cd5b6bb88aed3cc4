"""What dynamic layers chose, sample by sample."""

import contextlib

import pytest
import torch
from torch import nn

import mmskip
from mmskip.core import CountedWhole
from mmskip.reading import InputError


class Clips(nn.Module):
    """A dynamic layer, a plain one and a classifier of clips."""

    def __init__(self):
        super().__init__()
        self.dynamic = nn.Conv3d(3, 8, (1, 3, 3), bias=False)
        self.plain = nn.Conv3d(8, 2, 1, bias=False)
        self.fc = nn.Linear(2, 5)

    def forward(self, x):
        return self.fc(self.plain(self.dynamic(x)).mean((2, 3, 4)))


class Frames(nn.Module):
    """Frames (N*T, C, H, W) to a score per clip, as TSN."""

    def __init__(self, frames):
        super().__init__()
        self.frames = frames
        self.dynamic = nn.Conv2d(3, 8, 3, bias=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.dynamic(x).mean((2, 3)).unflatten(0, (-1, self.frames))
        return self.fc(x.mean(1))


class Weigh(CountedWhole):
    """Reports its own MACs: two per number, one of them overhead."""

    def forward(self, x):
        if self._ledger is not None:
            self._ledger.record(self, x.numel(), x.numel(), x.numel())
        return 2 * x


@pytest.fixture
def clips():
    net = Clips().eval()
    mmskip.convert(net, mmskip.DynamicConversion(), include='dynamic')
    return net


def test_samples_add_up_to_the_ledger(clips):
    x = torch.randn(3, 3, 4, 6, 6)

    with (
        mmskip.count_macs(clips) as macs,
        mmskip.record_routing(clips) as made,
    ):
        clips(x)
        clips(x[:2])

    assert made.sample_macs().shape == (5,)
    assert made.sample_macs().sum() == macs.total().spent
    assert made.sample_macs().dtype == torch.int64


@pytest.mark.parametrize(('time', 'channels'), [(0, 0), (0, 1), (1, 1)])
def test_routing_and_macs_in_closed_form(clips, time, channels):
    x = torch.randn(2, 3, 4, 6, 6)

    with (
        mmskip.force_routing(clips, time, channels),
        mmskip.record_routing(clips) as made,
    ):
        clips(x)

    layer = made.by_layer()['dynamic']
    assert layer.time.tolist() == [time] * 2
    assert layer.channels.tolist() == [channels] * 2
    assert layer.dense == 8 * 4 * 16 * 27
    width, frames = 8 >> channels, 4 >> time
    gate = 6 * 16 + 16 * 4
    terms_of_frames = 4 if frames == 4 else 2 + 2 * 2
    rest = 8 * terms_of_frames * 16
    executed = width * frames * 16 * 27 + gate + rest
    assert layer.executed.tolist() == [executed] * 2
    others = 2 * 4 * 16 * 8 + 2 * 5
    assert made.sample_macs().tolist() == [executed + others] * 2


def test_frames_of_a_clip_are_summed():
    net = Frames(3).eval()
    mmskip.convert(net, mmskip.DynamicConversion())

    with mmskip.record_routing(net) as made:
        net(torch.randn(2 * 3, 3, 6, 6))

    executed = made.by_layer()['dynamic'].executed
    assert executed.shape == (6,)
    expected = executed.view(2, 3).sum(1) + 8 * 5
    assert torch.equal(made.sample_macs(), expected)


def test_a_plain_model_is_counted_too():
    net = Clips().eval()

    with mmskip.record_routing(net) as made:
        net(torch.randn(2, 3, 4, 6, 6))

    assert made.by_layer() == {}
    macs = 8 * 4 * 16 * 27 + 2 * 4 * 16 * 8 + 2 * 5
    assert made.sample_macs().tolist() == [macs] * 2


def test_training_is_left_out(clips):
    clips.train()

    with mmskip.record_routing(clips) as made:
        clips(torch.randn(2, 3, 4, 6, 6))

    assert made.by_layer() == {}


def test_nothing_stays_behind(clips):
    with mmskip.record_routing(clips):
        clips(torch.randn(1, 3, 4, 6, 6))

    assert clips.dynamic._routing is None
    assert not any(m._forward_hooks for m in clips.modules())


def test_a_second_record_is_refused(clips):
    with mmskip.record_routing(clips), pytest.raises(RuntimeError):  # noqa: SIM117
        with mmskip.record_routing(clips):
            pass


def test_options_that_do_not_exist_are_refused(clips):
    with pytest.raises(ValueError, match='>= 0'):  # noqa: SIM117
        with mmskip.force_routing(clips, -1):
            pass


@pytest.mark.parametrize('counted_first', [True, False])
def test_modules_that_report_their_own_macs_are_heard(clips, counted_first):
    clips.plain = nn.Sequential(clips.plain, Weigh())
    x = torch.randn(3, 3, 4, 6, 6)
    watches = [mmskip.count_macs(clips), mmskip.record_routing(clips)]
    with contextlib.ExitStack() as stack:
        order = watches if counted_first else watches[::-1]
        entered = {watch: stack.enter_context(watch) for watch in order}
        clips(x)
    macs, made = (entered[watch] for watch in watches)
    assert macs.by_module()['plain.1'].overhead > 0
    assert int(made.sample_macs().sum()) == macs.total().spent
    assert int(made.sample_dense_macs().sum()) == macs.total().dense
    assert clips.plain[1]._ledger is None


def test_a_sample_is_what_the_head_has_scores_of():
    """TSM classifies each frame and takes the mean then."""

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 5)

        def forward(self, x):
            return self.fc(x).unflatten(0, (-1, 3)).mean(1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.dynamic = nn.Conv2d(3, 8, 3, bias=False)
            self.cls_head = Head()

        def forward(self, x):
            return self.cls_head(self.dynamic(x).mean((2, 3)))

    net = Net().eval()
    mmskip.convert(net, mmskip.DynamicConversion())
    with mmskip.record_routing(net) as made:
        net(torch.randn(2 * 3, 3, 6, 6))

    executed = made.by_layer()['dynamic'].executed
    expected = executed.view(2, 3).sum(1) + 3 * 8 * 5
    assert torch.equal(made.sample_macs(), expected)
    assert not net.cls_head._forward_hooks


def test_work_that_cannot_be_shared_out_is_an_error(clips):
    """Of boxes, say: three of two clips."""
    clips.more = nn.Linear(5, 5)
    clips.register_forward_hook(
        lambda net, _, scores: net.more(scores[[0, 0, 1]])
    )
    with (
        mmskip.record_routing(clips),
        pytest.raises(InputError, match='more to run on whole frames of 2'),
    ):
        clips(torch.randn(2, 3, 4, 6, 6))


def test_a_forward_that_raises_has_no_samples(clips):
    with mmskip.record_routing(clips) as made:
        handle = clips.fc.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            clips(torch.randn(2, 3, 4, 6, 6))
        handle.remove()
        clips(torch.randn(1, 3, 4, 6, 6))
    assert len(made.sample_macs()) == 1


@pytest.mark.parametrize('verb', ['record', 'force'])
def test_old_names_tell_the_new_ones(verb):
    with pytest.raises(AttributeError, match=rf'use mmskip\.{verb}_routing'):
        getattr(mmskip, f'{verb}_choices')
