"""Products outside of layers are counted, by the module that does them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mmskip
from mmskip.core.counting import ACTIVATIONS, WEIGHTED, ProductMacs

TOKENS, WIDTH = 5, 8


class Block(nn.Module):
    """Attention, whose parameters are of no layer, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.out(self.attention(x, x, x, need_weights=False)[0])


class PastItsLayer(nn.Module):
    """Multiplies by the weight of a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x):
        query, key = F.linear(x, self.qkv.weight).chunk(2, -1)
        return query @ key.transpose(-2, -1)


def count(model, batch=1):
    x = torch.randn(batch, TOKENS, WIDTH)
    with (
        torch.no_grad(),
        mmskip.count_macs(model) as ledger,
        ProductMacs(model, ledger) as products,
    ):
        model(x)
    return ledger.total().dense, products.macs()


@pytest.mark.parametrize('batch', [1, 3])
def test_attention_counts_its_projections_and_products(batch):
    layers, products = count(Block().eval(), batch)

    tokens = batch * TOKENS
    attended = products.pop(('attention', ACTIVATIONS))
    assert attended == 2 * tokens * TOKENS * WIDTH
    projected = layers + sum(products.values()) - tokens * WIDTH * 3
    assert projected == 4 * tokens * WIDTH**2


def test_layers_and_products_are_all_that_torch_counts():
    model = nn.Sequential(Block(), nn.Linear(3, WIDTH), PastItsLayer()).eval()

    layers, products = count(model)
    # Torch has no formula for what is fused on CPUs.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as flops,
    ):
        model(torch.randn(1, TOKENS, WIDTH, requires_grad=True))

    assert 2 * (layers + sum(products.values())) == flops.get_total_flops()


def test_weights_of_a_layer_that_is_never_called_are_counted():
    layers, products = count(PastItsLayer())

    assert products.pop(('', ACTIVATIONS)) == TOKENS**2 * WIDTH
    assert layers + sum(products.values()) == 2 * TOKENS * WIDTH**2


def test_layers_of_an_unknown_kind_are_counted_by_what_they_multiply():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(WIDTH, 3))

        def forward(self, x):
            return x @ self.weight

    layers, products = count(nn.Sequential(Mixer()))

    assert layers == 0
    assert products == {('0', WEIGHTED): TOKENS * WIDTH * 3}


def test_fused_attention_is_counted_and_fast_again_behind_the_block():
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True).eval()

    layers, products = count(layer)

    assert layers >= 2 * TOKENS * WIDTH * 16
    assert products['self_attn', ACTIVATIONS] == 2 * TOKENS**2 * WIDTH
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert not any(len(m._forward_hooks) for m in layer.modules())


def test_products_of_a_forward_that_fails_leave_no_hooks():
    model = Block()

    with (
        pytest.raises(ValueError, match='stop'),
        mmskip.count_macs(model) as ledger,
        ProductMacs(model, ledger),
    ):
        raise ValueError('stop')

    assert not any(len(m._forward_pre_hooks) for m in model.modules())
