"""Grids of feature maps."""

import numpy as np

from mmskip.visualization.routing import RED, choose_rows, draw_map_grids


def count_red(image):
    return int((image == np.array(RED)).all(2).sum())


def draw(channels, frames):
    maps = np.random.default_rng(0).random((4, 3, 6, 6))
    return draw_map_grids(
        maps, maps, np.array(channels), np.array(frames), side=12
    )


def test_every_rebuilt_map_is_outlined_and_no_other():
    assert count_red(draw([True] * 4, [True] * 3)) == 0
    outline = 16**2 - 12**2
    some = draw([True, True, True, False], [True, True, False])
    # One channel of three frames, and one frame of three channels.
    assert count_red(some) == 6 * outline
    assert count_red(some[:, : some.shape[1] // 2]) == 0
    assert count_red(draw([False] * 4, [True] * 3)) == 12 * outline


def test_rows_are_spread_over_all_channels():
    assert choose_rows(4, 8) == [0, 1, 2, 3]
    assert choose_rows(64, 3) == [0, 32, 63]
