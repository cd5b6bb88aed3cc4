"""The frames of a benchmark."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import ImgDataPreprocessor

from mmskip.apis import UserError
from mmskip.experiments import forced_frames, video_frames


def test_forced_frames_change_in_their_share_only():
    image = torch.zeros(1, 3, 16, 16)

    first, *others = forced_frames(image, 'blob', 0.25, 4)

    assert first is image
    assert [int(f.any(1).sum()) for f in others] == [64] * 3


@pytest.fixture
def folder(tmp_path):
    for index in range(3):
        image = np.full((8, 8, 3), index, np.uint8)
        cv2.imwrite(str(tmp_path / f'{index}.png'), image)
    return str(tmp_path)


def test_frames_of_a_video_are_normalised_as_the_model_does(folder):
    preprocessor = ImgDataPreprocessor([1.0] * 3, [2.0] * 3)

    frames = video_frames(folder, (6, 4), preprocessor, 3)

    assert [f.shape for f in frames] == [(1, 3, 4, 6)] * 3
    assert [float(f.mean()) for f in frames] == [-0.5, 0, 0.5]


def test_a_video_that_is_too_short_is_refused(folder):
    with pytest.raises(UserError, match='at least 4 frames, got 3'):
        video_frames(folder, (4, 4), ImgDataPreprocessor(), 4)
