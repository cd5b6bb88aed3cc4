"""Bars of frame fates."""

import json

import cv2
import pytest

from mmskip.visualization.frame_usage import (
    count_stops,
    forwarded_shares,
    plot_frame_usage,
    read_videos,
)

VIDEOS = [dict(stops=[0, 2, 2, 1]), dict(stops=[2, 0, -1, -1])]


def test_every_frame_has_one_fate():
    shares = count_stops(VIDEOS, 2)
    assert shares == {
        'res1': 25.0,
        'res2': 12.5,
        'early term.': 25.0,
        'used': 37.5,
    }


def test_frames_inside_intervals_are_told_from_those_outside():
    inside = [[False, True, False, True], [True, False, True, False]]
    assert forwarded_shares(VIDEOS, inside, 2) == (50.0, 25.0)
    everything = [[True] * 4] * 2
    assert forwarded_shares(VIDEOS, everything, 2)[0] == 37.5


def test_the_picture_has_a_bar_for_each_model(tmp_path):
    sizes = []
    for names in (['a'], ['a', 'b', 'c']):
        shares = {name: count_stops(VIDEOS, 2) for name in names}
        path = plot_frame_usage(shares, tmp_path / 'new' / 'bars.png')
        sizes.append(cv2.imread(str(path)).shape[0])
    assert sizes[1] > sizes[0]


@pytest.mark.parametrize(
    'content', ['{', '[]', '{"videos": []}', '{"videos": [{"a": 1}]}']
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(ValueError, match=r'mmskip\.VideoCost'):
        read_videos(tmp_path / 'x.json')


def test_the_metrics_file_is_read(tmp_path):
    report = dict(videos=VIDEOS, num_places=2, classes=[])
    (tmp_path / 'x.json').write_text(json.dumps(report))
    assert read_videos(tmp_path / 'x.json') == report
