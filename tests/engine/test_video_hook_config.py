"""What the hook reads: its config, and the videos of samples."""

import pytest
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement

from mmskip.engine import VideoHook
from mmskip.engine.video_hook import video_ids


def samples(videos, key='video_id'):
    return [BaseDataElement(metainfo={key: video}) for video in videos]


def test_videos_are_told_apart_by_their_key():
    data = dict(data_samples=samples('ab', key='sequence'))

    assert video_ids(data, 'sequence') == ['a', 'b']


def test_videos_without_an_id_are_told_apart_by_their_folder():
    paths = ['data/MVI_1/img1.jpg', 'data/MVI_1/img2.jpg', 'data/MVI_2/1.jpg']

    ids = video_ids(dict(data_samples=samples(paths, key='img_path')))

    assert ids[0] == ids[1] != ids[2]


def test_batches_may_be_lists_of_samples():
    data = [dict(inputs=0, data_samples=sample) for sample in samples('ab')]

    assert video_ids(data) == ['a', 'b']


def test_samples_without_any_video_are_an_error_that_says_what_to_do():
    data = dict(data_samples=samples([1], key='img_id'))

    with pytest.raises(
        KeyError, match=r"'video_id' or img_path.*img_id.*meta"
    ):
        video_ids(data)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(inference='frames'), "'stream', 'clip'"),
        (dict(inference='clip'), 'needs num_frames'),
        (dict(num_frames=0), 'num_frames to be a positive int'),
        (dict(reset_interval=-1), 'reset_interval to be a positive int'),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VideoHook(**options)


def test_the_hook_is_built_from_a_config():
    hook = HOOKS.build(dict(type='mmskip.VideoHook', reset_interval=8))

    assert isinstance(hook, VideoHook)
    assert hook.reset_interval == 8


def test_persons_of_a_video_are_told_apart_by_several_keys():
    data = [
        BaseDataElement(
            metainfo=dict(img_path=path, raw_ann_info=dict(track_id=track))
        )
        for path, track in (('a/1.png', 0), ('a/2.png', 0), ('a/1.png', 1))
    ]
    keys = ('img_path', 'raw_ann_info.track_id')

    ids = video_ids(dict(data_samples=data), keys)

    assert ids[0] == ids[1] != ids[2]
    assert video_ids(dict(data_samples=data))[0] == ids[0][0]
