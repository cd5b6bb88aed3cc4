"""Steps that torch takes: points, and anything else as a whole."""

import pytest
import torch

from mmskip.native import library as native
from mmskip.plan.steps import FrameValues, PointStep, WholeStep

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


def image(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


class Counting:
    """A function of images that says how many positions it was given."""

    def __init__(self):
        self.sizes = []

    def __call__(self, values):
        self.sizes.append(values[0][:, 0].numel())
        return values[0] * values[-1]


@pytest.mark.parametrize('channels', [1, 5])
def test_points_are_computed_where_something_changed(channels):
    function = Counting()
    x, y = image(2, channels, 6, 8), torch.randn(2, channels, 6, 8)
    frame = FrameValues([x, y, None], 3)
    result = torch.empty_like(x)
    step = PointStep(function, [0, 1], 2, result)
    frame.mark(0, False)
    frame.mark(1, False)

    step.run(frame, always=False)
    assert frame[2] is result
    assert frame.change(2) is True
    assert torch.equal(result, x * y)

    step.run(frame, always=True)
    assert frame.change(2) is False

    x += 1
    masks = [torch.zeros(2, 1, 6, 8, dtype=torch.bool) for _ in range(2)]
    masks[0][0, 0, 1, 2] = masks[1][1, 0, 5, 7] = True
    before = result.clone()
    for index, mask in enumerate(masks):
        frame.mark(index, mask)
    step.run(frame, always=False)
    where = masks[0] | masks[1]
    assert torch.equal(frame.change(2), where)
    assert torch.equal(result, torch.where(where, x * y, before))

    frame.mark(0, torch.ones_like(where))
    step.run(frame, always=False)
    assert torch.equal(result, x * y)
    assert function.sizes == [96, 2, 96]


def test_the_whole_is_computed_if_an_input_changed_or_it_is_counted():
    function = Counting()
    frame = FrameValues([image(1, 2, 4, 4), None], 2)
    step = WholeStep(function, [0], 1)

    for change, always, calls, changed in (
        (True, False, 1, True),
        (False, False, 1, False),
        (False, True, 2, False),
        (torch.eye(4).bool()[None, None], False, 3, True),
    ):
        frame.mark(0, change)
        step.run(frame, always)
        assert len(function.sizes) == calls
        assert frame.change(1) is changed


def test_what_is_owned_is_nobody_elses():
    x = image(1, 4, 2, 2)
    frame = FrameValues([x, x.chunk(2, 1), 3, None], 4)

    assert frame.own(0).data_ptr() != x.data_ptr()
    parts = frame.own(1)
    assert isinstance(parts, tuple)
    assert all(map(torch.equal, parts, x.chunk(2, 1)))
    assert x.data_ptr() not in [part.data_ptr() for part in parts]
    assert frame.own(2) == 3
    assert frame.own(3) is None
