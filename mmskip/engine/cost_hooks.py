"""Hooks that measure what videos and clips cost: time, and MACs."""

from contextlib import ExitStack
from time import perf_counter
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmskip.reading import InputError
from mmskip.registry import HOOKS
from mmskip.va_red2 import RoutingRecord, record_routing

from .video_hook import unwrap


class Stopwatch:
    """Measures one interval at a time, on the device's clock and the CPU's.

    Work that a GPU has yet to do is waited for at both ends.
    """

    def __init__(self) -> None:
        self._started: float | None = None

    def start(self) -> None:
        """Begin an interval."""
        _wait()
        self._started = perf_counter()

    def stop(self) -> float | None:
        """End the interval.

        Returns:
            Its seconds; None if none had begun.
        """
        if self._started is None:
            return None
        _wait()
        seconds = perf_counter() - self._started
        self._started = None
        return seconds


class StopwatchReader:
    """A metric that stops the watch which a hook starts."""

    stopwatch: Stopwatch | None = None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@HOOKS.register_module()
class VideoTimerHook(Hook):
    """Time the model in val and test loops, for ``VideoCost``, ``ClipCost``.

    From the moment the batch is loaded until the predictions are there: the
    data preprocessor is included, loading and decoding are not.
    """

    # After all other hooks, whose work is not the model's.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._watch = Stopwatch()

    def before_val_epoch(self, runner: Runner) -> None:
        """Give the watch to the metrics."""
        self._hand_out(runner.val_loop.evaluator.metrics)

    def before_test_epoch(self, runner: Runner) -> None:
        """Give the watch to the metrics."""
        self._hand_out(runner.test_loop.evaluator.metrics)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start the watch."""
        self._watch.start()

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start the watch."""
        self._watch.start()

    def _hand_out(self, metrics: list) -> None:
        for metric in metrics:
            if isinstance(metric, StopwatchReader):
                metric.stopwatch = self._watch


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
        record = self._open.enter_context(record_routing(model))

        # Registered after those of the record, which ends a forward first.
        def write(module: nn.Module, inputs: tuple, output: Any) -> None:
            write_costs(record, output)

        handle = model.register_forward_hook(write)
        self._open.callback(handle.remove)


def write_costs(record: RoutingRecord, samples: Any) -> None:
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
