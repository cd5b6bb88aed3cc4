"""Films: a static background, independent noise, light, annotation."""

import numpy as np
import pytest

from mmskip.toy.ua_detrac import NOISE, SequencePlan, ToySequence

SIZE = (160, 96)
# A density at which no vehicle comes.
EMPTY = 1e-9


def film(number=1, frames=8, seed=0, **plan):
    options = dict(dict(place=0, density=0.5), **plan)
    sequence = ToySequence(
        SequencePlan(frames=frames, size=SIZE, **options), seed, number
    )
    images, sightings = zip(*sequence.film(), strict=True)
    return sequence, np.stack(images), sightings


def test_the_background_is_static_but_for_noise():
    _, images, sightings = film(density=EMPTY)
    assert sightings == ([],) * 8
    change = np.diff(images.astype(float), axis=0)
    assert abs(change.mean()) < 0.02
    # Two noisy frames differ by sqrt(2) as much as each from the truth.
    assert 0.6 < change.std() / (2**0.5 * NOISE) < 1.6
    # Consecutive differences share one frame: correlation -1/2.
    pairs = np.corrcoef(change[:-1].ravel(), change[1:].ravel())
    assert pairs[0, 1] == pytest.approx(-0.5, abs=0.02)


def test_boxes_are_in_the_image_and_of_some_size():
    _, _, sightings = film()
    boxes = np.array([s.box for frame in sightings for s in frame])
    assert len(boxes) > 8
    assert (boxes >= 0).all()
    assert (boxes <= np.tile(SIZE, 2)).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) > 1).all()


def test_vehicles_are_seen_in_their_boxes():
    """Against the empty road of the same sequence."""
    _, empty, _ = film(density=EMPTY, frames=1)
    _, images, sightings = film(frames=1)
    difference = np.abs(images[0].astype(int) - empty[0]).max(-1) > 16
    for sighting in sightings[0]:
        x1, y1, x2, y2 = map(int, sighting.box)
        assert difference[y1:y2, x1:x2].mean() > 0.3


def test_nothing_annotated_stands_in_an_ignored_region():
    sequence, _, sightings = film(parking=True)
    for sighting in (s for frame in sightings for s in frame):
        x, y = (sighting.box[0] + sighting.box[2]) / 2, sighting.box[3]
        for x1, y1, x2, y2 in sequence.ignored_regions:
            assert not (x1 <= x <= x2 and y1 <= y <= y2)
