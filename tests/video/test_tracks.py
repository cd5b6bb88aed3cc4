"""Objects keep their ids, and a tracker keeps nothing that has ended."""

import sys

import pytest
import torch
from mmengine.structures import InstanceData

from mmskip.reading import InputError
from mmskip.video import Tracker

pytest.importorskip('lap')
DetDataSample = pytest.importorskip('mmdet.structures').DetDataSample

SIZE = 20


def sample(*centers, scores=None, labels=None, size=SIZE):
    """Boxes of one size around points, with a score of 0.8 each."""
    number = len(centers)
    points = torch.tensor(centers, dtype=torch.float32).reshape(-1, 2)
    found = DetDataSample()
    found.pred_instances = InstanceData(
        bboxes=torch.cat([points - size / 2, points + size / 2], 1),
        scores=torch.tensor(scores or [0.8] * number),
        labels=torch.tensor(labels or [0] * number, dtype=torch.int64),
    )
    return found


def ids_of(tracker, index, *centers, **options):
    prediction = tracker.update(sample(*centers, **options), index)
    return prediction.pred_instances.instances_id.tolist()


def walk(tracker, frames, start=0):
    """Two boxes side by side that move on; their ids in the last frame."""
    for index in frames:
        x = start + 2 * (index - frames[0])
        ids = ids_of(tracker, index, (x, 50), (x, 100))
    return ids


def test_ids_come_once_an_object_was_found_often_enough():
    tracker = Tracker(confirm=3)
    found = [ids_of(tracker, index, (50, 50)) for index in range(4)]
    assert found == [[-1], [-1], [1], [1]]


def test_ids_are_int64_in_the_order_of_the_boxes():
    tracker = Tracker(confirm=1)
    for index in range(3):
        prediction = sample((50, 50), (150, 50))
        if index == 2:
            prediction = sample((150, 50), (50, 50))
        found = tracker.update(prediction, index)
        assert found is prediction
    ids = found.pred_instances.instances_id
    assert ids.dtype == torch.int64
    assert ids.tolist() == [2, 1]


def test_crossing_boxes_keep_their_ids():
    tracker = Tracker()
    for index in range(41):
        shift = 4 * index
        ids = ids_of(tracker, index, (shift, 50), (160 - shift, 58))
        if index >= 2:
            assert ids == [1, 2]


def test_boxes_of_two_classes_are_two_objects():
    tracker = Tracker(confirm=1)
    for index in range(3):
        assert ids_of(tracker, index, (9, 9), (9, 9), labels=[0, 1]) == [1, 2]


def test_an_object_that_is_hidden_for_some_frames_keeps_its_id():
    tracker = Tracker()
    assert walk(tracker, range(10)) == [1, 2]
    for index in range(10, 15):
        ids_of(tracker, index)
    assert walk(tracker, range(15, 20), start=30) == [1, 2]


def test_it_ends_when_it_is_not_seen_for_too_long():
    tracker = Tracker(retain=5)
    walk(tracker, range(10))
    for index in range(10, 15):
        ids_of(tracker, index)
    assert tracker.num_tracks == 0
    assert walk(tracker, range(15, 20), start=30) == [3, 4]


def test_tracks_move_on_over_frames_that_were_dropped():
    tracker = Tracker()
    for index in [*range(20), *range(25, 90, 6)]:
        # 24 pixels from one frame to the next: the boxes do not overlap.
        ids = ids_of(tracker, index, (4 * index, 50), (4 * index, 100))
    assert ids == [1, 2]


def test_a_weak_box_goes_on_with_a_track_over_a_gap():
    tracker = Tracker(high=0.5, low=0.1)
    for index in range(5):
        ids_of(tracker, index, (4 * index, 50))
    assert ids_of(tracker, 8, (32, 50), scores=[0.2]) == [1]


@pytest.mark.parametrize('begin', [0.2, 0.45])
def test_a_detector_with_low_scores_has_tracks_too(begin):
    """RTMDet-nano gives persons 0.3 to 0.6."""
    points = (50, 50), (100, 50)
    scores = [begin + 0.05, begin - 0.05]
    given = {}
    for options in ({}, dict(begin=begin)):
        tracker = Tracker(**options)
        for index in range(5):
            ids = ids_of(tracker, index, *points, scores=scores)
        given[bool(options)] = ids
    assert given == {False: [-1, -1], True: [1, -1]}


@pytest.mark.parametrize('weak', [0.4, 0.65])
def test_a_weak_box_begins_no_track(weak):
    tracker = Tracker(begin=0.7, high=0.6, low=0.1)
    points = (50, 50), (100, 50)
    for index in range(5):
        ids = ids_of(tracker, index, *points, scores=[0.8, weak])
    assert ids == [1, -1]
    assert tracker.num_tracks == 1


@pytest.mark.parametrize('index', [100, 4, 0])
def test_a_long_gap_and_a_step_back_begin_anew(index):
    tracker = Tracker(confirm=1, retain=30)
    for before in range(5):
        ids_of(tracker, before, (50, 50))
    assert ids_of(tracker, index, (50, 50)) == [2]


def test_ids_do_not_come_again_after_a_reset():
    tracker = Tracker(confirm=1)
    assert ids_of(tracker, 7, (50, 50)) == [1]
    tracker.reset()
    assert tracker.num_tracks == 0
    assert ids_of(tracker, 0, (50, 50)) == [2]


@pytest.mark.parametrize(
    'box',
    [(4, 4, 4, 9), (4, 4, 9, 4), (9, 9, 4, 4), (4, 4, float('nan'), 9)],
)
def test_boxes_without_an_area_are_on_no_track(box):
    tracker = Tracker(confirm=1)
    for index in range(3):
        prediction = sample((50, 50), (0, 0))
        prediction.pred_instances.bboxes[1] = torch.tensor(box)
        found = tracker.update(prediction, index).pred_instances
        assert found.instances_id.tolist() == [1, -1]


def test_memory_does_not_grow_with_the_frames():
    tracker = Tracker(confirm=3, retain=30)
    most = 0
    seen = set()
    for index in range(400):
        # One stays, one comes for ten frames of every twenty.
        passing = [(200 + index % 20, 50)] * (index % 20 < 10)
        ids = ids_of(tracker, index, (50, 50), *passing)
        seen.update(ids)
        most = max(most, size_of(tracker))
        if index == 100:
            early = most
    assert most == early
    assert ids[0] == 1
    assert len(seen) > 10


def size_of(tracker):
    """Numbers and tensors that the tracks hold."""
    return sum(
        len(kept) if isinstance(kept, list) else 1
        for track in tracker._bytes.tracks.values()
        for kept in track.values()
    )


@pytest.mark.parametrize(
    'options',
    [
        dict(low=0.5, high=0.3),
        dict(high=0.8, begin=0.7),
        dict(begin=1.1),
        dict(low=-0.1),
        dict(min_overlap=1.0),
        dict(confirm=0),
        dict(retain=0),
    ],
)
def test_thresholds_that_cannot_be_are_refused(options):
    with pytest.raises(InputError, match='expected'):
        Tracker(**options)


def test_what_to_install_is_said(monkeypatch):
    module = sys.modules['mmdet.models.trackers.byte_tracker']
    monkeypatch.setattr(module, 'lap', None)
    with pytest.raises(InputError, match=r"pip install 'mmskip\[cameras\]'"):
        Tracker()
