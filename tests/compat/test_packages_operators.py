"""mmcv's operators compute the same of channels-last images."""

import pytest
import torch

import mmskip.compat

mmskip.compat.apply()
ops = pytest.importorskip('mmcv.ops')

ROIS = torch.tensor([[0, 1.0, 1.0, 6.0, 5.0], [1, 0.0, 2.0, 7.0, 7.0]])
TURNED = torch.tensor([[0, 4.0, 4.0, 5.0, 3.0, 0.4], [1, 3.0, 4.0, 4, 4, 1]])


def deform(x, offset, weight):
    return ops.deform_conv2d(x, offset, weight, 1, 1)


def modulated_deform(x, offset, weight):
    mask = offset[:, :9].sigmoid()
    return ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)


def pool_max(x, *_):
    return ops.roi_align(x, ROIS, 3, 1.0, 2, 'max', True)


OPERATORS = {
    'deform_conv2d': deform,
    'modulated_deform_conv2d': modulated_deform,
    'psa_mask': lambda x, *_: ops.PSAMask('collect', (2, 2))(x),
    'roi_align': lambda x, *_: ops.roi_align(x, ROIS, 3, 1.0, 2),
    'roi_align_max': pool_max,
    'roi_align_rotated': lambda x, *_: ops.roi_align_rotated(
        x, TURNED, 3, 1.0, 2
    ),
}


def arguments():
    """An image, offsets and a kernel."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 8, 8), (2, 18, 8, 8), (6, 4, 3, 3)
    return [torch.randn(s, generator=generator) for s in shapes]


def turned(tensor):
    return tensor.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('name', OPERATORS)
def test_results_do_not_depend_on_the_layout(name):
    tensors = arguments()
    expected = OPERATORS[name](*tensors)

    found = OPERATORS[name](*map(turned, tensors))

    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('name', OPERATORS)
def test_gradients_do_not_depend_on_the_layout(name):
    x, *others = arguments()
    x.requires_grad_()
    output = OPERATORS[name](x, *others)
    gradient = torch.randn_like(output)

    def gradient_by_x(layout):
        return torch.autograd.grad(output, x, layout, retain_graph=True)[0]

    expected = gradient_by_x(gradient)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient_by_x(turned(gradient)), expected)
