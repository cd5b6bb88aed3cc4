"""Gates learn from what the dense model gives, the same however it is run."""

import importlib
import os

import pytest
import torch
import torch.distributed as torch_dist
from torch import nn

import mmskip
from mmskip.apis import UserError
from mmskip.apis.launch import close_launcher
from mmskip.apis.tuning import (
    GateTuner,
    Segment,
    TuneSettings,
    freeze_thresholds,
    learn_thresholds,
)
from mmskip.evaluation import norm_gates
from tests.helpers.convs import make_video
from tests.helpers.ports import free_port


class Net(nn.Module):
    """Takes batches as the models of the hosts do."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
        )
        self.out = nn.Conv2d(8, 4, 3, padding=1)

    def data_preprocessor(self, data):
        return dict(inputs=torch.stack(data['inputs']))

    def forward(self, inputs, mode='tensor'):
        return self.out(self.backbone(inputs))


def make_model(threshold=0.2, memory='accumulated', order=2):
    torch.manual_seed(0)
    gate = dict(
        type='OutputNormGate', threshold=threshold, order=order, relative=True
    )
    model = Net().eval()
    skip = mmskip.SkipConversion(gate=gate, memory=memory)
    mmskip.convert(model, skip)
    return model


def make_segments(count=4, length=6):
    torch.manual_seed(1)
    return [
        Segment(
            'video',
            i * length,
            [
                dict(inputs=[x[0]])
                for x in make_video(length, 1, 3, 12, 12, share=0.1)
            ],
        )
        for i in range(count)
    ]


def make_tuner(segments=None, kernels=False, **settings):
    model = make_model()
    learn_thresholds(model, kernels)
    options = dict(share=0.5, streams=2, frames=3) | settings
    return model, GateTuner(
        model, segments or make_segments(), TuneSettings(**options)
    )


def thresholds_of(model):
    return {n: g.params().threshold for n, g in norm_gates(model).items()}


def test_without_a_step_the_gates_are_those_that_were_there():
    model = make_model()
    before = thresholds_of(model)
    learn_thresholds(model)
    assert freeze_thresholds(model) == before == thresholds_of(model)
    kinds = {type(gate).__name__ for gate in norm_gates(model).values()}
    assert kinds == {'OutputNormGate'}


@pytest.mark.parametrize('share', [0.3, 0.8])
def test_gates_come_to_spend_what_they_are_asked_to(share):
    _, tuner = make_tuner(share=share, rate=0.1)
    steps = list(tuner.run(60))
    last = [step.share for step in steps[-16:]]
    assert sum(last) / len(last) == pytest.approx(share, abs=0.12)


def test_or_to_err_as_much_as_they_may():
    found = []
    for error in (0.05, 0.3):
        _, tuner = make_tuner(share=None, error=error, rate=0.3)
        steps = list(tuner.run(40))[-16:]
        found.append(sum(step.error for step in steps) / len(steps))
        shares = [step.share for step in steps]
        assert 0 < sum(shares) / len(shares) < 1
    assert found[0] < found[1]


def test_only_what_may_learn_moves():
    model, tuner = make_tuner()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    list(tuner.run(1))
    moved = {
        k for k, v in model.state_dict().items() if (v != before[k]).any()
    }
    assert moved == {
        'backbone.0.gate.log_factor',
        'backbone.3.gate.log_factor',
        'out.gate.log_factor',
    }
    assert not any(module.training for module in model.modules())


def test_kernels_learn_beside_thresholds():
    model, tuner = make_tuner(kernels=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    list(tuner.run(1))
    moved = {
        k for k, v in model.state_dict().items() if (v != before[k]).any()
    }
    layers = ('backbone.0', 'backbone.3', 'out')
    assert moved == {
        f'{layer}.gate.{name}'
        for layer in layers
        for name in ('log_factor', 'log_kernel')
    }
    learned = thresholds_of_kernels(model)
    found = freeze_thresholds(model)
    assert found == pytest.approx(learned)
    # What gates decide is what it was.
    assert thresholds_of_kernels(model) == pytest.approx(learned)


def thresholds_of_kernels(model):
    return {
        name: gate.params().bias.abs().sqrt().item()
        for name, gate in norm_gates(model).items()
    }


def test_layers_learn_if_asked_to_and_the_teacher_does_not():
    model, tuner = make_tuner(layer_rate=1e-3)
    before = model.out.weight.clone()
    list(tuner.run(1))
    assert (model.out.weight != before).any()
    assert torch.equal(tuner._teacher.out.weight, before)
    # Batch norms keep the statistics that the user trained.
    assert model.backbone[1].running_mean.eq(0).all()


def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted():
    whole, tuner = make_tuner()
    steps = list(tuner.run(4))

    _, first = make_tuner()
    list(first.run(4, until=2))
    state = first.state_dict()
    model, second = make_tuner()
    second.load_state_dict(state)
    torch.rand(7)  # draws of others do not matter
    list(second.run(4))

    assert second.steps == steps
    assert thresholds_of(model) == thresholds_of(whole)


def test_a_state_of_other_settings_is_refused():
    _, tuner = make_tuner()
    _, other = make_tuner(share=0.3)
    with pytest.raises(UserError, match='the same options, or another folder'):
        other.load_state_dict(tuner.state_dict())


def test_a_share_below_the_gates_own_cost_is_refused():
    with pytest.raises(UserError, match='which the gates and the layers'):
        make_tuner(share=0.01)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(memory='previous'), "memory='accumulated'"),
        (dict(threshold=-1.0), 'a threshold above 0'),
    ],
)
def test_gates_that_cannot_learn_are_named(options, message):
    with pytest.raises(UserError, match=rf'backbone\.0: expected {message}'):
        learn_thresholds(make_model(**options))


def test_gates_with_a_kernel_are_left_to_training():
    model = Net().eval()
    gumbel = mmskip.SkipConversion(dict(type='GumbelGate'), 'accumulated')
    mmskip.convert(model, gumbel, include='out')
    norm = dict(type='OutputNormGate', threshold=0.2)
    skip = mmskip.SkipConversion(norm, 'accumulated')
    mmskip.convert(model, skip, exclude='out')
    with pytest.raises(UserError, match=r'out: expected norm gates'):
        learn_thresholds(model)


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(share=0.1, error=0.1),
        dict(share=0.0),
        dict(share=1.0),
        dict(error=0.0),
    ],
)
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValueError, match='expected'):
        TuneSettings(**options)


def relax(logits, temperature):
    """Relaxed decisions without noise."""
    return (logits / temperature).sigmoid()


def learn(streams, rank=None, folder=None):
    with pytest.MonkeyPatch.context() as patch:
        # The package has a function of the module's name.
        module = importlib.import_module('mmskip.skip_conv.gate_mask')
        patch.setattr(module, 'relax_gate', relax)
        model, tuner = make_tuner(streams=streams)
        steps = list(tuner.run(2))
    found = dict(thresholds=thresholds_of(model), steps=steps)
    if folder is not None:
        torch.save(found, folder / f'{rank}.pth')
    return found


def work(rank, folder, port):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch_dist.init_process_group('gloo', rank=rank, world_size=2)
    learn(1, rank, folder)
    close_launcher()


def test_two_processes_learn_what_one_does_with_twice_the_clips(tmp_path):
    port = free_port()
    method = 'spawn' if torch.cuda.is_available() else 'fork'
    torch.multiprocessing.start_processes(
        work, (tmp_path, port), nprocs=2, start_method=method
    )
    one = learn(2)
    for rank in (0, 1):
        two = torch.load(tmp_path / f'{rank}.pth', weights_only=False)
        assert two['thresholds'] == pytest.approx(one['thresholds'], rel=1e-4)
        for step, other in zip(two['steps'], one['steps'], strict=True):
            assert tuple(step) == pytest.approx(tuple(other), rel=1e-3)
