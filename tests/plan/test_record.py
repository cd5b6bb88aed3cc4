"""What forwards in streams have in common."""

import pytest
import torch
from torch import nn

import mmskip
from mmskip.plan import propagate_changes
from mmskip.plan.record import (
    StreamForward,
    check_convertible,
    skip_convs,
    tensors_of,
)
from tests.helpers.nets import FlipTest, TinyNet
from tests.helpers.twins import NORM, convert


def test_skip_convs_are_in_order_of_definition():
    net = convert(TinyNet(), NORM)

    assert skip_convs(net) == [net.stem, net.body, net.head]
    assert skip_convs(nn.ReLU()) == []


def test_a_replaced_forward_is_refused_by_name_and_undone():
    net = convert(FlipTest(TinyNet()), NORM)
    check_convertible(net)
    net.net.forward = StreamForward(net.net)

    with pytest.raises(ValueError, match=r'of net is replaced.*revert\(\)'):
        check_convertible(net)
    mmskip.revert(net)
    assert 'forward' not in net.net.__dict__
    with pytest.raises(ValueError, match='got FlipTest without any'):
        check_convertible(FlipTest(TinyNet()))


def test_forwards_of_others_are_left_alone():
    net = convert(TinyNet(), NORM)
    net.relu.forward = torch.relu

    with pytest.raises(ValueError, match='of relu is replaced'):
        propagate_changes(net)
    mmskip.revert(net)

    assert net.relu.forward is torch.relu


def test_tensors_are_told_in_their_order():
    a, b = torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64)

    tree = ([a, 3], {'x': (b, None)})

    assert all(x is y for x, y in zip(tensors_of(tree), (a, b), strict=True))
