import gc
import weakref

import numpy as np
import pytest
import torch

from mmskip.apis import Frame, is_converted, stream_video
from tests.apis.fakes import (
    FRAME_MACS,
    noise_frames,
    static_frames,
    tiny_detector,
)


def test_a_static_video_costs_one_frame():
    model = tiny_detector(threshold=0.0)
    results = list(stream_video(model, static_frames(4)))
    assert [r.cost.dense for r in results] == [FRAME_MACS] * 4
    assert [r.cost.executed for r in results] == [FRAME_MACS, 0, 0, 0]
    assert all(r.cost.overhead > 0 for r in results[1:])
    assert [r.computed_mask.mean() for r in results] == [1, 0, 0, 0]


def test_predictions_equal_those_of_the_dense_model_with_an_open_gate():
    frames = noise_frames(3)
    skipping = stream_video(tiny_detector(threshold=0.0), frames)
    dense = stream_video(tiny_detector(), frames)
    for a, b in zip(skipping, dense, strict=True):
        torch.testing.assert_close(
            a.prediction.pred_instances.scores,
            b.prediction.pred_instances.scores,
        )


@pytest.mark.parametrize('options', [dict(dense=True), dict(with_mask=False)])
def test_the_mask_is_worked_out_only_where_it_is_wanted(options):
    model = tiny_detector(threshold=0.0)
    results = list(stream_video(model, static_frames(2), **options))
    assert [r.computed_mask for r in results] == [None, None]
    if 'dense' in options:
        assert [r.cost.executed for r in results] == [FRAME_MACS] * 2


def test_an_unconverted_model_runs_densely():
    model = tiny_detector()
    assert not is_converted(model)
    results = list(stream_video(model, static_frames(2)))
    assert [r.cost.executed for r in results] == [FRAME_MACS] * 2
    assert results[0].computed_mask is None


def test_a_change_of_size_starts_with_a_reference_frame():
    model = tiny_detector(threshold=0.0)
    frames = static_frames(2) + static_frames(2, (32, 40))
    costs = [r.cost for r in stream_video(model, frames)]
    assert [c.executed for c in costs] == [c * d for c, d in zip(
        (1, 0, 1, 0), [c.dense for c in costs], strict=True
    )]  # fmt: skip


def test_readers_frames_keep_their_index():
    frames = [Frame(3, image) for image in static_frames(1)]
    result = next(stream_video(tiny_detector(), frames))
    assert result.index == 3
    assert result.prediction.img_id == 3


def test_the_computed_pixels_are_where_the_change_is():
    model = tiny_detector(threshold=0.0)
    first = static_frames(1)[0]
    second = first.copy()
    second[10:14, 20:24] ^= 255
    *_, result = stream_video(model, [first, second])
    rows, columns = np.nonzero(result.computed_mask)
    # Stride 2, a kernel of 3: outputs 5..7 and 10..12 read the change; of
    # those, the odd ones lie in the middle of blocks of 4 pixels.
    assert result.computed_mask.shape == (12, 16)
    assert sorted(set(rows)) == [2, 3]
    assert set(columns) == {5}


def test_nothing_of_past_frames_is_kept():
    alive = []

    def frames():
        for image in noise_frames(6):
            image = image.copy()
            alive.append(weakref.ref(image))
            yield image

    largest = 0
    for result in stream_video(tiny_detector(threshold=0.1), frames()):
        del result
        gc.collect()
        largest = max(largest, sum(ref() is not None for ref in alive))
    assert largest <= 1


def test_the_model_is_free_again_when_the_generator_is_closed():
    model = tiny_detector(threshold=0.0)
    results = stream_video(model, static_frames(3))
    next(results)
    results.close()
    assert len(list(stream_video(model, static_frames(2)))) == 2


def test_gradients_stay_on_in_the_callers_code():
    for _ in stream_video(tiny_detector(), static_frames(1)):
        assert torch.is_grad_enabled()


@pytest.mark.parametrize('shape', [(48, 64), (48, 64, 4)])
def test_other_images_than_bgr_are_refused(shape):
    frames = [np.zeros(shape, dtype=np.uint8)]
    with pytest.raises(ValueError, match=r'expected frames of shape \(H, W'):
        list(stream_video(tiny_detector(), frames))
