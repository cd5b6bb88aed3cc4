"""What metrics of videos read from a recogniser's data samples."""

from typing import Any

import numpy as np
import torch

# Set by ActionVideoDataset and ActionFrameDataset on stand-ins for videos
# that cannot be decoded: why they cannot.
BROKEN = 'broken'


def video_name(sample: dict) -> str | None:
    """The video of a sample: ``video_id``, else its file or folder."""
    for key in ('video_id', 'filename', 'frame_dir'):
        if sample.get(key) is not None:
            return str(sample[key])
    return None


def read_scores(sample: dict) -> np.ndarray:
    """Scores of a video, float64, shape (classes,).

    Raises:
        TypeError: There is no one vector of scores.
        ValueError: A score is not finite.
    """
    return _read(
        sample, 1, '(classes,)', 'set average_clips in the head of the model'
    )


def read_view_scores(sample: dict) -> np.ndarray:
    """Scores of every view of a video, float64, shape (views, classes).

    Raises:
        TypeError: There are no scores of views.
        ValueError: A score is not finite.
    """
    return _read(
        sample,
        2,
        '(views, classes)',
        'set average_clips=None in the head of the model',
    )


def _read(sample: dict, dims: int, expected: str, advice: str) -> np.ndarray:
    scores = sample.get('pred_score')
    if not isinstance(scores, torch.Tensor) or scores.ndim != dims:
        shape = tuple(getattr(scores, 'shape', ())) or type(scores).__name__
        raise TypeError(
            f'expected `pred_score` of shape {expected} in every data '
            f'sample, got {shape}; {advice}'
        )
    values = scores.detach().double().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f'expected finite scores, got NaN or infinity for '
            f'{video_name(sample)}; training has diverged'
        )
    return values


def read_labels(sample: dict, num_classes: int) -> tuple[int, ...]:
    """Indices of the classes that a video shows.

    mmaction2 stores a class index as an integer tensor, and the labels of
    data sets with ``multi_class=True`` as a float vector of zeros and ones.

    Raises:
        ValueError: A label is not one of the classes of the scores.
    """
    truth: Any = torch.as_tensor(sample['gt_label'])
    if truth.is_floating_point():
        if truth.numel() != num_classes:
            raise ValueError(
                f'expected labels of the {num_classes} classes that the '
                f'model scores, got {truth.numel()}; set num_classes of the '
                'data set and of the head to the same number'
            )
        return tuple(truth.flatten().nonzero()[:, 0].tolist())
    labels = tuple(sorted(set(truth.flatten().tolist())))
    if labels and not 0 <= labels[0] <= labels[-1] < num_classes:
        raise ValueError(
            f'expected labels 0..{num_classes - 1}, as the model scores '
            f'{num_classes} classes, got {list(labels)} for '
            f'{video_name(sample)}; set num_classes of the head'
        )
    return labels
