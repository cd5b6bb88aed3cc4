import numpy as np
import pytest

from mmskip.toy import pan_video


@pytest.mark.parametrize('step', [(0, 0), (4, 0), (-3, 2)])
def test_whole_steps_cut_pixels_out(step):
    first, second = pan_video(2, step, size=(64, 48))
    assert first.shape == second.shape == (48, 64, 3)
    assert first.dtype == np.uint8
    x, y = step
    rows, columns = np.mgrid[4:44, 4:60]
    same = second[rows, columns] == first[rows + y, columns + x]
    # All but the disc, which moves on its own.
    disc = np.zeros((48, 64), bool)
    disc[8:28, 8:36] = True
    away = ~disc[rows, columns] & ~disc[rows + y, columns + x]
    assert same.all(-1)[away].all()
    assert not np.array_equal(first, second)


def test_frames_are_deterministic_by_seed_and_noisy_if_asked_to_be():
    one, other = (pan_video(1, (1.5, 0), (32, 32), seed=s)[0] for s in (1, 1))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, pan_video(1, (0, 0), (32, 32), seed=2)[0])
    noisy = pan_video(2, (0, 0), (32, 32), noise=5.0, seed=1)
    assert (noisy[0][-5:] != noisy[1][-5:]).mean() > 0.5
