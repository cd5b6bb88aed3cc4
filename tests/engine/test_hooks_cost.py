"""The cost of each view on its data sample."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import mmskip
from mmskip.engine import ClipCostHook
from mmskip.reading import InputError


class Recognizer(nn.Module):
    """Answers (N * views, C, T, H, W) with N samples."""

    def __init__(self, samples):
        super().__init__()
        self.samples = samples
        self.conv = nn.Conv3d(3, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        scores = self.fc(self.conv(x).mean((2, 3, 4)))
        views = scores.unflatten(0, (self.samples, -1))
        return [SimpleNamespace(scores=view) for view in views]


def test_each_sample_gets_what_its_views_cost():
    model = Recognizer(samples=2).eval()
    mmskip.convert(model, mmskip.DynamicConversion())
    runner, x = SimpleNamespace(model=model), torch.randn(6, 3, 4, 6, 6)
    hook = ClipCostHook()

    hook.before_val_iter(runner, 0)
    first, second = model(x)
    hook.after_val_iter(runner, 0)
    with mmskip.record_routing(model) as made:
        model(x)

    expected = made.sample_macs().view(2, 3)
    assert torch.equal(first.clip_macs, expected[0])
    assert torch.equal(second.clip_macs, expected[1])


def test_outside_of_an_iteration_nothing_is_written():
    model = Recognizer(samples=1).eval()
    runner, hook = SimpleNamespace(model=model), ClipCostHook()

    hook.before_test_iter(runner, 0)
    hook.after_test_iter(runner, 0)
    (sample,) = model(torch.randn(2, 3, 4, 6, 6))

    assert not hasattr(sample, 'clip_macs')
    assert not any(m._forward_hooks for m in model.modules())


def test_views_that_cannot_be_told_apart_are_an_error():
    model = Recognizer(samples=2).eval()
    model.forward = lambda x: [model.fc(x), None]
    hook = ClipCostHook()

    hook.before_val_iter(SimpleNamespace(model=model), 0)
    with pytest.raises(InputError, match='same number of views'):
        model(torch.randn(3, 8))
    hook.after_val_iter(SimpleNamespace(model=model), 0)
