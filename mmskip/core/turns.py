"""Batches that run in turns, a few samples at a time."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Numbers of a network's input that run together, frames and clips, of which
#: the first layers make 5 and 12 times as many: results of more do not stay in
#: the caches of a CPU, and those above 32 MiB the C library takes from the
#: system anew each time, page by page.
TOGETHER = {3: 1 << 20, 4: 1 << 19}


def in_turns(
    run: Callable[[Tensor], Tensor], x: Tensor, samples: int
) -> Tensor:
    """Run a part of a network on a few samples at a time.

    Args:
        run: The part; it treats each sample by itself.
        x: (N, ...).
        samples: Most samples that run together.

    Returns:
        Result (N, ...) of the part, in the layout that it has.
    """
    if len(x) <= samples:
        return run(x)
    turns = x.chunk(-(-len(x) // samples))
    return torch.cat([run(turn) for turn in turns])


def samples_together(shape: Sequence[int]) -> int:
    """Tell how many samples should run together on a CPU.

    Args:
        shape: Shape of one input of the network, a frame (C, H, W) or a clip
            (C, T, H, W).
    """
    return max(TOGETHER[len(shape)] // max(math.prod(shape), 1), 1)
