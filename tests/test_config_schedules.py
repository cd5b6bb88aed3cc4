"""Learning rates of the configs that end where the training does."""

import math

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmskip.apis import load_config
from tests.helpers.config_pages import CONFIGS, variants

BATCHES = 2


class Slope(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        return dict(loss=self.weight * sum(inputs))


class Rates(Hook):
    def __init__(self):
        self.rates = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])


def rates(cfg, folder):
    """The learning rate of each iteration, of two an epoch."""
    hook = Rates()
    data = [dict(inputs=torch.ones(1))] * BATCHES
    Runner(
        model=Slope(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=data, sampler=dict(type=DefaultSampler), batch_size=1
        ),
        train_cfg=dict(by_epoch=True, max_epochs=cfg.train_cfg.max_epochs),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=cfg.optim_wrapper.optimizer.lr)
        ),
        param_scheduler=cfg.param_scheduler,
        custom_hooks=[hook],
        default_hooks=dict(logger=None, checkpoint=None),
        experiment_name=folder.name,
        log_level='ERROR',
    ).train()
    return hook.rates


def cosine(start, steps):
    return [
        start * (1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)
    ]


@pytest.mark.parametrize(
    ('data', 'epochs', 'warm_up'),
    [('120e_mini-kinetics', 120, 15), ('60e_moments', 60, 8)],
)
def test_va_red2_warms_up_and_follows_a_cosine(
    tmp_path, data, epochs, warm_up
):
    pytest.importorskip('mmaction')
    folder = CONFIGS / 'va_red2/recognition'
    cfg = load_config(folder / f'r2plus1d_r18_96xb12-16x4-{data}-128.py')
    found = rates(cfg, tmp_path)
    begin = warm_up * BATCHES
    assert found[0] == pytest.approx(0.18 / 100)
    assert found[:begin] == sorted(found[:begin])
    assert found[begin:] == pytest.approx(
        cosine(0.18, (epochs - warm_up) * BATCHES), rel=1e-6, abs=1e-9
    )


def test_va_red2_is_fine_tuned_along_a_cosine_alone(tmp_path):
    pytest.importorskip('mmaction')
    tuned = [
        variant
        for variant in variants(CONFIGS / 'va_red2/recognition')
        if 'train_cfg.max_epochs' in variant.options
    ]
    assert tuned
    for index, (config, options) in enumerate(tuned):
        found = rates(load_config(config, options), tmp_path / str(index))
        start = options['optim_wrapper.optimizer.lr']
        steps = options['train_cfg.max_epochs'] * BATCHES
        assert found == pytest.approx(cosine(start, steps), rel=1e-6, abs=1e-9)
