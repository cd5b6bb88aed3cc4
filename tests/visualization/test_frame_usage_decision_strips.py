"""Strips of frame decisions."""

import cv2
import numpy as np
import pytest

from mmskip.visualization.frame_usage import (
    BAR,
    BAR_COLOUR,
    CAPTION,
    GAP,
    MARGIN,
    draw_strip,
    draw_video,
    frames_inside,
    read_frames,
    stack,
)

H = W = 40
RED = np.full((H, W, 3), (0, 0, 200), np.uint8)


@pytest.fixture
def video(tmp_path):
    """Ten frames at 5 fps, brighter and brighter."""
    path = tmp_path / 'v_a.mp4'
    fourcc = cv2.VideoWriter_fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), fourcc, 5.0, (W, H))
    for index in range(10):
        writer.write(np.full((H, W, 3), 25 * index, np.uint8))
    writer.release()
    return path


def rows(strip):
    """Upper and lower thumbnails, and the bar, without gaps."""
    xs = [MARGIN + n * (W + GAP) for n in range(3)]
    low, bar = CAPTION + H + GAP, CAPTION + 2 * (H + GAP)
    upper = [strip[CAPTION : CAPTION + H, x : x + W] for x in xs]
    lower = [strip[low : low + H, x : x + W] for x in xs]
    bars = [strip[bar : bar + BAR, x : x + W] for x in xs]
    return upper, lower, bars


def test_frames_used_are_shown_again_and_the_others_are_cards():
    strip = draw_strip([RED] * 3, [2, 0, -1], 2, [True, True, False], height=H)
    upper, lower, bars = rows(strip)
    assert all((image == RED).all() for image in upper)
    assert (lower[0] == RED).all()
    assert lower[1].mean() > 150
    assert lower[2].mean() < 100
    assert (lower[1] == lower[1][..., :1]).all()
    marked = [(bar == BAR_COLOUR).all() for bar in bars]
    assert marked == [True, True, False]


def test_cards_tell_the_place():
    strips = [draw_strip([RED], [stop], 3, height=H) for stop in (0, 1, 2)]
    assert not np.array_equal(strips[0], strips[1])
    assert not np.array_equal(strips[1], strips[2])


def test_frames_are_inside_by_their_middle():
    inside = frames_inside([0, 4, 5, 9], 5.0, [(0.9, 1.9)])
    assert inside == [False, True, True, False]
    assert frames_inside([1], 5.0, []) == [False]


def test_frames_are_those_asked_for(video):
    images, fps = read_frames(video, [0, 4, 4, 9])
    assert fps == 5
    assert [round(image.mean() / 25) for image in images] == [0, 4, 4, 9]


def test_frames_beyond_the_end_are_refused(video):
    with pytest.raises(ValueError, match=r'expected frame 12, .* 10 frames'):
        read_frames(video, [3, 12])


def test_a_video_is_drawn_from_its_entry(video):
    entry = dict(
        video='v_a.mp4',
        labels=[1],
        scores=[0.1, 0.9],
        stops=[1, 0, -1],
        frame_inds=[0, 5, 9],
    )
    strip = draw_video(entry, video, 1, [(0.9, 1.2)], ['x', 'y'])
    assert (strip == BAR_COLOUR).all(-1).any()
    plain = draw_video(entry, video, 1, None, ['x', 'y'])
    assert not (plain == BAR_COLOUR).all(-1).any()
    del entry['frame_inds']
    with pytest.raises(ValueError, match='meta_keys'):
        draw_video(entry, video, 1)


def test_strips_of_other_widths_are_stacked():
    strips = [draw_strip([RED] * n, [0] * n, 1) for n in (1, 3)]
    picture = stack(strips)
    assert picture.shape[1] == strips[1].shape[1]
    assert picture.shape[0] > sum(strip.shape[0] for strip in strips)
