"""Stop at the first number that is not finite, and say where it came from."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mmskip.runtime import InputError


def check_frames(data_batch: Any) -> None:
    """Refuse images with NaN or infinite pixels.

    In a stream such a pixel would outlive its frame: with
    ``memory='previous'`` until the next reference frame. Images of integers,
    as the stock pipelines give them, cost nothing; others are read once.

    Args:
        data_batch: A batch as the stock loaders collate it.

    Raises:
        InputError: Names the image.
    """
    for index, (image, sample) in enumerate(_images(data_batch)):
        if image.is_floating_point() and not image.isfinite().all():
            meta = getattr(sample, 'metainfo', {})
            name = meta.get('img_path', f'image {index} of the batch')
            bad = int((~image.isfinite()).sum())
            raise InputError(
                f'expected finite pixels, got {bad} NaN or infinite values in '
                f'{name}; mend or leave out the file, or look for a division '
                'by zero in the pipeline'
            )


def check_losses(losses: Any, iteration: int) -> None:
    """Refuse a loss that is NaN or infinite.

    Args:
        losses: What ``train_step`` returned; only a dict with a tensor
            ``loss`` is looked at.
        iteration: Of the training, from 1.

    Raises:
        InputError: Names the losses.
    """
    if not isinstance(losses, Mapping):
        return
    total = losses.get('loss')
    if not isinstance(total, Tensor) or total.isfinite().all():
        return
    bad = [
        f'{name}={value.item()}'
        for name, value in losses.items()
        if isinstance(value, Tensor) and not value.isfinite().all()
    ]
    raise InputError(
        f'expected finite losses, got {", ".join(bad)} in iteration '
        f'{iteration}; lower the learning rate, set optim_wrapper.clip_grad, '
        'or look at the annotations of the batch. The weights are spoilt: '
        'go on from the last checkpoint'
    )


def _images(data_batch: Any) -> Iterator[tuple[Tensor, Any]]:
    """Images and their data samples, of any stock collate function."""
    if isinstance(data_batch, Mapping):
        images = data_batch.get('inputs', ())
        samples = data_batch.get('data_samples') or [None] * len(images)
        pairs = zip(images, samples, strict=False)
    elif isinstance(data_batch, (list, tuple)):
        items = [item for item in data_batch if isinstance(item, Mapping)]
        pairs = ((i.get('inputs'), i.get('data_samples')) for i in items)
    else:
        return
    for image, sample in pairs:
        if isinstance(image, Tensor):
            yield image, sample
