"""Where a stream's tensors are."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import mmskip
from mmskip.skip_conv import MEMORY_RULES
from tests.helpers.nets import TinyNet

GATES = {
    'norm': dict(type='OutputNormGate', threshold=0.1, relative=True),
    'gumbel': dict(type='GumbelGate', block_size=2),
}


def moved(net, device):
    """Give a module parameters on a device, without values."""
    for module in net.modules():
        for name, p in module._parameters.items():
            if p is not None:
                empty = torch.empty(p.shape, device=device)
                module._parameters[name] = nn.Parameter(empty)
    return net


@pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='torch is not built for CUDA'
)
@pytest.mark.parametrize('gate', GATES)
@pytest.mark.parametrize('memory', MEMORY_RULES)
@torch.no_grad()
def test_a_stream_on_a_gpu_keeps_all_there(gate, memory):
    # Fake tensors have no values, but a device that operators check.
    net = TinyNet().eval()
    mmskip.convert(net, mmskip.SkipConversion(GATES[gate], memory=memory))

    with FakeTensorMode():
        moved(net, 'cuda:0')
        with mmskip.stream(net) as state:
            for _ in range(3):
                output = net(torch.empty(1, *TinyNet.shape, device='cuda:0'))

    kept = [t for slot in state.slots.values() for t in slot if t is not None]
    assert {t.device for t in (output, *kept)} == {torch.device('cuda:0')}


@pytest.mark.parametrize('gate', GATES)
@pytest.mark.parametrize('memory', MEMORY_RULES)
@torch.no_grad()
def test_a_stream_reads_no_values_but_on_the_cpu(gate, memory):
    # Elsewhere reading one would wait for all that was asked for before.
    net = TinyNet().eval()
    mmskip.convert(net, mmskip.SkipConversion(GATES[gate], memory=memory))
    moved(net, 'meta')

    with mmskip.stream(net) as state:
        for _ in range(3):
            output = net(torch.empty(1, *TinyNet.shape, device='meta'))

    kept = [t for slot in state.slots.values() for t in slot if t is not None]
    assert {t.device.type for t in (output, *kept)} == {'meta'}
