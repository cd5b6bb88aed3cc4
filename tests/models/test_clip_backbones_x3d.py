"""X3D whose Swish stays beside squeeze-and-excitation only."""

import pytest
import torch

import mmskip  # noqa: F401

pytest.importorskip('mmaction')

from mmaction.models import X3D
from mmaction.models.backbones.x3d import BlockX3D
from mmcv.cnn import Swish

from mmskip.models import X3DSwishInSE

SMALL = dict(gamma_w=1 / 3, gamma_b=2.25, gamma_d=2.2)


@pytest.fixture(scope='module')
def pair():
    torch.manual_seed(0)
    ours, stock = X3DSwishInSE(**SMALL), X3D(**SMALL)
    ours.load_state_dict(stock.state_dict())
    ours.eval(), stock.eval()
    return ours, stock


def blocks(net):
    return [m for m in net.modules() if isinstance(m, BlockX3D)]


def test_swish_is_where_squeeze_and_excitation_is(pair):
    kept = [isinstance(b.swish, Swish) for b in blocks(pair[0])]
    assert kept == [hasattr(b, 'se_module') for b in blocks(pair[0])]
    # M has 3, 5, 11 and 7 blocks, every other of which has it.
    assert (sum(kept), len(kept)) == (15, 26)


def test_differs_from_the_stock_model_in_that_only(pair):
    ours, stock = pair
    clip = torch.rand(1, 3, 4, 64, 64)
    with torch.no_grad():
        assert not torch.equal(ours(clip), stock(clip))
        for block in blocks(stock):
            if not hasattr(block, 'se_module'):
                block.swish = torch.nn.ReLU()
        assert torch.equal(ours(clip), stock(clip))
