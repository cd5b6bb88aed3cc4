"""What a plan refuses."""

import pytest
import torch

from mmskip.native import ConvGeometry
from mmskip.native import library as native
from mmskip.skip_conv import GateParams, SkipParams, native_call, skip_conv
from mmskip.skip_conv.native_layer import LayerCache

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

MAPPED = 1


def image(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def make_site(activation=None):
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    gate = GateParams('input_norm', 0.1)
    params = torch.randn(8, 4, 3, 3), None, geometry, gate, 'previous'
    params = SkipParams(*params, activation)
    layers = LayerCache()
    with torch.no_grad():
        memory = skip_conv(image(2, 4, 6, 7), None, params, layers)[2]
    return native_call(memory, params, layers).site


def test_bad_arguments_are_refused_by_name():
    plan = native.new_plan(3)
    x = image(2, 4, 6, 7)
    plan.put(0, x)
    mask = torch.zeros(2, 1, 6, 7, dtype=torch.bool)
    site, activated = make_site(), make_site('relu')

    with pytest.raises(ValueError, match=r'mask of'):
        plan.add_conv(0, 1, site, mask[..., 1:], None)
    with pytest.raises(ValueError, match='a result with an activation and n'):
        plan.add_conv(0, 1, site, mask, image(2, 8, 6, 7))
    with pytest.raises(ValueError, match='a result with an activation and n'):
        plan.add_conv(0, 1, activated, mask, None)
    with pytest.raises(ValueError, match=r'a result of shape.*8, 6, '):
        plan.add_conv(0, 1, activated, mask, x)
    with pytest.raises(IndexError, match='one of 3 values, got 3'):
        plan.put(3, x)
    with pytest.raises(IndexError, match='some of 0 steps'):
        plan.run(0, 1)
    with pytest.raises(ValueError, match=r'expected 1 to 8 images.*got 0'):
        plan.add_sum([], 1, image(2, 4, 6, 7), None, None, None)
    with pytest.raises(ValueError, match=r'expected 1 to 8 images.*got 9'):
        plan.add_sum([0] * 9, 1, image(2, 4, 6, 7), None, None, None)
    with pytest.raises(ValueError, match=r'smaller by a whole.*2, 4, 6, 7\]'):
        plan.add_sum([0], 1, image(2, 4, 9, 7), None, None, None)
    with pytest.raises(ValueError, match=r'smaller by a whole'):
        plan.add_sum([0], 1, image(2, 5, 6, 7), None, None, None)
    with pytest.raises(ValueError, match='result to be contiguous in channe'):
        plan.add_sum([0], 1, torch.zeros(2, 4, 6, 7), None, None, None)
    with pytest.raises(ValueError, match=":SLOPE' or none, got 'gel"):
        plan.add_sum([0], 1, image(2, 4, 6, 7), None, None, 'gelu')
    with pytest.raises(ValueError, match='a scale and a shift or neither'):
        plan.add_sum([0], 1, x, torch.ones(4), None, None)
    with pytest.raises(ValueError, match=r'contiguous shift of shape \[4\]'):
        plan.add_sum([0], 1, x, torch.ones(4), torch.ones(1), None)
    with pytest.raises(TypeError, match='scale of dtype float32'):
        plan.add_sum([0], 1, x, torch.ones(4).int(), torch.ones(4), None)
    with pytest.raises(ValueError, match='expected 9 channels altogether, go'):
        plan.add_join([0, 0], 1, image(2, 9, 6, 7))
    with pytest.raises(ValueError, match='as large as the result'):
        plan.add_join([0, 0], 1, image(2, 8, 6, 8))
    with pytest.raises(ValueError, match='as many streams and channels as th'):
        plan.add_pool(0, 1, image(2, 5, 6, 7), [3, 3], [1, 1], [1, 1])
    with pytest.raises(ValueError, match=r'that reach into.*6, got 7 of '):
        plan.add_pool(0, 1, image(2, 4, 7, 7), [3, 3], [1, 1], [0, 0])
    with pytest.raises(ValueError, match='that reach into'):
        plan.add_pool(0, 1, image(2, 4, 6, 7), [3, 3], [1, 1], [3, 1])
    with pytest.raises(ValueError, match='2 values of kernel'):
        plan.add_pool(0, 1, image(2, 4, 6, 7), [3], [1, 1], [1, 1])
    with pytest.raises(ValueError, match='stride of at least 1'):
        plan.add_pool(0, 1, image(2, 4, 6, 7), [3, 3], [0, 1], [1, 1])
    with pytest.raises(ValueError, match=r'a result \(N, C, 1, 1\) for an im'):
        plan.add_mean(0, 1, image(2, 4, 1, 2))
    with pytest.raises(ValueError, match='copy to be contiguous in channels'):
        plan.add_follow(0, 1, torch.zeros(2, 4, 6, 7))
    with pytest.raises(ValueError, match='expected a map of changes'):
        plan.mark(0, MAPPED, None)
    with pytest.raises(ValueError, match='map of'):
        plan.mark(0, MAPPED, torch.zeros(2, 1, 6, 6, dtype=torch.bool))


def test_images_of_another_size_are_refused_when_they_come():
    plan = native.new_plan(7)
    x = image(2, 4, 6, 7)
    plan.put(0, x)
    mask = torch.zeros(2, 1, 6, 7, dtype=torch.bool)
    plan.add_conv(0, 1, make_site(), mask, None)
    plan.add_follow(0, 2, x.clone(memory_format=torch.channels_last))
    again = x.clone(memory_format=torch.channels_last)
    plan.add_sum([0], 3, again, None, None, None)
    plan.add_join([0], 4, x.clone(memory_format=torch.channels_last))
    plan.add_pool(0, 5, image(2, 4, 3, 7), [2, 1], [2, 1], [0, 0])
    plan.add_mean(0, 6, image(2, 4, 1, 1))
    plan.run(0, 6)

    for y in (image(2, 4, 6, 8), image(3, 4, 6, 7), image(2, 5, 6, 7)):
        plan.put(0, y)
        for step in range(6):
            with pytest.raises(ValueError, match='expected'):
                plan.run(step, step + 1)
    plan.put(0, x.double())
    for step in range(6):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            plan.run(step, step + 1)
