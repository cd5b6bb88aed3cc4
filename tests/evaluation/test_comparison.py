import pytest

from mmskip.evaluation import accuracy_at, compare_at, mean_over_seeds


def row(gmac, ap, seed=None, method='a', setting=None):
    return dict(
        method=method,
        setting=str(gmac) if setting is None else setting,
        seed=seed,
        AP=ap,
        AP50=ap + 0.1,
        gmac_per_frame=gmac,
        reduction=10 / gmac,
        ms_per_frame=None,
    )


CURVE = [row(4, 0.75), row(1, 0.25), row(2, 0.5)]


@pytest.mark.parametrize(
    ('gmac', 'ap'), [(1, 0.25), (1.5, 0.375), (2, 0.5), (3, 0.625), (4, 0.75)]
)
def test_accuracy_between_settings_is_linear(gmac, ap):
    assert accuracy_at(CURVE, gmac) == ap


@pytest.mark.parametrize('gmac', [0.5, 0.999, 4.001, 10])
def test_nothing_is_said_about_other_costs(gmac):
    assert accuracy_at(CURVE, gmac) is None


def test_a_single_setting_is_known_at_its_own_cost_only():
    assert accuracy_at([row(1 / 3, 0.5)], 1 - 2 / 3) == 0.5
    assert accuracy_at([row(1 / 3, 0.5)], 0.34) is None


def test_seeds_are_interpolated_before_they_are_averaged():
    rows = [
        row(1, 0.2, seed=0), row(3, 0.4, seed=0),
        row(2, 0.4, seed=1), row(4, 0.8, seed=1),
        row(5, 0.9, method='b'),
    ]  # fmt: skip
    first, second = compare_at(rows, 2.5)
    assert first['AP'] == pytest.approx((0.35 + 0.5) / 2)
    assert first['AP_std'] == pytest.approx(0.15 / 2**0.5)
    assert first['seeds'] == 2
    assert (first['gmac_from'], first['gmac_to']) == (2, 3)
    assert second['AP'] is None
    assert second['AP_std'] is None


def test_one_seed_out_of_range_is_out_of_range():
    rows = [row(1, 0.2, 0), row(3, 0.4, 0), row(2, 0.4, 1), row(4, 0.8, 1)]
    assert compare_at(rows, 1.5)[0]['AP'] is None


def test_means_and_spreads_over_seeds():
    rows = [
        row(1, 0.2, 0, setting='x'),
        row(2, 0.4, 1, setting='x'),
        row(7, 0.6, 0, setting='y'),
    ]
    first, second = mean_over_seeds(rows)
    assert first['AP'] == pytest.approx(0.3)
    assert first['AP_std'] == pytest.approx(0.02**0.5)
    assert first['gmac_per_frame'] == 1.5
    assert first['gmac_per_frame_std'] == pytest.approx(0.5**0.5)
    assert first['ms_per_frame'] is None
    assert first['seeds'] == 2
    assert 'seed' not in first
    assert second['AP_std'] is None
    assert second['seeds'] == 1
