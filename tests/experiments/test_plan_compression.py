import json
from pathlib import Path

import pytest

from mmskip.apis import UserError
from mmskip.experiments import Compression
from mmskip.experiments.plan import read_compression


def test_later_parts_win():
    parts = [dict(method='weight_svd', macs=0.5), dict(macs=0.25)]
    assert read_compression(parts, 'here') == Compression('weight_svd', 0.25)


def test_a_shape_reaches_the_command_line_and_the_record():
    keys = dict(method='spatial_svd', macs=0.5, shape=[1, 3, 64, 64])
    found = read_compression([keys], 'here')
    assert found.arguments() == [
        '--method', 'spatial_svd', '--macs', '0.5',
        '--shape', '1', '3', '64', '64',
    ]  # fmt: skip
    assert json.loads(json.dumps(found.keys())) == found.keys() == keys


def test_shares_have_files_of_their_own():
    half = Compression('spatial_svd', 0.5).files(Path('a'), 'b/c.d.py')
    assert half == (
        Path('a/c.d_spatial_svd-0.5.py'), Path('a/c.d_spatial_svd-0.5.pth')
    )  # fmt: skip
    names = {
        Compression('spatial_svd', macs).files(Path('a'), 'c.py')
        for macs in (0.3, 0.333333333, 0.33333333)
    }
    assert len(names) == 3


@pytest.mark.parametrize(
    ('parts', 'text'),
    [
        ([0.5], 'dict of macs, method, shape, got 0.5'),
        ([dict(method='weight_svd', ranks={})], 'got {.*ranks'),
        ([dict(macs=0.5)], 'method of compress to be one of spatial_svd'),
        ([dict(method='l0', macs=0.5)], "got 'l0'"),
        ([dict(method='weight_svd')], 'a share between 0 and 1, got None'),
        ([dict(method='weight_svd', macs=1)], 'got 1'),
        ([dict(method='weight_svd', macs=2.0)], 'got 2.0'),
    ],
)
def test_mistakes_are_told(parts, text):
    with pytest.raises(UserError, match=f'here: expected .*{text}'):
        read_compression(parts, 'here')
