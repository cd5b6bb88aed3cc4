"""B clips of T frames as one stock batch of B*T images."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import pseudo_collate

from mmskip.registry import FUNCTIONS


@FUNCTIONS.register_module()
def clip_collate(data_batch: Sequence[Sequence[Mapping]]) -> dict[str, Any]:
    """Fold clips into a batch, clip-major, as ``pseudo_collate`` folds images.

    Frame t of clip b is image ``b * T + t`` of the batch, which is what
    ``mmskip.VideoHook(num_frames=T)`` and :func:`mmskip.clip` expect. Data
    preprocessors, heads and losses see a batch like any other.

    Args:
        data_batch: B clips as :class:`mmskip.datasets.ClipDataset` yields
            them, each a list of T packed frames.

    Returns:
        ``dict(inputs=[...], data_samples=[...])``, lists of B*T.

    Raises:
        TypeError: The batch does not consist of clips.
        ValueError: The clips differ in their number of frames.
    """
    for clip in data_batch:
        if (
            not isinstance(clip, (list, tuple))
            or not clip
            or not all(isinstance(frame, Mapping) for frame in clip)
        ):
            raise TypeError(
                'expected a batch of clips, each a list of packed frames, '
                f'got {type(clip).__name__}; wrap the dataset of this loader '
                "in dict(type='mmskip.ClipDataset', num_frames=..., "
                'dataset=...), or use another collate_fn'
            )
    lengths = sorted({len(clip) for clip in data_batch})
    if len(lengths) != 1:
        raise ValueError(
            'expected at least one clip, and clips of one length, got '
            f'{lengths or "no clip"}; datasets that share a loader need the '
            'same num_frames'
        )
    return pseudo_collate([frame for clip in data_batch for frame in clip])
