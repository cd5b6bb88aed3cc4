"""What is written is what is read."""

import re

import pytest

from mmskip.datasets.ua_detrac_release import read_sequence
from mmskip.toy.traffic import Overlap, Sighting
from mmskip.toy.ua_detrac import format_sequence


def sighting(track_id=1, box=(0.0, 0.0, 10.0, 20.5), kind='car', overlaps=()):
    return Sighting(track_id, kind, box, 0.25, 18.5, overlaps)


@pytest.fixture
def text():
    moved = sighting(box=(3.0, 4.0, 13.0, 24.5))
    hidden = sighting(
        2, (1 / 3, 1, 5, 6), 'others', (Overlap(1, 0, (0.0, 0.0, 2.0, 2.0)),)
    )
    return format_sequence(
        'MVI_90001',
        [[sighting(), hidden], [], [sighting()], [moved]],
        ignored_regions=[(0.0, 5.0, 8.0, 9.0)],
        weather='cloudy',
    )


def test_the_reader_gets_back_what_was_written(tmp_path, text):
    path = tmp_path / 'MVI_90001.xml'
    path.write_text(text)
    read = read_sequence(path)
    assert read.name == 'MVI_90001'
    assert read.ignored_regions == ((0.0, 5.0, 8.0, 9.0),)
    assert {f: len(t) for f, t in read.frames.items()} == {0: 2, 2: 1, 3: 1}
    car, other = read.frames[0]
    assert car.box == (0.0, 0.0, 10.0, 20.5)
    assert other.box == pytest.approx((1 / 3, 1, 5, 6), abs=1e-4)
    assert (other.track_id, other.vehicle_type) == (2, 'others')


def test_it_looks_like_the_original(text):
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n')
    for line in (
        '<sequence_attribute camera_state="stable" sence_weather="cloudy" />',
        '<box left="1" top="6" width="8" height="4" />',
        '<frame density="2" num="1">',
        '<attribute orientation="18.5" speed="0" trajectory_length="3" ',
        'truncation_ratio="0.25" vehicle_type="car" />',
        '<region_overlap left="1" top="1" width="2" height="2" ',
        'occlusion_id="1" occlusion_status="0" />',
    ):
        assert line in text
    assert 'num="2"' not in text


def test_speed_is_in_pixels_per_frame(text):
    assert re.findall(r'speed="([\d.]+)"', text) == ['0', '0', '0', '5']
