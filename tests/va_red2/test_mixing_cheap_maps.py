"""The maps that rebuild what was not computed."""

import copy

import pytest
import torch
from torch import nn

from mmskip.va_red2 import CheapMaps, MixKey

KEY = MixKey((8, 5), (0, 1), (1,), False)


@pytest.fixture
def maps():
    return CheapMaps(nn.Conv3d(3, 8, 3), 2, 2)


def rows(maps):
    with torch.inference_mode():
        return maps.factors(KEY, torch.empty(0))


def test_factors_are_kept_while_nothing_changes(maps):
    assert rows(maps).time is rows(maps).time


def test_a_step_of_an_optimizer_is_followed(maps):
    before = rows(maps).time.clone()

    with torch.no_grad():
        maps.time[0].mul_(2)

    assert not torch.equal(rows(maps).time, before)


def test_an_exchange_of_data_is_followed(maps):
    before = rows(maps).channels.clone()

    maps.channels[0].data = torch.full_like(maps.channels[0], 7.0)

    assert not torch.equal(rows(maps).channels, before)


def test_a_write_past_the_version_counter_is_followed(maps):
    before = rows(maps).channels.clone()

    maps.channels[0].data.copy_(maps.channels[0].data + 1)

    assert not torch.equal(rows(maps).channels, before)


def test_with_gradients_factors_are_made_anew(maps):
    kept = rows(maps)

    made = maps.factors(KEY, torch.empty(0))

    assert made.channels.requires_grad
    assert made.time.requires_grad
    torch.testing.assert_close(made.time, kept.time)


def test_copies_leave_factors_behind(maps):
    rows(maps)
    twin = copy.deepcopy(maps)

    with torch.no_grad():
        twin.time[0].zero_()

    assert not torch.equal(rows(twin).time, rows(maps).time)
    assert rows(twin).time is not rows(maps).time


def test_maps_begin_as_interpolation_and_least_squares():
    conv = nn.Conv3d(3, 4, 1)
    with torch.no_grad():
        conv.weight[2:] = 3 * conv.weight[:2]

    maps = CheapMaps(conv, 2, 2)

    assert maps.time[0].tolist() == [[0, 0.5, 0.5]] * 4
    torch.testing.assert_close(maps.channels[0], torch.full((2,), 3.0))
