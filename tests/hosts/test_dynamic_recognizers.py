"""Recognisers with dynamic convolutions, as the configs build them."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmskip
from mmskip.apis import init_model
from mmskip.va_red2 import DynamicConvMixin, force_routing
from tests.hosts.host import default_scope, noise

pytest.importorskip('mmaction.models')

CONFIGS = Path(__file__).parents[2] / 'configs/va_red2/recognition'
# Of a config the stem of its name, and a small input of one view.
HOSTS = {
    'r2plus1d_r18': (1, 3, 8, 32, 32),
    'x3d_m': (1, 3, 4, 64, 64),
    'i3d_inception-v2': (1, 3, 8, 64, 64),
    'tsn_r50': (4, 3, 32, 32),
}


def find(stem):
    """The dynamic config on Mini-Kinetics, before the fine-tuning."""
    (found,) = CONFIGS.glob(f'va-red2_{stem}_*mini-kinetics*.py')
    return found


@pytest.fixture(scope='module', params=HOSTS)
def pair(request):
    """A dynamic recogniser, the plain one, and two inputs."""
    cfg = Config.fromfile(find(request.param))
    with default_scope('mmaction'):
        torch.manual_seed(0)
        dynamic = init_model(cfg).double()
        cfg.model.type = cfg.model.pop('arch')
        cfg.model.pop('conversions')
        plain = init_model(cfg).double()
    return dynamic, plain, noise(2, *HOSTS[request.param])


@torch.no_grad()
def run(model, inputs):
    """Scores of the classes, before the softmax."""
    found = model(inputs, None, mode='tensor', stage='head')
    return found[0] if isinstance(found, tuple) else found


def load_plain(dynamic, plain):
    return dynamic.load_state_dict(plain.state_dict(), strict=False)


def test_a_plain_checkpoint_lacks_gates_and_cheap_maps_only(pair):
    dynamic, plain, _ = pair
    missing, unexpected = load_plain(dynamic, plain)
    assert unexpected == []
    assert missing
    assert all('.gate.' in key or '.cheap.' in key for key in missing)


def test_with_everything_computed_it_is_the_plain_model(pair):
    dynamic, plain, inputs = pair
    load_plain(dynamic, plain)
    with force_routing(dynamic):
        assert torch.equal(run(dynamic, inputs), run(plain, inputs))


def test_samples_do_not_depend_on_their_batch(pair):
    dynamic, _, inputs = pair
    layers = [m for m in dynamic.modules() if isinstance(m, DynamicConvMixin)]
    for index, layer in enumerate(layers):
        torch.manual_seed(index)  # gates that tell the samples apart
        layer.gate.decide.weight.data.normal_()
        layer.gate.beta.data.normal_()
    together = run(dynamic, inputs)
    with mmskip.record_routing(dynamic) as record:
        apart = [run(dynamic, sample[None]) for sample in inputs]
    torch.testing.assert_close(together, torch.cat(apart))
    chosen = {
        (int(time), int(channels))
        for layer in record.by_layer().values()
        for time, channels in zip(layer.time, layer.channels, strict=True)
    }
    assert len(chosen) > 1


def test_reverting_gives_the_plain_model_back(pair):
    dynamic, plain, inputs = pair
    load_plain(dynamic, plain)
    mmskip.revert(dynamic)
    assert dynamic.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(run(dynamic, inputs), run(plain, inputs))
