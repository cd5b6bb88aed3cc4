"""Are the factors of a checkpoint those of the model?"""

import pytest
from torch import nn

import mmskip
from mmskip import SkipConversion, SVDConversion
from mmskip.compression.svd import check_factors
from mmskip.reading import InputError


def net(method='spatial', rank=3, skips=False):
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3))
    if rank:
        mmskip.convert(model, SVDConversion(method, ranks={'1': rank}))
    if skips:
        gate = dict(type='OutputNormGate', threshold=0.1)
        mmskip.convert(model, SkipConversion(gate))
    return model


@pytest.mark.parametrize('skips', [False, True])
@pytest.mark.parametrize('rank', [0, 3])
def test_plain_weights_and_its_own_factors_are_welcome(rank, skips):
    check_factors(net(skips=skips), net(rank=rank).state_dict(), 'a.pth')


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(rank=4), r'rank 3, .*got \(4, 6, 3, 1\)'),
        (dict(method='weight'), r'got \(3, 6, 3, 3\)'),
    ],
)
def test_other_factors_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        check_factors(net(), net(**options).state_dict(), 'a.pth')


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('skips', [False, True])
def test_a_plain_model_does_not_drop_factors(prefix, skips):
    saved = {f'{prefix}{k}': v for k, v in net().state_dict().items()}

    with pytest.raises(InputError, match=r'weights of 1 in a\.pth, got two'):
        check_factors(net(rank=0, skips=skips), saved, 'a.pth')


def test_other_parts_may_have_these_names():
    model = nn.ModuleDict(
        dict(first=nn.Conv2d(3, 3, 1), second=nn.Conv2d(3, 3, 1))
    )

    whole = nn.ModuleDict(dict(a=model))

    check_factors(whole, whole.state_dict(), 'a.pth')
