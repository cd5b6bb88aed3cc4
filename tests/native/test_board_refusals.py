"""What a board refuses."""

import pytest
import torch

from mmskip.native import ConvGeometry
from mmskip.native import library as native
from mmskip.skip_conv import GateParams, native_call, skip_conv
from mmskip.skip_conv.native_layer import PackedWeight

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)

MAPPED = 1


def image(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def conv_arguments():
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    gate = GateParams('input_norm', 0.1)
    x = image(2, 4, 6, 7)
    job = (torch.randn(8, 4, 3, 3), None, geometry, gate)
    job += ('previous', PackedWeight())
    with torch.no_grad():
        call = native_call(x, skip_conv(x, None, *job)[2], *job)
    mask = torch.zeros(2, 1, 6, 7, dtype=torch.bool)
    return [mask, None, *call.arguments]


def test_bad_arguments_are_refused_by_name():
    board = native.new_board(3)
    x = image(2, 4, 6, 7)
    board.put(0, x)
    mask, *others = conv_arguments()

    with pytest.raises(ValueError, match=r'mask of'):
        board.add_conv(0, 1, mask[..., 1:], *others)
    with pytest.raises(ValueError, match='a result with an activation and n'):
        board.add_conv(0, 1, mask, image(2, 8, 6, 7), *others[1:])
    with pytest.raises(ValueError, match='a result with an activation and n'):
        board.add_conv(0, 1, mask, *others[:-1], 'relu')
    with pytest.raises(ValueError, match=r'activated output of shape.*8, 6, '):
        board.add_conv(0, 1, mask, x, *others[1:-1], 'relu')
    others[15] = 3
    with pytest.raises(ValueError, match='block_size 1, 2, 4 or 8'):
        board.add_conv(0, 1, mask, *others)
    with pytest.raises(IndexError, match='one of 3 values, got 3'):
        board.put(3, x)
    with pytest.raises(IndexError, match='some of 0 steps'):
        board.run(0, 1)
    with pytest.raises(ValueError, match=r'expected 1 to 8 images.*got 0'):
        board.add_sum([], 1, image(2, 4, 6, 7), None, None, None)
    with pytest.raises(ValueError, match=r'expected 1 to 8 images.*got 9'):
        board.add_sum([0] * 9, 1, image(2, 4, 6, 7), None, None, None)
    with pytest.raises(ValueError, match=r'smaller by a whole.*2, 4, 6, 7\]'):
        board.add_sum([0], 1, image(2, 4, 9, 7), None, None, None)
    with pytest.raises(ValueError, match=r'smaller by a whole'):
        board.add_sum([0], 1, image(2, 5, 6, 7), None, None, None)
    with pytest.raises(ValueError, match='result to be contiguous in channe'):
        board.add_sum([0], 1, torch.zeros(2, 4, 6, 7), None, None, None)
    with pytest.raises(ValueError, match="'relu', 'silu' or none, got 'gel"):
        board.add_sum([0], 1, image(2, 4, 6, 7), None, None, 'gelu')
    with pytest.raises(ValueError, match='a scale and a shift or neither'):
        board.add_sum([0], 1, x, torch.ones(4), None, None)
    with pytest.raises(ValueError, match=r'contiguous shift of shape \[4\]'):
        board.add_sum([0], 1, x, torch.ones(4), torch.ones(1), None)
    with pytest.raises(TypeError, match='scale of dtype float32'):
        board.add_sum([0], 1, x, torch.ones(4).int(), torch.ones(4), None)
    with pytest.raises(ValueError, match='expected 9 channels altogether, go'):
        board.add_join([0, 0], 1, image(2, 9, 6, 7))
    with pytest.raises(ValueError, match='as large as the result'):
        board.add_join([0, 0], 1, image(2, 8, 6, 8))
    with pytest.raises(ValueError, match='as many streams and channels as th'):
        board.add_pool(0, 1, image(2, 5, 6, 7), [3, 3], [1, 1], [1, 1])
    with pytest.raises(ValueError, match=r'that see something.*6, got 7 of '):
        board.add_pool(0, 1, image(2, 4, 7, 7), [3, 3], [1, 1], [0, 0])
    with pytest.raises(ValueError, match='that see something'):
        board.add_pool(0, 1, image(2, 4, 6, 7), [3, 3], [1, 1], [3, 1])
    with pytest.raises(ValueError, match='2 values of kernel'):
        board.add_pool(0, 1, image(2, 4, 6, 7), [3], [1, 1], [1, 1])
    with pytest.raises(ValueError, match='stride of at least 1'):
        board.add_pool(0, 1, image(2, 4, 6, 7), [3, 3], [0, 1], [1, 1])
    with pytest.raises(ValueError, match=r'a result \(N, C, 1, 1\) for an im'):
        board.add_mean(0, 1, image(2, 4, 1, 2))
    with pytest.raises(ValueError, match='copy to be contiguous in channels'):
        board.add_follow(0, 1, torch.zeros(2, 4, 6, 7))
    with pytest.raises(ValueError, match='expected a map of changes'):
        board.mark(0, MAPPED, None)
    with pytest.raises(ValueError, match='map of'):
        board.mark(0, MAPPED, torch.zeros(2, 1, 6, 6, dtype=torch.bool))


def test_images_of_another_size_are_refused_when_they_come():
    board = native.new_board(7)
    x = image(2, 4, 6, 7)
    board.put(0, x)
    board.add_conv(0, 1, *conv_arguments())
    board.add_follow(0, 2, x.clone(memory_format=torch.channels_last))
    again = x.clone(memory_format=torch.channels_last)
    board.add_sum([0], 3, again, None, None, None)
    board.add_join([0], 4, x.clone(memory_format=torch.channels_last))
    board.add_pool(0, 5, image(2, 4, 3, 7), [2, 1], [2, 1], [0, 0])
    board.add_mean(0, 6, image(2, 4, 1, 1))
    board.run(0, 6)

    for y in (image(2, 4, 6, 8), image(3, 4, 6, 7), image(2, 5, 6, 7)):
        board.put(0, y)
        for step in range(6):
            with pytest.raises(ValueError, match='expected'):
                board.run(step, step + 1)
    board.put(0, x.double())
    for step in range(6):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            board.run(step, step + 1)
