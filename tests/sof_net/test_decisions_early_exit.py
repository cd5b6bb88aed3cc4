"""When enough has been seen."""

import pytest
import torch

from mmskip.sof_net import EarlyExit
from mmskip.sof_net.decisions import windows

SURE, UNSURE = [0.98, 0.01, 0.01], [0.4, 0.3, 0.3]


def test_a_certain_class_is_enough():
    scores = torch.tensor([SURE, UNSURE])
    assert EarlyExit(0.9, 0).terminates(scores, 1).tolist() == [True, False]
    assert EarlyExit(0.98, 0).terminates(scores, 1).tolist() == [False, False]


def test_more_than_t_min_frames_are_looked_at():
    scores, rule = torch.tensor([SURE]), EarlyExit(0.9, t_min=3)
    assert [rule.terminates(scores, t).item() for t in (2, 3, 4, 5)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_defaults_are_the_thesis():
    assert EarlyExit() == EarlyExit(rho=0.999, t_min=3)


@pytest.mark.parametrize('rho', [0, -1, 1.0001])
def test_rho_outside_its_range_is_refused(rho):
    with pytest.raises(ValueError, match=r'rho in \(0, 1\], got'):
        EarlyExit(rho=rho)


def test_t_min_outside_its_range_is_refused():
    with pytest.raises(ValueError, match='t_min to be an int >= 0'):
        EarlyExit(t_min=-1)


@pytest.mark.parametrize('option', ['rho', 't_min'])
@pytest.mark.parametrize('value', [float('nan'), None, '1', True])
def test_what_is_no_number_is_refused_by_name(option, value):
    with pytest.raises(ValueError, match=f'expected {option} to be a'):
        EarlyExit(**{option: value})


@pytest.mark.parametrize(('t_min', 'frames'), [(3, 3), (5, 4)])
def test_an_exit_that_never_comes_is_refused(t_min, frames):
    EarlyExit(t_min=t_min).check_length(t_min + 1)
    with pytest.raises(ValueError, match=f'T={frames}'):
        EarlyExit(t_min=t_min).check_length(frames)


@pytest.mark.parametrize(
    ('lookahead', 'early_exit', 'ends'),
    [
        (1, EarlyExit(t_min=3), [1, 2, 3, 4, 5, 6, 7]),
        (4, None, [4, 8]),
        (2, EarlyExit(t_min=2), [3, 5, 7]),  # no exit before the third
    ],
)
def test_windows_cover_all_frames_and_none_ends_too_early(
    lookahead, early_exit, ends
):
    found = list(windows(7, lookahead, early_exit))

    assert [window.stop for window in found] == ends
    assert [w.start for w in found] == [0, *ends[:-1]]
