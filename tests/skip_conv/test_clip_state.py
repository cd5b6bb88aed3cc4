"""Clips in training that go on from those before them."""

import pytest
import torch

import mmskip
from mmskip.reading import InputError
from tests.helpers.convs import make_video


def make_model(gate, memory='accumulated'):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 4, 1),
    ).double()
    skip = mmskip.SkipConversion(gate=gate, memory=memory)
    mmskip.convert(model, skip)
    for layer in (model[0], model[2]):
        layer.gate.requires_grad_(False)
    return model


def run_clips(model, video, frames):
    """Run a video in training, clip by clip; gates decide as in inference."""
    model.train()
    state, outputs, costs = {}, [], []
    for at in range(0, len(video), frames):
        with mmskip.clip(model, frames, state) as binding:
            # Frozen gates: follow_mode() would thaw only those of frozen
            # layers.
            outputs += model(torch.cat(video[at : at + frames])).unbind()
            costs.append([cost.hard for cost in binding.costs])
    return torch.stack(outputs), costs


def run_stream(model, video):
    model.eval()
    with (
        torch.no_grad(),
        mmskip.count_macs(model) as ledger,
        mmskip.stream(model),
    ):
        return torch.cat([model(frame) for frame in video]), ledger.total()


@pytest.mark.parametrize('frames', [1, 2, 4])
@pytest.mark.parametrize(
    'gate',
    [
        dict(type='LearnedNormGate', threshold=0.4),
        dict(type='LearnedNormGate', threshold=0.4, norm='input', order=2),
    ],
)
def test_outputs_are_those_of_one_stream(gate, frames):
    model = make_model(gate)
    video = [frame.double() for frame in make_video(8, 1, 3, 8, 10)]

    outputs, costs = run_clips(model, video, frames)
    expected, macs = run_stream(model, video)

    torch.testing.assert_close(outputs, expected)
    assert 0 < macs.firing_rate < 1
    # The first clip alone has a reference frame.
    assert len(costs) == 8 // frames
    assert not torch.equal(outputs[-1], outputs[0])


def test_with_clips_of_one_frame_levels_follow_as_in_a_stream():
    gate = dict(type='LearnedNormGate', threshold=0.4, relative=True)
    model = make_model(gate)
    video = [frame.double() for frame in make_video(8, 1, 3, 8, 10)]
    video += [3 * frame for frame in video]

    outputs, _ = run_clips(model, video, 1)
    expected, _ = run_stream(model, video)

    torch.testing.assert_close(outputs, expected)


def test_gradients_end_at_the_clip():
    model = make_model(dict(type='LearnedNormGate', threshold=0.4)).train()
    first, second = (
        torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    state = {}
    for clip in (first, second):
        with mmskip.clip(model, 2, state):
            output = model(clip)
    output.sum().backward()

    assert first.grad is None
    assert second.grad.any()


@pytest.mark.parametrize(
    ('gate', 'memory'),
    [
        (dict(type='LearnedNormGate', threshold=0.4), 'previous'),
        (
            dict(type='OutputNormGate', threshold=0.4, relative=True),
            'accumulated',
        ),
    ],
)
def test_layers_that_keep_nothing_to_go_on_from_are_refused(gate, memory):
    model = make_model(gate, memory).train()
    with (
        mmskip.clip(model, 2, {}),
        pytest.raises(InputError, match='to go on from one clip to the next'),
    ):
        model(torch.randn(2, 3, 8, 8, dtype=torch.float64))
