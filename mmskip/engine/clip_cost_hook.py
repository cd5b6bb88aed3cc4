"""What each view of a video cost, on its data sample."""

from contextlib import ExitStack
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmskip.registry import HOOKS
from mmskip.runtime import ChoiceRecord, InputError, record_choices

from .video_hook import unwrap


@HOOKS.register_module()
class ClipCostHook(Hook):
    """Write ``clip_macs`` to the data samples of val and test loops.

    A LongTensor (views,): MACs of the whole model for each view (clip and
    crop) of a video that its classifier sees, gates and cheap maps included;
    ``mmskip.ClipCost`` reads it. A plain model is counted, too.
    ``clip_dense_macs`` is the same for a model that computes everything.

    The loops hand samples to the metrics before any hook sees them, so they
    are written when the model's forward returns them.
    """

    # Opened before the clock of VideoTimerHook starts.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._open = ExitStack()

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start to record."""
        self._start(unwrap(runner.model))

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start to record."""
        self._start(unwrap(runner.model))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Leave the model as it was."""
        self._open.close()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Leave the model as it was."""
        self._open.close()

    def _start(self, model: nn.Module) -> None:
        self._open.close()  # an iteration that failed
        record = self._open.enter_context(record_choices(model))

        # Registered after those of the record, which ends a forward first.
        def write(module: nn.Module, inputs: tuple, output: Any) -> None:
            write_costs(record, output)

        handle = model.register_forward_hook(write)
        self._open.callback(handle.remove)


def write_costs(record: ChoiceRecord, samples: Any) -> None:
    """Give each data sample of a forward what its views cost.

    Raises:
        InputError: The views of the samples cannot be told apart.
    """
    if not isinstance(samples, (list, tuple)) or not samples:
        return
    macs = record.sample_macs()
    if not len(macs) or len(macs) % len(samples):
        raise InputError(
            'expected a classifier that sees the same number of views of '
            f'each of {len(samples)} videos for ClipCostHook, got '
            f'{len(macs)} views; give all samples of a batch as many clips'
        )
    shape = (len(samples), -1)
    dense = record.sample_dense_macs().view(shape)
    for index, sample in enumerate(samples):
        sample.clip_macs = macs.view(shape)[index]
        sample.clip_dense_macs = dense[index]
