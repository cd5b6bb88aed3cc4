"""Frames chosen blindly."""

import pytest
import torch
from mmengine.registry import MODELS

from mmskip.sof_net import EveryKthFrame, RandomFrames
from tests.sof_net.nets import build_sof, data, samples, videos


def test_every_kth_frame_begins_with_the_first():
    chosen = EveryKthFrame(3)(7, samples([0, 0]))
    assert chosen.tolist() == [[True, False, False] * 2 + [True]] * 2


def test_random_frames_are_many_enough_and_differ_between_videos():
    chosen = RandomFrames(4)(16, samples([0] * 20))
    assert chosen.sum(1).tolist() == [4] * 20
    assert len({tuple(row) for row in chosen.tolist()}) > 10


def test_random_frames_depend_on_the_video_and_the_seed_alone():
    many = samples([0] * 6)
    together = RandomFrames(4)(16, many)
    torch.manual_seed(123)
    apart = torch.cat([RandomFrames(4)(16, [one]) for one in many])
    assert together.equal(apart)
    assert not together.equal(RandomFrames(4, seed=1)(16, many))


@torch.no_grad()
def test_the_others_are_never_looked_at():
    model = build_sof(
        policy=None, frame_choice=dict(type='mmskip.EveryKthFrame', k=2)
    )
    whole, x = build_sof(policy=None), videos(2, 4)
    results = model.test_step(data(x))
    for result, same in zip(
        results, whole.test_step(data(x[:, ::2])), strict=True
    ):
        assert result.sof_stops.tolist() == [5, -1, 5, -1]
        assert result.sof_exit == 2
        assert result.sof_macs == same.sof_macs
        torch.testing.assert_close(result.pred_score, same.pred_score)


def test_they_are_registered():
    for name in ('EveryKthFrame', 'RandomFrames'):
        assert MODELS.get(f'mmskip.{name}') is not None


@pytest.mark.parametrize('number', [0, -1])
def test_numbers_that_make_no_sense_are_refused(number):
    with pytest.raises(ValueError, match='k to be a positive int'):
        EveryKthFrame(number)
    with pytest.raises(ValueError, match='num_frames to be a positive int'):
        RandomFrames(number)


def test_too_few_frames_are_told():
    with pytest.raises(ValueError, match='at least num_frames=5 frames'):
        RandomFrames(5)(4, samples([0]))


def test_a_video_without_a_name_is_told():
    with pytest.raises(KeyError, match='meta_keys of PackActionInputs'):
        RandomFrames(2, key='frame_dir')(4, samples([0]))
