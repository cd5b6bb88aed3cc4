import pytest
import torch

from mmskip.apis import make_fast, stream_video
from mmskip.ops import native
from mmskip.runtime.stream_forward import StreamForward
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
