"""Statistics of batch norms for the model as it is in inference."""

import itertools

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmskip.registry import HOOKS

from .video_hook import unwrap


@HOOKS.register_module()
class BatchNormHook(Hook):
    """Estimate the statistics of batch norms anew at the end of epochs.

    With gates that are drawn in training and deterministic in inference,
    running averages of training are of another distribution. Skip-Conv (CVPR
    2021), section 4.2, estimates those of L0-pruned models "during test on a
    large batch of images"; here it is some batches of the training set, when
    a training epoch has ended, so that checkpoints hold the result. The
    average over the batches takes the place of the running averages.

    Frozen batch norms (in eval mode) are left alone. Training goes on as
    without this hook, but for the random numbers that loading draws.

    Args:
        num_batches: Batches of each process.

    Raises:
        ValueError: ``num_batches`` is not positive.
    """

    # Before the checkpoint is saved.
    priority = 'LOW'

    def __init__(self, num_batches: int = 16) -> None:
        if num_batches < 1:
            raise ValueError(f'expected num_batches >= 1, got {num_batches!r}')
        self.num_batches = num_batches

    def after_train_epoch(self, runner: Runner) -> None:
        """Run the model on batches of which only batch norms learn."""
        model = unwrap(runner.model)
        norms = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm)
            and module.training
            and module.track_running_stats
        ]
        if not norms:
            return
        training = {module: module.training for module in model.modules()}
        momenta = [norm.momentum for norm in norms]
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
            norm.train()
        try:
            self._run(model, runner)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            for module, mode in training.items():
                module.training = mode
        for norm in norms:
            all_reduce(norm.running_mean, 'mean')
            all_reduce(norm.running_var, 'mean')

    @torch.no_grad()
    def _run(self, model: nn.Module, runner: Runner) -> None:
        batches = iter(runner.train_dataloader)
        for batch in itertools.islice(batches, self.num_batches):
            data = model.data_preprocessor(batch, True)
            model(**data, mode='tensor')
