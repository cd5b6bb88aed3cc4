"""First without policies, then with them."""

import pytest
import torch
from mmengine.model import BaseModel

from mmskip.engine import WarmUpHook
from tests.engine.sof_runs import Deciding, run

HOOK = dict(type='mmskip.WarmUpHook', epochs=2)


def told(seen):
    return {epoch: warming_up for epoch, (warming_up, _) in seen.items()}


def test_the_stage_follows_from_the_epoch(tmp_path):
    seen, runner = run(tmp_path, [HOOK], epochs=4)
    assert told(seen) == {0: True, 1: True, 2: False, 3: False}
    assert not runner.model.warming_up


@pytest.mark.parametrize('until', [1, 3])
def test_a_resumed_run_goes_on_in_its_stage(tmp_path, until):
    run(tmp_path, [HOOK], epochs=until)
    seen, _ = run(tmp_path, [HOOK], epochs=4, resume=True)
    assert told(seen) == {e: e < 2 for e in range(until, 4)}


def test_a_loop_without_epochs_is_refused(tmp_path):
    loop = dict(by_epoch=False, max_iters=2)
    with pytest.raises(ValueError, match='EpochBasedTrainLoop for WarmUpHook'):
        run(tmp_path, [HOOK], 1, loop=loop)


def test_a_model_that_knows_no_warm_up_is_refused(tmp_path):
    class Plain(BaseModel):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, inputs, mode='tensor'):
            return dict(loss=self.weight.sum())

    with pytest.raises(ValueError, match='SoFRecognizer'):
        run(tmp_path, [HOOK], 1, model=Plain())


def test_epochs_out_of_range_are_refused():
    with pytest.raises(ValueError, match='epochs to be an int >= 0'):
        WarmUpHook(-1)


def test_the_helper_trains(tmp_path):
    model = Deciding()
    before = model.policy.gate.bias.clone()
    run(tmp_path, [], 1, model=model)
    assert not torch.equal(before, model.policy.gate.bias)
