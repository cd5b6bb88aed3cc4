"""Streams and clips in the stock train, val and test loops."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import nn

import mmskip
from mmskip.core import LedgerReader
from mmskip.engine import VideoHook
from mmskip.native import library as native
from mmskip.plan import propagate_changes
from tests.helpers.convs import make_video
from tests.helpers.nets import TinyNet, Windows, skipping, whole_weights
from tests.helpers.pairwise import every_pair
from tests.helpers.runs import run_clip, run_stream, same


class Reader(LedgerReader):
    pass


def fake_runner(model, **hook):
    """A runner with what the hook looks at, and nothing else."""
    evaluator = SimpleNamespace(metrics=[Reader(), object()])
    loop = SimpleNamespace(evaluator=evaluator)
    runner = SimpleNamespace(
        model=model, val_loop=loop, test_loop=loop, iter=0
    )
    return runner, VideoHook(**hook)


def samples(videos):
    return [BaseDataElement(metainfo=dict(video_id=v)) for v in videos]


@torch.no_grad()
def evaluate(model, frames, videos, batch=1, mode='val', **hook):
    """What ValLoop and TestLoop do: outputs per frame, and the ledger."""
    runner, hook = fake_runner(model, **hook)
    getattr(hook, f'before_{mode}_epoch')(runner)
    outputs = []
    for i, start in enumerate(range(0, len(frames), batch)):
        chunk = slice(start, start + batch)
        data = dict(data_samples=samples(videos[chunk]))
        getattr(hook, f'before_{mode}_iter')(runner, i, data)
        outputs += model(torch.cat(frames[chunk])).split(1)
    getattr(hook, f'after_{mode}_epoch')(runner, {})
    return outputs, runner.val_loop.evaluator.metrics[0].ledger


@pytest.fixture
def net():
    return skipping(TinyNet(), threshold=15.0)


@pytest.fixture
def frames():
    return make_video(7, 1, *TinyNet.shape, share=0.05)


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_each_new_video_starts_with_a_reference_frame(net, mode):
    frames = make_video(1, 1, *TinyNet.shape) * 7

    _, ledger = evaluate(net, frames, 'aaabbcc', mode=mode)

    executed = sum(v for k, v in TinyNet.macs.items() if k != 'classifier')
    assert ledger.total().reference == 3 * executed
    assert ledger.total().executed == 3 * executed + 7 * 5 * 4
    assert ledger.frames == 7


def test_a_video_is_seen_as_if_it_were_the_only_one(net, frames):
    outputs, _ = evaluate(net, frames, 'aaaabbb')

    first, _ = run_stream(net, frames[:4])
    second, _ = run_stream(net, frames[4:])
    assert same(outputs, [*first, *second])


@pytest.mark.parametrize(
    ('interval', 'references'),
    [(None, [0, 5]), (1, range(7)), (2, [0, 2, 4, 5]), (4, [0, 4, 5])],
)
def test_a_stream_restarts_at_every_reset_interval_of_its_video(
    net, frames, interval, references
):
    outputs, _ = evaluate(net, frames, 'aaaaabb', reset_interval=interval)

    cuts = [*references, 7]
    expected = []
    for start, end in pairwise(cuts):
        expected += run_stream(net, frames[start:end])[0]
    assert same(outputs, expected)


def test_a_policy_restarts_a_stream_within_its_video(net, frames):
    policy = dict(reset_interval=3, cut_share=None, busy_share=None)
    outputs, _ = evaluate(net, frames, 'aaaaabb', policy=policy)
    expected = []
    for start, end in pairwise([0, 3, 5, 7]):
        expected += run_stream(net, frames[start:end])[0]
    assert same(outputs, expected)


@every_pair(
    'videos,batch,interval',
    ['aaaaaaa', 'abbbbbb', 'aabcccc', 'ababaab'],
    [2, 3, 7],
    [None, 1, 2, 3],
)
def test_a_batch_of_consecutive_frames_equals_one_by_one(
    net, frames, videos, batch, interval
):
    hook = dict(reset_interval=interval)

    expected, one_by_one = evaluate(net, frames, videos, **hook)
    outputs, ledger = evaluate(net, frames, videos, batch, **hook)

    assert same(outputs, expected)
    assert ledger.by_module() == one_by_one.by_module()
    assert ledger.per_frame() == one_by_one.per_frame()


class Sometimes(nn.Module):
    """Runs its second convolution on bright images only."""

    def __init__(self):
        super().__init__()
        self.always = nn.Conv2d(1, 1, 1)
        self.sometimes = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        x = self.always(x)
        return self.sometimes(x) if x.sum() > 0 else x


def test_nothing_of_a_video_outlives_it():
    net = Sometimes()
    for conv in (net.always, net.sometimes):
        nn.init.ones_(conv.weight)
        nn.init.zeros_(conv.bias)
    gate = dict(type='InputNormGate', threshold=1e9)
    mmskip.convert(net, mmskip.SkipConversion(gate), include='sometimes')
    bright, dark = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)

    outputs, _ = evaluate(net, [bright, dark, bright * 2], 'abb')

    assert same(outputs, [bright, dark, bright * 2])


def test_whole_videos_on_two_ranks_add_up_to_one_rank(net, frames):
    expected, whole = evaluate(net, frames, 'aaaabbb')

    first, part = evaluate(net, frames[:4], 'aaaa')
    second, rest = evaluate(net, frames[4:], 'bbb')

    assert same(first + second, expected)
    total = mmskip.MacCount.sum([part.total(), rest.total()])
    assert total == whole.total()


def test_every_epoch_starts_anew(net, frames):
    runner, hook = fake_runner(net, reset_interval=2)
    ledgers, reader = [], runner.val_loop.evaluator.metrics[0]
    for _ in range(2):
        hook.before_val_epoch(runner)
        for i, x in enumerate(frames[:3]):
            hook.before_val_iter(runner, i, dict(data_samples=samples('a')))
            net(x)
        hook.after_val_epoch(runner)
        ledgers.append(reader.ledger)

    assert ledgers[0] is not ledgers[1]
    assert ledgers[0].total() == ledgers[1].total()
    assert ledgers[1].by_module()['stem'].reference == 2 * net.macs['stem']


@pytest.mark.parametrize(
    'hooks', [('before_val_epoch', 'after_val_epoch'), ('before_test_epoch',)]
)
def test_the_model_is_free_after_an_epoch_and_after_a_crash(net, hooks):
    runner, hook = fake_runner(net)

    for name in hooks * 2:
        getattr(hook, name)(runner)
    hook.after_test_epoch(runner)

    with mmskip.count_macs(net), mmskip.stream(net) as state:
        net(torch.zeros(1, *TinyNet.shape))
    assert state.frames == 1


def test_a_crash_in_an_epoch_does_not_poison_the_next(net, frames):
    runner, hook = fake_runner(net, num_frames=2)
    expected, _ = run_stream(net, frames[:3])
    hook.before_train_iter(runner, 0)
    with pytest.raises(ValueError, match='multiple'):
        net(frames[0])
    hook.before_train_iter(runner, 0)
    with pytest.raises(ValueError, match='multiple'):
        net(frames[0])
    hook.before_val_epoch(runner)
    hook.before_val_iter(runner, 0, dict(data_samples=samples('a')))
    with pytest.raises(RuntimeError):
        net(frames[0][:, :2])

    hook.before_val_epoch(runner)
    outputs = []
    for i, x in enumerate(frames[:3]):
        hook.before_val_iter(runner, i, dict(data_samples=samples('a')))
        outputs.append([net(x)])
    hook.after_val_epoch(runner)
    hook.before_train_iter(runner, 1)
    hook.after_train_iter(runner, 1)

    assert same(outputs, expected)


@pytest.mark.skipif(bool(native.MISSING), reason=str(native.MISSING))
@pytest.mark.parametrize('batch', [1, 2])
def test_batches_keep_a_plan_from_running_and_say_so(
    net, frames, monkeypatch, batch
):
    expected, _ = evaluate(net, frames, 'aaaabbb')
    said = []
    monkeypatch.setattr(
        'mmskip.engine.video_hook.print_log',
        lambda text, *_: said.append(text),
    )
    propagate_changes(net)

    outputs, _ = evaluate(net, frames, 'aaaabbb', batch)

    assert same(outputs, expected)
    assert len(said) == batch - 1
    assert all('Set batch_size=1 in val_dataloader' in text for text in said)


def test_training_runs_clips_and_only_inside_the_iteration(net, frames):
    runner, hook = fake_runner(net, num_frames=7)
    batch = torch.cat(frames)
    dense = net(batch)
    clip, _ = run_clip(net, frames)

    for i in range(2):
        hook.before_train_iter(runner, i)
        inside = net(batch)
        hook.after_train_iter(runner, i)

        assert same(inside.split(1), clip)
        assert torch.equal(net(batch), dense)
    assert not torch.equal(inside, dense)


def test_training_is_frame_by_frame_without_num_frames(net, frames):
    runner, hook = fake_runner(net)
    dense = net(frames[0])

    hook.before_train_iter(runner, 0)

    assert torch.equal(net(frames[0]), dense)


def test_a_model_of_clips_is_evaluated_clip_by_clip(net, frames):
    runner, hook = fake_runner(net, num_frames=7, inference='clip')
    expected, macs = run_clip(net, frames)

    hook.before_test_epoch(runner)
    for i in range(2):
        hook.before_test_iter(runner, i, dict(data_samples=samples('a')))
        output = net(torch.cat(frames))
        assert same(output.split(1), expected)
    hook.after_test_epoch(runner)

    ledger = runner.test_loop.evaluator.metrics[0].ledger
    assert ledger.per_frame() == macs.per_frame()


def test_consecutive_windows_of_a_video_form_a_stream():
    net = skipping(Windows(), threshold=15.0)
    windows = make_video(4, 1, *Windows.shape, share=0.01)

    outputs, ledger = evaluate(net, windows, 'aaab', batch=2)

    assert same(outputs[:3], run_stream(net, windows[:3])[0])
    assert ledger.frames == 4


def test_a_dense_model_is_only_counted(frames):
    net = whole_weights(TinyNet())
    dense = [net(x) for x in frames]

    outputs, ledger = evaluate(net, frames, 'aaaabbb', num_frames=4)

    assert same(outputs, dense)
    assert ledger.total().dense == ledger.total().executed == 7 * net.dense
    runner, hook = fake_runner(net, num_frames=4)
    hook.before_train_iter(runner, 0)
    assert torch.equal(net(frames[0]), dense[0])


def test_the_model_inside_a_distributed_wrapper_is_meant(net, frames):
    runner, hook = fake_runner(nn.DataParallel(net))
    hook.before_val_epoch(runner)
    hook.before_val_iter(runner, 0, dict(data_samples=samples('a')))
    with torch.no_grad():
        net(frames[0])
    hook.after_val_epoch(runner)

    ledger = runner.val_loop.evaluator.metrics[0].ledger
    assert set(ledger.by_module()) == set(TinyNet.macs)


def test_an_option_that_runs_past_converted_layers_is_refused(net):
    runner, hook = fake_runner(net)
    runner.cfg = Config(dict(efficient_conv_bn_eval=['backbone']))

    with pytest.raises(ValueError, match=r"got \['backbone'\].*remove it"):
        hook.before_run(runner)

    runner.model = TinyNet()
    hook.before_run(runner)
    runner.model, runner.cfg = net, Config()
    hook.before_run(runner)
