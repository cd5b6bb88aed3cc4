"""Annealing of the Gumbel-Softmax."""

import math

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskip.layers import StopOrForwardHead
from mmskip.registry import HOOKS

from .warm_up_hook import check_epochs


@HOOKS.register_module()
class TemperatureHook(Hook):
    """Set the temperature of all policies from the epoch (SoF-Net, 4.2).

    ``initial * exp(-decay * (epoch - begin))``, and ``initial`` before
    ``begin``. It follows from the epoch alone, so it survives a resume. It
    is logged as ``temperature``.

    Args:
        initial: 5 in the thesis.
        decay: 0.045 in the thesis.
        begin: Epoch from which it falls: the first one with policies. (The
            thesis does not say; in the authors' code the warm-up is a run of
            its own, and epochs are counted anew.)

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self, initial: float = 5.0, decay: float = 0.045, begin: int = 0
    ) -> None:
        if not initial > 0:
            raise ValueError(f'expected initial > 0, got {initial!r}')
        if not decay >= 0:
            raise ValueError(f'expected decay >= 0, got {decay!r}')
        if not isinstance(begin, int) or begin < 0:
            raise ValueError(f'expected begin to be an int >= 0, got {begin}')
        self.initial = initial
        self.decay = decay
        self.begin = begin

    def temperature(self, epoch: int) -> float:
        """The temperature in an epoch, counted from 0."""
        age = max(epoch - self.begin, 0)
        return self.initial * math.exp(-self.decay * age)

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to anneal.

        Raises:
            ValueError: The model has no policies, or the loop no epochs.
        """
        check_epochs(self, runner)
        if not any(
            isinstance(m, StopOrForwardHead) for m in runner.model.modules()
        ):
            raise ValueError(
                'expected a model with policies (mmskip.SoFRecognizer with '
                f'policy=dict(...)) for {type(self).__name__}, got none'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set it."""
        value = self.temperature(runner.epoch)
        for module in runner.model.modules():
            if isinstance(module, StopOrForwardHead):
                module.temperature = value
        runner.message_hub.update_scalar('train/temperature', value)
