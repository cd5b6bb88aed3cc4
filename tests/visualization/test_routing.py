"""Plots of routing and of redundancy."""

import cv2
import numpy as np
import pytest

from mmskip.visualization.plots import plot_redundancy, without_prefix
from mmskip.visualization.routing import (
    THUMBNAIL,
    draw_clip,
    plot_cost_distribution,
    plot_shares,
)


def picture(path):
    return cv2.imread(str(path)).astype(int)


def shares(value):
    return [
        dict(name=name, layer=f'net.{layer}', time=value, channels=1.0)
        for name in ('x', 'y')
        for layer in range(3)
    ]


def test_fewer_computed_features_are_lighter(tmp_path):
    images = [
        picture(plot_shares(shares(value), tmp_path / f'{value}.png'))
        for value in (0.25, 1.0)
    ]
    half = images[0].shape[0] // 2
    light, dark = (image[:half, :600].mean() for image in images)
    assert light > dark + 20
    low, same = (image[half : 2 * half - 200, :600] for image in images)
    assert abs(low.mean() - same.mean()) < 5


@pytest.mark.parametrize('groups', [('all',), ('all', 'slow', 'fast')])
def test_a_plot_per_group_even_of_one_cost(tmp_path, groups):
    rows = [dict(gmac_from=1.0, gmac_to=1.0, share=1.0)]
    path = plot_cost_distribution(
        dict.fromkeys(groups, rows), tmp_path / 'a' / 'costs.png'
    )
    image = picture(path)
    blue = (image == (178, 114, 0)).all(2)  # of the first group
    assert blue.sum() > 1000
    assert image.shape[0] == pytest.approx(210 + 270 * len(groups))


def test_a_clip_shows_all_frames_side_by_side():
    frames = np.stack([np.full((20, 30, 3), v, np.uint8) for v in (10, 90)])
    image = draw_clip(frames, '')
    for value in (10, 90):
        assert (image == value).all(2).sum() == THUMBNAIL * 108


def test_redundancy_has_a_line_for_each_axis(tmp_path):
    keys = ('cc', 'rmse', 'rp')
    rows = []
    for axis in ('time', 'channels'):
        for layer in ('a', 'b', 'mean'):
            row = dict(axis=axis, layer=layer)
            for key in keys:
                row |= {key: 0.5, f'{key}_min': 0.2, f'{key}_max': 0.9}
            rows.append(row)
    both = picture(plot_redundancy(rows, tmp_path / 'both.png'))
    one = picture(plot_redundancy(rows[:3], tmp_path / 'one.png'))
    orange = (0, 94, 213)
    assert (both == orange).all(2).sum() > 200
    assert (one == orange).all(2).sum() == 0


def test_what_all_names_share_is_left_out():
    names = ['backbone.layer1.conv1', 'backbone.layer2.conv']
    assert without_prefix(names) == ['layer1.conv1', 'layer2.conv']
    assert without_prefix(['conv']) == ['conv']
    assert without_prefix(['a.b']) == ['b']
