"""Dense convolutions with packed kernels are those of torch."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from mmskip.native import PackedKernels, activate, geometry

CONVS = {
    'square': ((8, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    'pointwise': ((8, 4, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    'strided': ((8, 4, 5, 3), (2, 1), (2, 1), (1, 1), 1),
    'dilated': ((6, 4, 3, 3), (1, 1), (2, 2), (2, 2), 1),
    'grouped': ((8, 2, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    'depthwise': ((4, 1, 3, 3), (1, 1), (1, 1), (1, 1), 4),
}


@pytest.fixture(autouse=True)
def small_ones_are_packed(monkeypatch):
    monkeypatch.setattr(geometry, 'LEAST', 0)


def draw(shape=(8, 4, 3, 3), images=2):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    x = torch.randn(images, 4, 9, 11)
    return x, weight, torch.randn(shape[0])


@pytest.mark.parametrize(
    'activation', [None, 'relu', 'silu', 'hardswish', 'leaky_relu:0.1']
)
@pytest.mark.parametrize('name', CONVS)
@torch.inference_mode()
def test_results_are_those_of_torch(name, activation):
    shape, *how = CONVS[name]
    x, weight, bias = draw(shape)
    expected = F.conv2d(x, weight, bias, *how)
    expected = activate(expected, activation)
    kernels = PackedKernels()
    for images in (1, 2):
        found = kernels.conv2d(
            x[:images], weight, bias, *how, activation=activation
        )
        torch.testing.assert_close(found, expected[:images])


PLAIN = ((1, 1), (1, 1), (1, 1), 1)


@pytest.mark.parametrize('how', ['in place', 'data', 'another tensor'])
def test_other_values_of_the_kernel_are_noticed(how):
    x, weight, bias = draw()
    kernels = PackedKernels()
    with torch.no_grad():
        kernels.conv2d(x, weight, bias, *PLAIN)
        if how == 'in place':
            weight.mul_(2)
        elif how == 'data':
            weight.data = weight.data * 2
        else:
            weight = weight * 2
        found = kernels.conv2d(x, weight, bias, *PLAIN)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, *PLAIN))


@torch.no_grad()
def test_a_kernel_is_packed_once_for_each_size(monkeypatch):
    x, weight, bias = draw()
    kernels = PackedKernels()
    for _ in range(2):
        for width in (11, 7):
            kernels.conv2d(x[..., :width], weight, bias, *PLAIN)
            kernels.conv2d(x[:1, ..., :width], weight[:4], None, *PLAIN)
    assert len(kernels._kept) == 4
    for height in range(3, 9):
        kernels.conv2d(x[:, :, :height], weight, bias, *PLAIN)
    assert len(kernels._kept) <= geometry.KEPT


@pytest.mark.parametrize('name', ['relu', 'silu', 'hardswish'])
def test_activations_have_gradients(name):
    x = torch.randn(20, requires_grad=True)
    y = activate(2 * x, name)
    y.sum().backward()
    torch.testing.assert_close(y, getattr(F, name)(2 * x))
    assert x.grad.abs().sum() > 0


def test_gradients_and_double_precision_are_left_to_torch():
    x, weight, bias = draw()
    weight.requires_grad_()
    kernels = PackedKernels()
    y = kernels.conv2d(x, weight, bias, *PLAIN, activation='relu')
    y.sum().backward()
    assert weight.grad.abs().sum() > 0
    with torch.no_grad():
        twice = [t.double() for t in (x, weight, bias)]
        assert kernels.conv2d(*twice, *PLAIN).dtype == torch.float64
    assert not kernels._kept


@torch.no_grad()
def test_copies_pack_anew():
    x, weight, bias = draw()
    kernels = PackedKernels()
    kernels.conv2d(x, weight, bias, *PLAIN)
    for twin in (copy.deepcopy(kernels), pickle.loads(pickle.dumps(kernels))):
        assert not twin._kept
        torch.testing.assert_close(
            twin.conv2d(x, weight, bias, *PLAIN),
            kernels.conv2d(x, weight, bias, *PLAIN),
        )


@torch.no_grad()
def test_nothing_is_convolved_to_nothing():
    x, weight, bias = draw()
    found = PackedKernels().conv2d(x[:0], weight, bias, *PLAIN)
    assert found.shape == (0, 8, 9, 11)


@pytest.mark.parametrize('vectors', [1, 2, 9])
@torch.no_grad()
def test_vectors_are_multiplied_as_torch_does(vectors):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s) for s in ((vectors, 5), (7, 5), (7,)))
    kernels = PackedKernels()
    for _ in range(2):
        torch.testing.assert_close(
            kernels.linear(x, weight, bias), F.linear(x, weight, bias)
        )
        weight.mul_(2)
    assert len(kernels._kept) == (vectors > 1)
