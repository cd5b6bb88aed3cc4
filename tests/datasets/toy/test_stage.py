"""Painting."""

import numpy as np

from mmskip.datasets.toy.acting import row_boat, stand
from mmskip.datasets.toy.stage import (
    choose_stage,
    paint_board,
    paint_pose,
    paint_surroundings,
)

SIZE = (96, 80)


def painted(*poses, board=False):
    stage = choose_stage(np.random.default_rng(0), SIZE)
    canvas = paint_surroundings(stage, SIZE)
    for pose in poses:
        paint_pose(canvas, stage, pose)
    if board:
        paint_board(canvas, stage, 0.0)
    return canvas


def test_poses_differ_from_each_other_and_from_nobody():
    images = [painted(), painted(stand(0)), painted(row_boat(0))]
    assert images[0].shape == (80, 96, 3)
    for index, one in enumerate(images):
        for other in images[index + 1 :]:
            assert (one != other).any(-1).sum() > 20


def test_a_board_hides_most_of_the_difference():
    seen = (painted(stand(0)) != painted(row_boat(0))).any(-1).sum()
    hidden = (
        (painted(stand(0), board=True) != painted(row_boat(0), board=True))
        .any(-1)
        .sum()
    )
    assert hidden < seen / 4
