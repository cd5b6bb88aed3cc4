"""Annealing by the epoch."""

import math

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import HOOKS

from mmskip.engine import TemperatureHook
from tests.engine.sof_runs import Deciding, run


def test_it_falls_exponentially_from_where_it_begins():
    hook = TemperatureHook(5, 0.045, begin=15)
    assert hook.temperature(0) == hook.temperature(15) == 5
    assert hook.temperature(16) == pytest.approx(5 * math.exp(-0.045))
    assert hook.temperature(75) == pytest.approx(5 * math.exp(-0.045 * 60))


def test_policies_follow_and_a_resumed_run_goes_on(tmp_path):
    hook = dict(type='mmskip.TemperatureHook', initial=4, decay=0.5, begin=1)
    first, _ = run(tmp_path, [hook], epochs=2)
    second, runner = run(tmp_path, [hook], epochs=4, resume=True)
    found = {epoch: told[1] for epoch, told in (first | second).items()}
    assert set(second) == {2, 3}
    assert found == pytest.approx(
        {0: 4, 1: 4, 2: 4 * math.exp(-0.5), 3: 4 * math.exp(-1)}
    )
    logged = runner.message_hub.get_scalar('train/temperature')
    assert logged.current() == pytest.approx(found[3])


def test_a_model_without_policies_is_refused(tmp_path):
    class Plain(Deciding):
        def __init__(self):
            BaseModel.__init__(self)
            self.weight = torch.nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match=r'policy=dict\(\.\.\.\)'):
        run(tmp_path, [HOOKS.build(dict(type='mmskip.TemperatureHook'))], 1,
            model=Plain())  # fmt: skip


@pytest.mark.parametrize(
    'options', [dict(initial=0), dict(decay=-1), dict(begin=-1)]
)
def test_options_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f'expected {name}'):
        TemperatureHook(**options)
