"""Frames of a clip around its key frame."""

import pytest

pytest.importorskip('mmaction')

from mmskip.datasets import SampleKeyFrameClip


def frames(frame_id, total=20, **options):
    info = dict(frame_id=frame_id, total_frames=total, start_index=1)
    results = SampleKeyFrameClip(**options).transform(info)
    assert results['num_clips'] == 1
    assert results['clip_len'] == len(results['frame_inds'])
    return results['frame_inds'].tolist()


def test_a_clip_ends_at_its_key_frame():
    assert frames(9, clip_len=4) == [7, 8, 9, 10]
    assert frames(9, clip_len=3, frame_interval=2) == [6, 8, 10]


def test_or_has_it_in_the_middle():
    assert frames(9, clip_len=4, key='middle') == [8, 9, 10, 11]
    assert frames(9, clip_len=3, key='middle') == [9, 10, 11]


def test_clips_longer_than_the_video_repeat_its_ends():
    assert frames(1, total=3, clip_len=6) == [1, 1, 1, 1, 1, 2]
    assert frames(1, total=2, clip_len=6, key='middle') == [1, 1, 1, 2, 2, 2]
    assert frames(0, total=1, clip_len=2) == [1, 1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(key='first'), "got 'first'"),
        (dict(clip_len=0), 'got 0 and 1'),
        (dict(frame_interval=0), 'got 16 and 0'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SampleKeyFrameClip(**options)
