import pytest
import torch
from torch import nn

import mmskip
from mmskip.apis import stream_video
from mmskip.native import library as native
from mmskip.plan.record import StreamForward
from tests.apis.fakes import noise_frames, static_frames, tiny_detector


def accelerated(model, precision='float32'):
    mmskip.accelerate(model, precision)
    return model


def replaced(model):
    return [
        part
        for part in model.modules()
        if isinstance(part.__dict__.get('forward'), StreamForward)
    ]


def test_results_and_costs_stay():
    frames = static_frames(2) + noise_frames(3)
    results = stream_video(tiny_detector(threshold=0.0), frames)
    fast = accelerated(tiny_detector(threshold=0.0))
    again = stream_video(fast, frames)
    for a, b in zip(results, again, strict=True):
        assert a.cost == b.cost
        assert (a.computed_mask == b.computed_mask).all()
        torch.testing.assert_close(
            a.prediction.pred_instances.scores,
            b.prediction.pred_instances.scores,
        )


@pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
def test_what_cannot_run_in_a_plan_has_none(monkeypatch):
    assert replaced(accelerated(tiny_detector(threshold=0.0)))
    assert not replaced(accelerated(tiny_detector()))
    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')
    assert not replaced(accelerated(tiny_detector(threshold=0.0)))


def test_clips_and_kernels_that_others_look_into_are_no_obstacle():
    bricks = pytest.importorskip('mmcv.cnn.bricks.conv_ws')

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.clips = nn.Conv3d(3, 4, (1, 3, 3))
            self.images = nn.Sequential(
                bricks.ConvWS2d(4, 4, 3), bricks.ConvAWS2d(4, 4, 3)
            )

        def forward(self, x):
            return self.images(self.clips(x).mean(2))

    model, x = Both().eval(), torch.randn(1, 3, 2, 12, 12)
    with torch.no_grad():
        expected = model(x)

        torch.testing.assert_close(accelerated(model)(x), expected)
