"""The frames that a benchmark shows."""

import itertools

import cv2
import torch
from torch import Tensor, nn

from mmskip.apis.errors import UserError
from mmskip.apis.video_reader import open_reader

from .forced_masks import region


def forced_frames(
    image: Tensor, pattern: str, share: float, number: int
) -> list[Tensor]:
    """An image, and frames of which a share of the pixels is new.

    Args:
        image: (1, 3, H, W).
        pattern: How the new pixels lie, see :data:`PATTERNS`.
        share: How many there are, from 0 to 1.
        number: Of frames, the first one included.
    """
    place = region(pattern, share, image.shape[2:])
    return [image] + [
        torch.where(place, torch.randn_like(image), image)
        for _ in range(number - 1)
    ]


def video_frames(
    path: str, size: tuple[int, int], preprocessor: nn.Module, number: int
) -> list[Tensor]:
    """The first frames of a video, as a model sees them.

    Args:
        path: Of a video file, or a folder of images.
        size: (W, H) to resize to.
        preprocessor: The model's data preprocessor.
        number: Of frames.

    Raises:
        UserError: The video has fewer frames.
    """
    frames = []
    with open_reader(path) as reader:
        for frame in itertools.islice(reader, number):
            image = cv2.resize(frame.image, size)
            data = dict(
                inputs=[torch.from_numpy(image).permute(2, 0, 1)],
                data_samples=[],  # some go through them
            )
            inputs = preprocessor(data, False)['inputs']
            # A recogniser's has one dimension more.
            inputs = inputs.reshape(1, *inputs.shape[-3:])
            frames.append(inputs.contiguous(memory_format=torch.channels_last))
    if len(frames) < number:
        raise UserError(
            f'--video {path}: expected at least {number} frames, got '
            f'{len(frames)}; take a longer video or fewer --frames'
        )
    return frames
