import pytest
import torch
from torch import nn

from mmskip.apis import make_fast, stream_video
from mmskip.native import library as native
from mmskip.plan.record import StreamForward
from tests.apis.fakes import noise_frames, static_frames, tiny_detector


def replaced(model):
    return [
        part
        for part in model.modules()
        if isinstance(part.__dict__.get('forward'), StreamForward)
    ]


def test_results_and_costs_stay():
    frames = static_frames(2) + noise_frames(3)
    results = stream_video(tiny_detector(threshold=0.0), frames)
    fast = make_fast(tiny_detector(threshold=0.0))
    again = stream_video(fast, frames)
    for a, b in zip(results, again, strict=True):
        assert a.cost == b.cost
        assert (a.computed_mask == b.computed_mask).all()
        torch.testing.assert_close(
            a.prediction.pred_instances.scores,
            b.prediction.pred_instances.scores,
        )


@pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
def test_what_runs_densely_follows_no_changes(monkeypatch):
    assert replaced(make_fast(tiny_detector(threshold=0.0)))
    assert not replaced(make_fast(tiny_detector(threshold=0.0), dense=True))
    assert not replaced(make_fast(tiny_detector()))
    monkeypatch.setenv('MMSKIP_BACKEND', 'reference')
    assert not replaced(make_fast(tiny_detector(threshold=0.0)))


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

        torch.testing.assert_close(make_fast(model)(x), expected)
