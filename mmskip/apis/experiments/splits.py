"""The options that make a config's data sets those of another split."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmskip.apis.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# How lists of one of several splits are called.
LIST = re.compile(r'split_\d+')


def split_options(cfg: Mapping[str, Any], split: int) -> dict[str, Any]:
    """Dotted keys of a config to what they are in a split.

    Data sets tell their split by the key ``split``, or by the name of their
    ``ann_file`` (``train_split_1_list_videos.txt``).

    Args:
        cfg: The config.
        split: The split.

    Raises:
        UserError: A loader has no data set that tells its split.
    """
    options: dict[str, Any] = {}
    for loader in LOADERS:
        if cfg.get(loader) is None:
            continue
        found = dict(_find(f'{loader}.dataset', cfg[loader]['dataset'], split))
        if not found:
            raise UserError(
                f'expected a data set with the key split in {loader} of the '
                "config, or with 'split_1' in the name of its ann_file"
            )
        options.update(found)
    return options


def _find(place: str, dataset: Any, split: int) -> Iterator[tuple[str, Any]]:
    """Options of a data set and of those that it wraps."""
    if not isinstance(dataset, Mapping):
        return
    name = dataset.get('ann_file') or ''
    if 'split' in dataset:
        yield f'{place}.split', split
    elif LIST.search(name):
        yield f'{place}.ann_file', LIST.sub(f'split_{split}', name)
    yield from _find(f'{place}.dataset', dataset.get('dataset'), split)
    for index, part in enumerate(dataset.get('datasets') or ()):
        yield from _find(f'{place}.datasets.{index}', part, split)
