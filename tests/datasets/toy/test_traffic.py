"""Traffic: no collisions, stops at a red light, quiet roads."""

from itertools import pairwise

import numpy as np
import pytest

from mmskip.datasets.toy.scene import choose_light, choose_scene
from mmskip.datasets.toy.traffic import FAR_END, Traffic

STEP = 0.04


def make(seed, density=0.5, traffic_light=False, **options):
    rng = np.random.default_rng(seed)
    light = choose_light(rng)
    scene = choose_scene(rng, (96, 64), light, traffic_light=traffic_light)
    return Traffic(scene, rng, density, **options)


@pytest.mark.parametrize('seed', range(4))
def test_vehicles_of_a_lane_keep_apart_and_never_go_back(seed):
    traffic = make(seed, density=1.0, traffic_light=True, green_at=3.0)
    before = {}
    for _ in range(150):
        lanes = {}
        for v in traffic.vehicles:
            assert (v.y - before.get(v.track_id, v.y)) * v.direction >= 0
            before[v.track_id] = v.y
            half = v.shape.length / 2
            lanes.setdefault(v.lane, []).append((v.y - half, v.y + half))
        for extents in lanes.values():
            extents.sort()
            for (_, end), (start, _) in pairwise(extents):
                assert start > end
        traffic.step(STEP)


def test_vehicles_wait_at_a_red_light_and_then_go_on():
    traffic = make(0, density=0.8, traffic_light=True, green_at=2.0)
    line = traffic.scene.stop_line
    waiting = {v.track_id: v.y for v in traffic.vehicles if v.speed < 0.1}
    assert waiting
    for _ in range(int(2.0 / STEP)):
        traffic.step(STEP)
        for v in traffic.vehicles:
            if v.track_id in waiting and v.direction < 0:
                assert v.y - v.shape.length / 2 > line - 0.6 or v.y < line
    for _ in range(int(3.0 / STEP)):
        traffic.step(STEP)
    moved = [
        abs(v.y - waiting[v.track_id])
        for v in traffic.vehicles
        if v.track_id in waiting
    ]
    assert max(moved) > 4


def test_a_quiet_road_is_empty_at_first_and_then_not():
    traffic = make(1, busy=False)
    assert {v.y < 12 or v.y > 60 for v in traffic.vehicles} == {True}
    for _ in range(100):
        traffic.step(STEP)
    assert len(traffic.vehicles) > 1


def test_track_numbers_are_unique_and_vehicles_leave():
    traffic = make(2)
    seen = {}
    for _ in range(400):
        for v in traffic.vehicles:
            assert seen.setdefault(v.track_id, v) is v
            assert -12 < v.y < FAR_END + 12.1
        traffic.step(STEP)
    assert len(seen) > len(traffic.vehicles) > 0
    assert {v.kind for v in seen.values()} == {'car', 'van', 'bus', 'others'}


def test_the_same_seed_gives_the_same_traffic():
    def places(seed):
        return [(v.x, v.y, v.kind) for v in make(seed).vehicles]

    assert places(3) == places(3) != places(4)
