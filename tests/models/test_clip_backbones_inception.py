"""The inflated BN-Inception."""

import pytest
import torch

import mmskip  # noqa: F401

pytest.importorskip('mmaction')

from mmskip.models import I3DInceptionV2

CHANNELS = {
    '3a': 256,
    '3b': 320,
    '3c': 576,
    **dict.fromkeys(('4a', '4b', '4c', '4d'), 576),
    **dict.fromkeys(('4e', '5a', '5b'), 1024),
}


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = I3DInceptionV2(width=1 / 16)
    net.init_weights()
    return net.eval()


def test_widths_are_those_of_the_2d_paper():
    with torch.device('meta'):
        net = I3DInceptionV2()
    found = {name: block.out_channels for name, block in net.blocks.items()}
    assert found == CHANNELS
    assert net.feat_dim == 1024


def test_every_kernel_is_a_point_or_inflated():
    with torch.device('meta'):
        net = I3DInceptionV2()
    sizes = [
        module.kernel_size
        for module in net.modules()
        if isinstance(module, torch.nn.Conv3d)
    ]
    assert sizes[0] == (5, 7, 7)
    assert set(sizes[1:]) == {(1, 1, 1), (3, 3, 3)}
    # Two of the stem, and six, seven or five of a block.
    assert len(sizes) == 3 + 8 * 7 + 2 * 5


@pytest.mark.parametrize(
    ('strides', 'frames'), [((2, 1, 1), 4), ((1, 1, 1), 8), ((2, 2, 2), 1)]
)
def test_strides_decide_how_many_frames_remain(strides, frames):
    net = I3DInceptionV2(temporal_strides=strides, width=1 / 32).eval()
    with torch.no_grad():
        features = net(torch.zeros(2, 3, 8, 64, 64))
    assert features.shape == (2, net.feat_dim, frames, 2, 2)


def test_one_frame_is_enough(net):
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 1, 32, 32)).shape[2:] == (1, 1, 1)


def test_features_depend_on_the_order_of_the_frames(net):
    clip = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        forward, backward = net(clip), net(clip.flip(2))
    assert not torch.allclose(forward.mean(2), backward.mean(2))


@pytest.mark.parametrize(
    'options',
    [dict(stem_frames=4), dict(temporal_strides=(2, 1)), dict(width=0)],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match='expected an odd stem_frames'):
        I3DInceptionV2(**options)
