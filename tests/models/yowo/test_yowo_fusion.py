"""Channel fusion and attention."""

import pytest
import torch
from torch import nn

import mmskip


@pytest.fixture
def fusion():
    from mmskip.models import ChannelFusion

    return ChannelFusion((3, 5), channels=4).eval()


@pytest.fixture
def attention():
    from mmskip.models.yowo import ChannelAttention

    return ChannelAttention()


def test_attention_begins_as_the_identity(attention):
    features = torch.randn(2, 4, 3, 5)
    assert torch.equal(attention(features), features)


def test_a_channel_takes_from_those_unlike_itself(attention):
    nn.init.ones_(attention.alpha)
    # Two equal channels and one orthogonal to both.
    features = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    added = attention(features.view(1, 3, 1, 2)).view(3, 2) - features
    # Inner products are 81 and 0: all weight goes where they are 0.
    assert torch.allclose(added[:2], torch.tensor([[0.0, 9.0]] * 2))
    assert torch.allclose(added[2], torch.tensor([9.0, 0.0]))


def test_samples_of_a_batch_do_not_mix(attention):
    nn.init.ones_(attention.alpha)
    features = torch.randn(3, 4, 2, 2)
    alone = torch.cat([attention(f) for f in features.split(1)])
    assert torch.allclose(attention(features), alone, atol=1e-6)


def test_its_products_are_counted(fusion):
    inputs = torch.randn(2, 3, 6, 7), torch.randn(2, 5, 6, 7)
    with mmskip.count_macs(fusion) as macs:
        (fused,) = fusion(inputs)
    assert fused.shape == (2, 4, 6, 7)
    layers = {name: count.executed for name, count in macs.by_module().items()}
    positions = 2 * 6 * 7
    assert layers == {
        'reduce.conv': positions * 4 * 8,
        'smooth.conv': positions * 4 * 4 * 9,
        'attention': 2 * positions * 4 * 4,
    }
    assert not macs.uncounted()


def test_both_inputs_are_used(fusion):
    frame, clip = torch.randn(1, 3, 4, 4), torch.randn(1, 5, 4, 4)
    (fused,) = fusion((frame, clip))
    assert not torch.equal(fused, fusion((frame + 1, clip))[0])
    assert not torch.equal(fused, fusion((frame, clip + 1))[0])
