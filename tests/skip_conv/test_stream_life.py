"""Streams among copies, exceptions and other modes of torch."""

import contextlib
import copy
import pickle

import pytest
import torch
from torch import nn

import mmskip
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.convs import make_video
from tests.helpers.nets import TinyNet, skipping
from tests.helpers.runs import run_dense, run_stream, same


@pytest.fixture
def net():
    return skipping(TinyNet(), threshold=12.0)


@pytest.fixture
def video():
    return make_video(4, 1, *TinyNet.shape)


def test_train_and_eval_do_not_touch_a_stream(net, video):
    expected, _ = run_stream(net, video)

    with mmskip.stream(net), torch.no_grad():
        outputs = []
        for x in video:
            net.train()
            net.eval()
            outputs.append([net(x)])

    assert same(outputs, expected)


class Failing(nn.Module):
    """Raises between two convolutions when told to."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.broken = False

    def forward(self, x):
        x = self.first(x)
        if self.broken:
            raise ArithmeticError
        return self.second(x)


@pytest.mark.parametrize('memory', MEMORY_RULES)
def test_a_stream_is_usable_after_an_exception_in_mid_forward(memory):
    net = skipping(Failing(), memory=memory)
    video = make_video(5, 1, 2, 6, 6)
    dense, _ = run_dense(net, video)

    with mmskip.count_macs(net) as macs, mmskip.stream(net) as state:
        for t in (0, 1):
            net(video[t])
        net.broken = True
        with pytest.raises(ArithmeticError):
            net(video[2])
        net.broken = False
        rest = [[net(x)] for x in video[3:]]

    # At threshold 0 nothing is lost, so neither is the failed frame.
    assert same(rest, dense[3:])
    assert list(state.slots) == [('first', 0), ('second', 0)]
    assert macs.by_module()['first'].dense == 5 * 36 * 4 * 18
    assert macs.by_module()['second'].dense == 4 * 36 * 4 * 36
    assert net.first._binding is None


def test_an_exception_in_the_block_ends_the_stream(net, video):
    x = video[0]
    expected = net(x)

    with contextlib.suppress(ArithmeticError), mmskip.stream(net):
        net(x * 0)
        raise ArithmeticError

    assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=['deepcopy', 'pickle'],
)
@pytest.mark.parametrize('inside', [True, False], ids=['inside', 'outside'])
def test_copies_of_a_model_work_alone(net, video, duplicate, inside):
    expected, _ = run_stream(net, video)
    dense = net(video[3])

    with torch.no_grad(), mmskip.count_macs(net) as macs:
        if inside:
            with mmskip.stream(net) as state:
                outputs = [[net(video[0])], [net(video[1])]]
                twin = duplicate(net)
                assert torch.equal(twin(video[3]), dense)
                outputs += [[net(video[2])], [net(video[3])]]
            assert same(outputs, expected)
            assert state.frames == macs.frames == 4
        else:
            twin = duplicate(net)

    assert type(twin.stem) is type(net.stem)
    assert same(run_stream(twin, video)[0], expected)


def test_state_dicts_round_trip_also_inside_a_stream(net, video):
    x = video[0]
    with mmskip.stream(net):
        net(x)
        weights = copy.deepcopy(net.state_dict())
        net.load_state_dict(weights, strict=True)
    plain = TinyNet()

    plain.load_state_dict(weights, strict=True)

    assert torch.equal(plain(x), net(x))


def test_inference_mode_and_no_grad_share_a_stream(net, video):
    expected, _ = run_stream(net, video)

    with mmskip.stream(net):
        with torch.inference_mode():
            first = net(video[0])
        second = net(video[1])
        with torch.inference_mode():
            third = net(video[2])

    assert same([[first], [second], [third]], expected[:3])


@pytest.mark.parametrize('frames', [0, -1, 2.0, None])
def test_a_number_of_frames_must_be_a_positive_int(net, frames):
    with (
        pytest.raises(ValueError, match='positive int'),
        mmskip.clip(net, frames),
    ):
        pass
    with (
        pytest.raises(ValueError, match='positive int'),
        mmskip.stream(net, num_frames=frames),
    ):
        pass


def test_gradients_of_a_clip_with_open_gates_are_those_of_the_dense_net():
    net = skipping(TinyNet(), threshold=-1)
    batch = torch.cat(make_video(4, 1, *TinyNet.shape))
    net(batch).square().sum().backward()
    dense = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()

    with mmskip.clip(net, 4):
        net(batch).square().sum().backward()

    for parameter, expected in zip(net.parameters(), dense, strict=True):
        limit = 1e-6 * expected.abs().max()
        assert (parameter.grad - expected).abs().max() <= limit
