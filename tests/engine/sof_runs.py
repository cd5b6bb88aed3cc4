"""Trainings of some milliseconds whose model has policies."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmskip.sof_net import StopOrForwardHead


class Deciding(BaseModel):
    """A policy on a number."""

    warming_up = False

    def __init__(self):
        super().__init__()
        self.policy = StopOrForwardHead(1, hidden_channels=2)

    def forward(self, inputs, mode='tensor'):
        state = self.policy.initial_state(len(inputs))
        return dict(
            loss=self.policy.step(
                self.policy.embed(inputs), state
            ).margin.mean()
        )


class Note(Hook):
    """Writes down what the model is told in each epoch."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model
        self.seen[runner.epoch] = model.warming_up, model.policy.temperature


def run(folder, hooks, epochs, model=None, resume=False, loop=None):
    """Train, and return the hook's notes and the runner."""
    note = Note()
    runner = Runner(
        model=model or Deciding(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=1,
            dataset=[dict(inputs=torch.ones(1))] * 2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=loop or dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[*hooks, note],
        default_hooks=dict(logger=None),
        resume=resume,
        experiment_name=f'{folder.name}-{epochs}-{resume}',
    )
    runner.train()
    return note.seen, runner
