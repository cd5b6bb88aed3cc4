"""A small HRNet, compressed, and then also skipping."""

import pytest
import torch
from mmengine.registry import MODELS

import mmskip
from mmskip import L0Conversion, SkipConversion, SVDConversion
from mmskip.compression import choose_ranks, measure_spectra
from tests.hosts.host import (
    assert_same,
    default_scope,
    noise,
    random_walk,
    take_statistics,
)

utils = pytest.importorskip('mmpose.utils')

STAGE = dict(num_modules=1, block='BASIC')
HRNET = dict(
    type='HRNet',
    in_channels=3,
    extra=dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK',
            num_blocks=(1,), num_channels=(8,),
        ),
        stage2=dict(
            STAGE, num_branches=2, num_blocks=(1, 1), num_channels=(8, 16)
        ),
        stage3=dict(
            STAGE, num_branches=3, num_blocks=(1, 1, 1),
            num_channels=(8, 16, 32),
        ),
        stage4=dict(
            STAGE, num_branches=4, num_blocks=(1, 1, 1, 1),
            num_channels=(8, 16, 32, 64),
        ),
    ),
)  # fmt: skip
OPEN = dict(type='OutputNormGate', threshold=-1.0)


@pytest.fixture(scope='module')
def plain():
    utils.register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    with default_scope('mmpose'):
        model = MODELS.build(HRNET).double()
    take_statistics(model, lambda net: net(noise(2, 3, 64, 64)))
    return model


@pytest.fixture
def build(plain):
    """Builds the network anew with the plain weights, converted."""

    def make(*conversions):
        with default_scope('mmpose'):
            model = MODELS.build(HRNET).double()
        model.eval()  # which returns nothing
        for conversion in conversions:
            mmskip.convert(model, conversion)
        model.load_state_dict(plain.state_dict(), strict=False)
        return model

    return make


def run(model, frames):
    with torch.no_grad(), mmskip.count_macs(model) as macs:
        return [model(frame) for frame in frames], macs


@pytest.mark.parametrize('method', ['spatial', 'weight'])
def test_full_ranks_equal_the_plain_network(plain, build, method):
    frame = noise(1, 3, 64, 64)
    layers = measure_spectra(plain, lambda: plain(frame), method)
    ranks = {layer.name: len(layer.values) for layer in layers}

    model = build(SVDConversion(method, ranks=ranks))

    assert_same(run(model, [frame])[0], run(plain, [frame])[0])


@pytest.mark.parametrize('method', ['spatial', 'weight'])
def test_factors_that_skip_keep_outputs_and_macs(plain, build, method):
    frames = random_walk(3, 1, 3, 64, 64)
    dense = run(plain, frames)[1].total().executed
    layers = measure_spectra(plain, lambda: plain(frames[0]), method)
    others = dense // 3 - sum(layer.dense for layer in layers)
    svd = SVDConversion(
        method, ranks=choose_ranks(layers, dense // 6 - others)
    )
    expected, factorised = run(build(svd), frames)
    model = build(svd, SkipConversion(OPEN))

    with mmskip.stream(model):
        outputs, macs = run(model, frames)

    assert_same(outputs, expected)
    assert macs.uncounted() == {}
    once = factorised.total().executed
    assert 0.48 * dense < once <= 0.5 * dense
    assert macs.total().executed == once
    assert macs.total().dense == factorised.total().dense == dense
    assert macs.total().reference == once // 3


def test_gates_of_channels_begin_open(plain, build):
    frame = noise(1, 3, 64, 64)

    outputs, macs = run(build(L0Conversion()), [frame])

    assert_same(outputs, run(plain, [frame])[0])
    assert macs.total().executed == macs.total().dense
