"""Baselines that choose frames without examining them."""

import zlib
from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmskip.registry import MODELS


@MODELS.register_module()
class EveryKthFrame:
    """Chooses frames 0, k, 2k, ...

    Args:
        k: Distance between the chosen frames.

    Raises:
        ValueError: ``k`` is not a positive int.
    """

    def __init__(self, k: int) -> None:
        if not isinstance(k, int) or k < 1:
            raise ValueError(f'expected k to be a positive int, got {k!r}')
        self.k = k

    def __call__(
        self, frames: int, data_samples: Sequence[BaseDataElement]
    ) -> Tensor:
        """Choose frames of B videos.

        Args:
            frames: T.
            data_samples: One sample per video.

        Returns:
            Bool (B, T), on the CPU.
        """
        chosen = torch.arange(frames) % self.k == 0
        return chosen.expand(len(data_samples), -1)


@MODELS.register_module()
class RandomFrames:
    """Chooses some frames at random, drawn anew for each video.

    The draw depends on the video's name and on nothing else, hence neither
    on the batch size nor on the number of ranks.

    Args:
        num_frames: Number of frames to choose.
        seed: Seed of the draws.
        key: Key of the video's name in the data samples' meta information.

    Raises:
        ValueError: ``num_frames`` is not a positive int.
    """

    def __init__(
        self, num_frames: int, seed: int = 0, key: str = 'filename'
    ) -> None:
        if not isinstance(num_frames, int) or num_frames < 1:
            raise ValueError(
                f'expected num_frames to be a positive int, got {num_frames!r}'
            )
        self.num_frames = num_frames
        self.seed = seed
        self.key = key

    def __call__(
        self, frames: int, data_samples: Sequence[BaseDataElement]
    ) -> Tensor:
        """Choose frames of B videos.

        Args:
            frames: T.
            data_samples: One sample per video, whose meta information names
                the video.

        Returns:
            Bool (B, T), on the CPU.

        Raises:
            KeyError: A data sample does not tell its video.
            ValueError: There are fewer than ``num_frames`` frames.
        """
        if frames < self.num_frames:
            raise ValueError(
                f'expected at least num_frames={self.num_frames} frames per '
                f'video, got {frames}'
            )
        chosen = torch.zeros(len(data_samples), frames, dtype=torch.bool)
        for row, sample in zip(chosen, data_samples, strict=True):
            if self.key not in sample.metainfo:
                raise KeyError(
                    f'expected {self.key!r} in the meta information of the '
                    f'data samples, got {sorted(sample.metainfo)}; add it to '
                    'meta_keys of PackActionInputs'
                )
            name = f'{self.seed} {sample.metainfo[self.key]}'
            draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            order = torch.randperm(frames, generator=draws)
            row[order[: self.num_frames]] = True
        return chosen
