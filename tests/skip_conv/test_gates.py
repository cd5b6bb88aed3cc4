"""Gates that need no training."""

import pytest
import torch

from mmskip.registry import MODELS, build_own
from mmskip.skip_conv import GateParams, InputNormGate, OutputNormGate

GATES = pytest.mark.parametrize('gate', [InputNormGate, OutputNormGate])


@pytest.mark.parametrize(
    ('name', 'kind'),
    [('InputNormGate', 'input_norm'), ('OutputNormGate', 'output_norm')],
)
def test_gates_are_built_from_configs(name, kind):
    gate = build_own(dict(type=name, threshold=1, block_size=4, order=2))

    assert gate.params() == GateParams(kind, 1.0, 4, 2)
    assert type(gate) is MODELS.get(f'mmskip.{name}')


@GATES
def test_gates_have_nothing_to_learn_or_to_save(gate):
    assert not list(gate(0.1).parameters())
    assert not gate(0.1).state_dict()


@GATES
@pytest.mark.parametrize('block', [0, 3, 16])
def test_other_block_sizes_are_refused(gate, block):
    with pytest.raises(ValueError, match=r'\(1, 2, 4, 8\)'):
        gate(0.1, block_size=block)


@GATES
@pytest.mark.parametrize('order', [0, 3])
def test_other_orders_are_refused(gate, order):
    with pytest.raises(ValueError, match='order 1 or 2'):
        gate(0.1, order=order)


def test_overhead_counts_the_whole_batch():
    shapes = torch.Size((4, 3, 8, 8)), torch.Size((4, 16, 8, 8))

    assert OutputNormGate(0.1).macs(*shapes, 9) == 4 * (3 + 9) * 64


def test_a_gate_shows_its_options():
    shown = repr(InputNormGate(0.25, block_size=8))

    assert shown == (
        'InputNormGate(threshold=0.25, block_size=8, order=1, relative=False)'
    )
