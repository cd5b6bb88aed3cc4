"""Dense convolutions with packed kernels are those of torch."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from mmskip.native import LowKernels, PackedKernels, activate, packed
from mmskip.native.packed import Finish

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
    monkeypatch.setattr(packed, 'LEAST', 0)


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
    assert len(kernels._kept) <= packed.KEPT


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


def draw_whole(shape, ends=63):
    """A kernel and images of whole numbers: sums are exact in any order."""
    weight = torch.randint(-9, 10, shape).float()
    # A scale of 1 for each filter of bytes.
    weight.flatten(1)[:, 0] = ends
    x = torch.randint(-10, 100, (2, 4, 9, 11)).float()
    return x, weight, torch.randint(-9, 10, shape[:1]).float()


def geometry_of(stride, padding, dilation, groups):
    return padding, stride, dilation, groups


#: Half a step of bfloat16, which has 8 digits.
NEAR = dict(rtol=2**-8, atol=1e-5)
TWICE = dict(rtol=2**-7, atol=1e-5)
GRID = (1.0, 10)


@pytest.fixture(params=['instructions', 'emulated'])
def halves(request, monkeypatch):
    if request.param == 'emulated':
        monkeypatch.setattr(packed, 'has_halves', lambda: False)
    elif not packed.has_halves():
        pytest.skip('this CPU has no instructions for bfloat16')


FLOATS = (torch.float32, torch.bfloat16)
#: Layers by what they multiply and read: those with one filter per channel
#: stay in bfloat16, and bytes are read by layers of bytes alone.
LOW = [
    *((name, None, given) for name in CONVS for given in FLOATS),
    *(
        (name, GRID, given)
        for name in CONVS
        if name != 'depthwise'
        for given in (*FLOATS, torch.uint8)
    ),
]


@pytest.mark.usefixtures('halves')
@pytest.mark.parametrize(('name', 'grid', 'given'), LOW)
@pytest.mark.parametrize(
    'activation',
    [None, 'relu', 'silu', 'relu6', 'hardswish', 'leaky_relu:0.1'],
)
@torch.inference_mode()
def test_low_sums_are_those_of_torch_rounded_once(
    name, activation, given, grid
):
    shape, *how = CONVS[name]
    x, weight, bias = draw_whole(shape)
    expected = activate(F.conv2d(x, weight, bias, *how), activation)
    given_x = x + 10 if given == torch.uint8 else x

    found = LowKernels(grid).convolve(
        given_x.to(given), weight, bias, geometry_of(*how), Finish(activation)
    )

    back = torch.float32 if given == torch.float32 else torch.bfloat16
    assert found.dtype == back
    # LeakyReLU reads what was rounded already.
    near = NEAR if activation in packed._LOW_ACTIVATIONS else TWICE
    torch.testing.assert_close(found.float(), expected, **near)


@pytest.mark.usefixtures('halves')
@pytest.mark.parametrize('grid', [None, GRID], ids=['bfloat16', 'int8'])
@pytest.mark.parametrize('activation', [None, 'relu', 'silu'])
@pytest.mark.parametrize('overwrites', [False, True])
@pytest.mark.parametrize('size', [(2, 8, 9, 11), (2, 8, 1, 1)])
@torch.inference_mode()
def test_images_are_added_before_the_activation(
    grid, activation, overwrites, size
):
    x, weight, bias = draw_whole((8, 4, 3, 3))
    addend = torch.randint(-99, 100, size).bfloat16()
    addend = addend.contiguous(memory_format=torch.channels_last)
    before = addend.clone()
    expected = F.conv2d(x, weight, bias, padding=1) + before.float()
    expected = activate(expected, activation)

    found = LowKernels(grid).convolve(
        x.bfloat16(),
        weight,
        bias,
        geometry_of(*PLAIN),
        Finish(activation, addend, None, overwrites),
    )

    # Where it is not added at once, the sum is rounded before it.
    torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=4.0)
    assert overwrites or torch.equal(addend, before)


@torch.inference_mode()
@pytest.mark.parametrize('activation', [None, 'relu', 'leaky_relu:0.1'])
def test_bytes_go_out_on_the_grid_of_their_reader(activation):
    x, weight, bias = draw_whole((8, 4, 3, 3))
    expected = activate(F.conv2d(x, weight, bias, padding=1), activation)
    step, zero = 64.0, 100

    found = LowKernels(GRID).convolve(
        x.bfloat16(),
        weight,
        bias,
        geometry_of(*PLAIN),
        Finish(activation, grid=(step, zero)),
    )

    assert found.dtype == torch.uint8
    values = (found.float() - zero) * step
    ends = (-zero * step, (255 - zero) * step)
    # Values of bfloat16 may be a step of that off.
    torch.testing.assert_close(
        values, expected.clamp(*ends), rtol=2**-7, atol=step / 2
    )


@pytest.mark.usefixtures('halves')
@pytest.mark.parametrize('grid', [None, GRID], ids=['bfloat16', 'int8'])
@pytest.mark.parametrize('shape', [(1, 4), (5, 4), (2, 3, 4)])
@torch.inference_mode()
def test_low_products_are_those_of_torch(grid, shape):
    weight = draw_whole((6, 4))[1]
    x = torch.randint(-10, 100, shape).float()
    kernels, bias = LowKernels(grid), torch.randn(6)
    for activation in (None, 'relu', 'silu'):
        expected = activate(F.linear(x, weight, bias), activation)
        for given in (x, x.bfloat16()):
            found = kernels.multiply(given, weight, bias, Finish(activation))
            assert found.dtype == given.dtype
            torch.testing.assert_close(found.float(), expected, **NEAR)


@pytest.mark.usefixtures('halves')
@pytest.mark.parametrize('how', [(0, 0, 2, 1, 1), (1, 1, 2, 1, 2)])
@torch.inference_mode()
def test_low_transposed_convolutions_are_those_of_torch(how):
    padding, more, *rest, groups = how
    x, weight, _ = draw_whole((4, 3, 3, 3))
    geometry = (*((n, n) for n in (padding, more, *rest)), groups)
    expected = F.conv_transpose2d(
        x, weight, None, rest[0], padding, more, groups, rest[1]
    )

    found = LowKernels().transpose(x, weight, None, geometry, Finish('relu'))

    torch.testing.assert_close(found, expected.relu(), **NEAR)


def test_gradients_and_exports_are_in_float32():
    x, weight, bias = draw()
    weight.requires_grad_()
    y = LowKernels().conv2d(x, weight, bias, *PLAIN, activation='relu')
    torch.testing.assert_close(y, F.conv2d(x, weight, bias, *PLAIN).relu())
    y.sum().backward()
    assert weight.grad.abs().sum() > 0


@torch.no_grad()
def test_other_weights_are_noticed_in_bytes_and_in_bfloat16():
    x, weight, bias = draw_whole((8, 4, 3, 3))
    for grid in (None, GRID):
        kernels = LowKernels(grid)
        first = kernels.conv2d(x, weight, bias, *PLAIN)
        weight.data = weight.data * 2
        second = kernels.conv2d(x, weight, bias * 2, *PLAIN)
        torch.testing.assert_close(second, first * 2, **NEAR)
