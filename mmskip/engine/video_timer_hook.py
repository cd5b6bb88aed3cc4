"""Start a watch before the model sees a batch."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskip.registry import HOOKS
from mmskip.runtime import Stopwatch, StopwatchReader


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
