import pytest

from mmskip.datasets.video_keys import describe_keys, find_video, look_up

SAMPLE = dict(
    img_path='data/a/1.jpg', video=7, raw=dict(track=3, scene=0), empty=None
)


def test_dots_lead_into_dicts():
    assert look_up(SAMPLE, 'raw.track') == 3
    assert look_up(SAMPLE, 'raw.none') is None
    assert look_up(SAMPLE, 'video.track') is None


@pytest.mark.parametrize(
    ('key', 'found'),
    [
        ('video', 7),
        (['video'], 7),
        ('raw.scene', 0),
        (('img_path', 'raw.track'), ('data/a', 3)),
        ('none', 'data/a'),
        (('none', 'empty'), 'data/a'),
        # A person of an unknown video would be mixed up with others.
        (('video', 'none'), None),
    ],
)
def test_videos_and_tracks_are_found(key, found):
    assert find_video(SAMPLE, key) == found


def test_other_keys_come_before_the_folder():
    sample = dict(SAMPLE, filename='b.mp4')
    assert find_video(sample, 'video_id', ('frame_dir', 'filename')) == 'b.mp4'
    assert find_video(dict(img_path=['x/1.jpg']), 'video_id') == 'x'
    assert find_video(dict(img_path='1.jpg'), 'video_id') is None
    assert find_video({}, 'video_id') is None


def test_messages_name_the_keys():
    assert describe_keys('a') == "'a'"
    assert describe_keys(('a', 'b')) == "'a' and 'b'"
