"""Random numbers that do not depend on what was drawn before."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskip.datasets.clip_samplers import derive_seed
from mmskip.registry import HOOKS


@HOOKS.register_module()
class IterSeedHook(Hook):
    """Seed python, numpy and torch anew in every training iteration.

    mmengine seeds a run once and a resumed run once more, so that after
    ``--resume`` gates, dropout and the like draw other numbers than an
    unbroken run. Here the draws of an iteration follow from the seed of the
    run, the rank and the number of the iteration. They also differ from
    rank to rank, which mmengine's do only with ``diff_rank_seed``.

    A resumed run then ends with the weights of an unbroken one, bit for bit
    where the kernels are deterministic (on a CPU: with as many threads), if

    - the seed is given (``randomness=dict(seed=...)`` or ``--seed``): without
      one the sampler of the resumed run has another;
    - the samples do not depend on earlier draws either: those of
      :class:`mmskip.datasets.ClipSampler` never do. Others do not with
      ``num_workers=0`` or ``persistent_workers=False`` in an epoch-based
      loop. Persistent workers draw on from epoch to epoch, and mmengine
      does not remember where they were;
    - an epoch-based loop saves its checkpoints at the end of an epoch,
      because mmengine resumes at the beginning of one. Iteration-based loops
      skip the batches that were seen, so any iteration will do, with
      ``ClipSampler``.
    """

    # Before all that might draw.
    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what the first batch draws, if this process loads it."""
        _seed('epoch', runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed what the iteration draws, and the loading of the next batch."""
        _seed('iteration', runner)


def _seed(part: str, runner: Runner) -> None:
    seed = derive_seed(part, runner.seed, runner.rank, runner.iter)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what transforms draw from)
    torch.manual_seed(seed)
