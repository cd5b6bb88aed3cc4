"""Weights are loaded if they are the model's, and refused if not."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel
from torch import nn

import mmskip
from mmskip.apis import UserError
from mmskip.apis.models import load_weights, warn_of_unused
from mmskip.reading import InputError


class Net(nn.Module):
    """Two convolutions, a norm, and a buffer that it makes itself."""

    def __init__(self, channels=4):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, 2, 1)
        self.register_buffer('mask', torch.tensor([0.0, -torch.inf]))


def saved(channels=4):
    torch.manual_seed(1)
    return Net(channels).state_dict()


@pytest.fixture
def warnings(caplog):
    MMLogger._instance_dict.clear()
    MMLogger.get_instance('weights').handlers = [caplog.handler]
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('wrapped', [False, True])
def test_weights_of_the_model_are_loaded(prefix, wrapped):
    weights = {prefix + key: value for key, value in saved().items()}
    net = Net()
    content = {'state_dict': weights} if wrapped else weights
    assert load_weights(net, content, 'w.pth') is False
    for key, value in saved().items():
        torch.testing.assert_close(net.state_dict()[key], value)


def test_weights_go_into_the_model_of_a_test_time_augmentation():
    class Augmented(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            raise NotImplementedError

    net = Net()
    net.test_step = None
    net = Augmented(net)
    load_weights(net, saved(), 'w.pth')
    assert torch.equal(net.module.first.weight, saved()['first.weight'])


@pytest.mark.parametrize('key', [k for k in saved() if 'weight' in k])
def test_a_missing_weight_is_an_error(key):
    weights = saved()
    del weights[key]
    with pytest.raises(
        UserError, match=rf'^w\.pth .*of its 8 .* 1 are not .*\({key}\)'
    ):
        load_weights(Net(), weights, 'w.pth')


def test_a_missing_statistic_is_an_error():
    weights = saved()
    del weights['norm.running_var']
    with pytest.raises(UserError, match=r'\(norm\.running_var\)'):
        load_weights(Net(), weights, 'w.pth')


def test_what_the_model_makes_itself_may_be_missing():
    weights = saved()
    del weights['mask'], weights['norm.num_batches_tracked']
    load_weights(Net(), weights, 'w.pth')


def test_half_of_the_weights_are_counted():
    weights = dict(list(saved().items())[:5])
    with pytest.raises(UserError, match=r'4 are not in the file \(norm'):
        load_weights(Net(), weights, 'w.pth')


def test_another_shape_is_an_error():
    with pytest.raises(
        UserError, match=r'0 are not .*7 have another shape \(first\.weight, '
    ):
        load_weights(Net(), saved(5), 'w.pth')


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize('key', ['second.bias', 'norm.running_mean'])
@pytest.mark.parametrize('tuning', [False, True])
def test_weights_that_are_not_finite_are_an_error(key, value, tuning):
    weights = saved()
    weights[key][0] = value
    with pytest.raises(
        UserError, match=rf'^w\.pth: 1 weights .* not finite \({key}\)'
    ):
        load_weights(Net(), weights, 'w.pth', tuning)


def test_not_a_number_in_a_buffer_is_an_error():
    weights = saved()
    weights['mask'][0] = torch.nan
    with pytest.raises(UserError, match=r'not finite \(mask\)'):
        load_weights(Net(), weights, 'w.pth')


def test_to_train_from_other_weights_they_are_counted(warnings):
    weights = saved()
    weights['second.weight'] = torch.zeros(9, 4, 1, 1)
    del weights['second.bias']
    net = Net()
    before = net.second.weight.clone()
    load_weights(net, weights, 'w.pth', tuning=True)
    (record,) = warnings.records
    assert 'of 8 weights of the model 1 are not in it and 1' in record.message
    assert '(second.bias, second.weight)' in record.message
    assert torch.equal(net.second.weight, before)
    assert torch.equal(net.first.weight, saved()['first.weight'])


def test_weights_that_are_not_used_are_counted(warnings):
    warn_of_unused(Net(), saved() | {'head.weight': torch.ones(1)}, 'w.pth')
    (record,) = warnings.records
    assert 'w.pth: 1 weights in it' in record.message
    assert '(head.weight)' in record.message


@pytest.mark.parametrize(
    'content', [[1], {'state_dict': 3}, {1: torch.ones(1)}, torch.ones(1)]
)
def test_a_file_without_weights_is_an_error(content):
    with pytest.raises(UserError, match=r'no weights in w\.pth'):
        load_weights(Net(), content, 'w.pth')


def test_values_that_are_no_tensors_are_an_error():
    with pytest.raises(UserError, match=r'w\.pth cannot be loaded'):
        load_weights(Net(), saved() | {'first.weight': 'x'}, 'w.pth')


def test_plain_weights_may_lack_what_a_conversion_adds():
    net = Net()
    gate = dict(type='GumbelGate')
    mmskip.convert(net, mmskip.SkipConversion(gate))
    assert load_weights(net, saved(), 'w.pth') is True
    whole = net.state_dict()
    assert load_weights(net, whole, 'w.pth') is False
    del whole['first.weight']
    with pytest.raises((UserError, InputError), match=r'w\.pth'):
        load_weights(net, whole, 'w.pth')


def test_plain_weights_are_factorised():
    net = Net()
    mmskip.convert(net, mmskip.SVDConversion('spatial', ranks={'first': 2}))
    load_weights(net, saved(), 'w.pth')
    with pytest.raises(UserError, match=r'first\.weight'):
        load_weights(net, saved(5), 'w.pth')
    weights = saved()
    weights['first.weight'][0, 0, 0] = torch.nan
    with pytest.raises(UserError, match=r'not finite \(first\.weight\)'):
        load_weights(net, weights, 'w.pth')
