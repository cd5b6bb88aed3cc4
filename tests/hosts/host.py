"""A model converted by a config of ours, beside the stock model.

Double precision throughout. A stream adds up changes where the dense model
computes anew, so the two differ by rounding. In double precision, and with
activations of unit scale, that is some 1e-12 even behind 300 layers, and a
tolerance of 1e-9 leaves no room for a pixel, a bias or a level forgotten.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from mmskip.skip_conv import SkipConvMixin

CONFIGS = Path(__file__).parents[2] / 'configs' / 'skip_conv'
TOLERANCE = 1e-9
HOSTS = dict(detection='mmdet', pose='mmpose', recognition='mmaction')


@dataclass
class Host:
    """A converted model and the stock one, with the same weights."""

    cfg: Config
    model: nn.Module
    stock: nn.Module

    @contextmanager
    def open_gates(self):
        """Let every gate fire everywhere."""
        layers = [m for m in self.model.modules() if is_converted(m)]
        thresholds = [layer.gate.threshold for layer in layers]
        for layer in layers:
            layer.gate.threshold = -1.0
        try:
            yield
        finally:
            for layer, threshold in zip(layers, thresholds, strict=True):
                layer.gate.threshold = threshold


def is_converted(module):
    return isinstance(module, SkipConvMixin)


@contextmanager
def default_scope(scope):
    """Build in the scope of a host, and leave the former one behind."""
    before = DefaultScope.get_current_instance()
    init_default_scope(scope)
    try:
        yield
    finally:
        if before is not None:
            init_default_scope(before.scope_name)


def build_host(task, name, warm_up=None, options=None):
    """Build a config of ours and the stock model that it stands on.

    Args:
        task: Folder of the config.
        name: The base's name.
        warm_up: Runs a model, for the statistics of its batch norms.
        options: Dotted keys that make the model cheaper.
    """
    utils = pytest.importorskip(f'{HOSTS[task]}.utils')
    utils.register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(CONFIGS / task / f'skip-conv-output-norm_{name}.py')
    cfg.merge_from_dict(options or {})
    model_cfg = without_downloads(cfg.model)
    stock_cfg = model_cfg.copy()
    stock_cfg.type = stock_cfg.pop('arch')
    del stock_cfg['conversions']
    torch.manual_seed(0)
    with default_scope(cfg.default_scope):
        model = MODELS.build(model_cfg).double().eval()
        stock = MODELS.build(stock_cfg).double().eval()
    if warm_up is not None:
        take_statistics(stock, warm_up)
    model.load_state_dict(stock.state_dict(), strict=True)
    return Host(cfg, model, stock)


def without_downloads(cfg):
    """The same config without any pretrained weights."""
    if isinstance(cfg, dict):
        return ConfigDict(
            {
                key: without_downloads(value)
                for key, value in cfg.items()
                if key not in ('init_cfg', 'pretrained')
            }
        )
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_downloads(value) for value in cfg)
    return cfg


def take_statistics(model, warm_up):
    """Give batch norms random weights and the statistics of a forward.

    As after training, activations then neither vanish nor explode, whatever
    the depth, and no output is trivially zero.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
        norm.train()
    warm_up(model)
    model.eval()


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def random_walk(frames, *shape):
    """Frames each of which differs from the last one everywhere."""
    return list((noise(frames, *shape) * 0.5).cumsum(0))


def tensors(outputs):
    """All tensors in nested lists and tuples."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in tensors(part)]


def assert_same(actual, expected):
    """Equal within rounding, and not trivially so."""
    actual, expected = tensors(actual), tensors(expected)
    assert len(actual) == len(expected) > 0
    assert torch.cat([t.flatten() for t in expected]).std() > 1e-3
    for ours, theirs in zip(actual, expected, strict=True):
        atol = TOLERANCE * float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def assert_identical(actual, expected):
    """Equal bit for bit."""
    actual, expected = tensors(actual), tensors(expected)
    assert len(actual) == len(expected) > 0
    assert all(map(torch.equal, actual, expected))


def assert_stock(host):
    """The converted model has the class and the keys of the stock model."""
    assert type(host.model) is type(host.stock)
    assert any(is_converted(module) for module in host.model.modules())
    assert list(host.model.state_dict()) == list(host.stock.state_dict())
    assert [name for name, _ in host.model.named_parameters()] == [
        name for name, _ in host.stock.named_parameters()
    ]


def assert_one_frame(host, macs, frames, dense):
    """Of ``frames`` equal frames one was computed, to the integer.

    Args:
        host: The model that was counted.
        macs: Its ledger.
        frames: Number of equal frames.
        dense: MACs of the stock model for all of them.
    """
    assert macs.uncounted() == {}
    layers = dict(host.model.named_modules())
    skipping = left_dense = 0
    for name, count in macs.by_module().items():
        if is_converted(layers[name]):
            assert count.executed * frames == count.dense, name
            skipping += count.dense
        else:
            assert count.executed == count.dense, name
            left_dense += count.dense
    total = macs.total()
    assert total.dense == skipping + left_dense == dense
    assert total.executed == skipping // frames + left_dense
    assert skipping > left_dense


def dense_macs(forward, *args, **kwargs):
    """MACs of a call in torch's own count, which takes one for two."""
    with FlopCounterMode(display=False) as flops:
        forward(*args, **kwargs)
    return flops.get_total_flops() // 2
