"""Numbers that tell the contents of tensors apart."""

import pytest
import torch

from mmskip.native import address_of, fingerprint
from mmskip.native import library as native

TENSORS = {
    'kernel': lambda: torch.randn(8, 4, 3, 3),
    'channels last': lambda: torch.randn(8, 4, 3, 3).to(
        memory_format=torch.channels_last
    ),
    'strided': lambda: torch.randn(6, 10)[:, ::3],
    'vector': lambda: torch.randn(7),
    'scalar': lambda: torch.randn(()),
    'double': lambda: torch.randn(5, 5).double(),
    'bfloat16': lambda: torch.randn(3, 5).bfloat16(),
    'integer': lambda: torch.arange(9),
    'empty': lambda: torch.empty(0, 3),
}
BACKENDS = [
    pytest.param(
        'native',
        marks=pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING),
    ),
    'torch',
]


@pytest.fixture(autouse=True, params=BACKENDS)
def _backend(request, monkeypatch):
    if request.param == 'torch':
        monkeypatch.setattr(native, 'MISSING', 'not here')


@pytest.mark.parametrize('name', TENSORS)
def test_a_copy_has_the_same_and_each_value_counts(name):
    tensor = TENSORS[name]()
    number = fingerprint(tensor)

    assert fingerprint(tensor.clone()) == number
    flat = tensor.reshape(-1)
    for index in range(len(flat)):
        other = flat.clone()
        other[index] += 1
        assert fingerprint(other.view(tensor.shape)) != number


def test_each_place_counts():
    tensor = torch.randn(8, 4, 3, 3)
    orders = [tensor, tensor.flip(0), tensor.flip(1), tensor.flip(2, 3)]

    assert len({fingerprint(order) for order in orders}) == len(orders)


@pytest.mark.parametrize('shape', [(64, 64, 3, 3), (1, 4096), (40, 9)])
def test_some_words_tell_what_changed_as_a_whole(shape):
    tensor = torch.randn(shape)

    numbers = {
        fingerprint(other, words=16)
        for other in (tensor, 0.999 * tensor, tensor.flip(0, 1))
    }

    assert fingerprint(tensor.clone(), words=16) in numbers
    assert len(numbers) == 3


def test_an_address_changes_with_the_data():
    for device in ('cpu', 'meta'):
        weight = torch.nn.Parameter(torch.empty(3, device=device))
        before = address_of(weight)
        old = weight.data
        assert address_of(weight) == before
        weight.data = torch.empty(3, device=device)
        assert address_of(weight) != before
        del old
