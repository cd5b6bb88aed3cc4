"""Who starts and who stops the watch."""

from types import SimpleNamespace

import pytest

from mmskip.engine import VideoTimerHook
from mmskip.evaluation import ActionAccuracy, VideoCost


@pytest.mark.parametrize('part', ['val', 'test'])
def test_metrics_get_a_watch_that_runs_during_the_iteration(part):
    cost = VideoCost()
    evaluator = SimpleNamespace(metrics=[ActionAccuracy(), cost])
    loop = SimpleNamespace(evaluator=evaluator)
    runner = SimpleNamespace(**{f'{part}_loop': loop})
    hook = VideoTimerHook()
    getattr(hook, f'before_{part}_epoch')(runner)
    assert cost.stopwatch.stop() is None
    getattr(hook, f'before_{part}_iter')(runner, 0)
    assert cost.stopwatch.stop() >= 0
