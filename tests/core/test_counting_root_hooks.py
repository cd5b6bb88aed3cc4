"""Hooks that neither copies nor pickles carry along."""

import copy
import pickle

import pytest
from torch import nn

from mmskip.core.counting import TransientHook, around_forward


class Echo(nn.Module):
    def forward(self, x):
        if x == 'fail':
            raise ArithmeticError
        return x


def watched():
    net, seen = Echo(), []
    handles = around_forward(
        net,
        lambda module, inputs: seen.append(('before', *inputs)),
        lambda module, inputs, output: seen.append(('after', output)),
    )
    return net, seen, handles


def test_hooks_run_before_and_after_each_forward():
    net, seen, _ = watched()

    net(1)
    net(2)

    assert seen == [('before', 1), ('after', 1), ('before', 2), ('after', 2)]


def test_the_hook_after_runs_even_if_the_forward_raises():
    net, seen, _ = watched()

    with pytest.raises(ArithmeticError):
        net('fail')

    assert seen == [('before', 'fail'), ('after', None)]


def test_removed_hooks_leave_nothing_behind():
    net, seen, handles = watched()

    for handle in handles:
        handle.remove()
    net(1)

    assert not seen
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=['deepcopy', 'pickle'],
)
def test_hooks_of_a_copy_do_nothing(duplicate):
    net, seen, _ = watched()

    twin = duplicate(net)

    assert twin(1) == 1
    assert not seen
    net(2)
    assert seen == [('before', 2), ('after', 2)]


def test_a_hook_changes_no_output():
    hook = TransientHook(lambda *_: 'something')

    assert hook(None, (), 1) is None
