"""Statistics of batch norms for the model as it is in inference."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import mmskip
from mmskip import L0Conversion
from mmskip.engine import BatchNormHook


class Model(BaseModel):
    """A convolution with gates, a batch norm, and a frozen one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, momentum=0.03)
        self.frozen = nn.BatchNorm2d(4)

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, inputs, mode='tensor'):
        y = self.frozen(self.norm(self.conv(inputs)))
        return dict(loss=y.square().mean()) if mode == 'loss' else y


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Model()
    mmskip.convert(model, L0Conversion())
    nn.init.constant_(model.conv.gate.log_alpha, 0.3)
    return model.train()


@pytest.fixture
def batches():
    return [dict(inputs=torch.randn(5, 3, 7, 8) * i) for i in (1, 2, 3, 4)]


def test_statistics_are_the_mean_over_batches_with_the_gates_of_inference(
    model, batches
):
    runner = SimpleNamespace(model=model, train_dataloader=batches)

    BatchNormHook(num_batches=3).after_train_epoch(runner)

    conv = model.conv.eval()
    outputs = [conv(batch['inputs']) for batch in batches[:3]]
    means = torch.stack([y.mean((0, 2, 3)) for y in outputs])
    variances = torch.stack([y.var((0, 2, 3)) for y in outputs])
    torch.testing.assert_close(model.norm.running_mean, means.mean(0))
    torch.testing.assert_close(model.norm.running_var, variances.mean(0))


def test_nothing_else_changes(model, batches):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    runner = SimpleNamespace(model=model, train_dataloader=batches)

    BatchNormHook().after_train_epoch(runner)

    changed = {
        key
        for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed == {
        'norm.running_mean',
        'norm.running_var',
        'norm.num_batches_tracked',
    }
    assert [m.training for m in model.modules()] == modes
    assert model.norm.momentum == 0.03
    assert all(p.grad is None for p in model.parameters())


def test_a_model_without_batch_norms_that_learn_is_not_run(model):
    model.eval()

    BatchNormHook().after_train_epoch(SimpleNamespace(model=model))


def test_a_checkpoint_holds_the_statistics(tmp_path, model):
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=2,
            dataset=[dict(inputs=torch.randn(3, 5, 5)) for _ in range(6)],
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='mmskip.BatchNormHook', num_batches=2)],
        default_hooks=dict(logger=None),
        experiment_name=tmp_path.name,
    )
    runner.train()

    weights = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    saved = weights['state_dict']
    assert saved['norm.num_batches_tracked'] == 2
    assert torch.equal(saved['norm.running_mean'], model.norm.running_mean)


@pytest.mark.parametrize('number', [0, -1])
def test_a_number_that_is_not_positive_is_refused(number):
    with pytest.raises(ValueError, match='num_batches >= 1'):
        BatchNormHook(number)
