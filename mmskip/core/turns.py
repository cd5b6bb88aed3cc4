"""Batches that run in turns, a few samples at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Numbers of a network's input that run together: what its first layers make
#: of more does not fit into the caches of a CPU, and what is larger than 32
#: MiB the C library takes from the kernel anew each time, page by page.
TOGETHER = 1 << 19


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


def samples_together(sample: Tensor) -> int:
    """Tell how many samples should run together on a CPU.

    Args:
        sample: One input of the network.
    """
    return max(TOGETHER // max(sample.numel(), 1), 1)
