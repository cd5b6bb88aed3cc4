"""Frames that arrive one by one."""

import pytest
import torch

import mmskip
from tests.sof_net.nets import build_sof, data, videos


@torch.no_grad()
def offline(model, frames):
    return model.test_step(data(frames[None]))[0]


@pytest.mark.parametrize('rho', [1.0, 0.35])
def test_every_prediction_is_that_of_the_frames_so_far(rho):
    model = build_sof(early_exit=dict(rho=rho, t_min=0))
    lost = 0
    for video in videos(6, 5):
        stream = model.stream()
        for t, frame in enumerate(video, start=1):
            prediction = stream.predict(frame)
            expected = offline(model, video[:t])
            torch.testing.assert_close(prediction.scores, expected.pred_score)
            assert prediction.label == int(expected.pred_label)
            assert prediction.terminated == bool(
                expected.pred_score.max() > rho
                and expected.sof_macs > 0
                and stream._inference.done[0]
            )
            lost += prediction.stop != int(expected.sof_stops[t - 1])
    assert lost > 0  # frames that are forwarded after all if the video ends


def test_a_terminated_video_costs_nothing_more():
    model = build_sof(policy=None, early_exit=dict(rho=0.01, t_min=1))
    stream, video = model.stream(), videos(1, 4)[0]
    with mmskip.count_macs(model) as macs:
        predictions = [stream.predict(frame) for frame in video[:2]]
        spent = macs.total().executed
        predictions += [stream.predict(frame) for frame in video[2:]]
    assert [prediction.terminated for prediction in predictions] == [
        False,
        True,
        True,
        True,
    ]
    assert [prediction.stop for prediction in predictions] == [5, 5, -1, -1]
    assert macs.total().executed == spent
    torch.testing.assert_close(predictions[-1].scores, predictions[1].scores)


def test_the_ledger_counts_frame_by_frame():
    model, video = build_sof(), videos(1, 5)[0]
    with mmskip.count_macs(model) as whole:
        offline(model, video)
    stream = model.stream()
    with mmskip.count_macs(model) as macs:
        for frame in video:
            stream.predict(frame)
    assert macs.frames == whole.frames == 5
    assert macs.total().dense == whole.total().dense
    assert macs.total().overhead == whole.total().overhead


def test_training_mode_is_refused():
    with pytest.raises(RuntimeError, match=r'eval\(\)'):
        build_sof().train().stream()


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match=r'\(C, H, W\), got \(1, 3, 32, 32\)'):
        build_sof().stream().predict(videos(1, 1)[0])
