"""People are followed, and each has a crop and a stream of their own."""

import itertools
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import InstanceData
from torch import nn

import mmskip
from mmskip.apis import (
    FrameStream,
    PeoplePose,
    SharedModel,
    UserError,
    open_reader,
)
from mmskip.apis.cameras import Camera, CameraError, Cameras
from mmskip.apis.people import SteadyCrop
from mmskip.video import Frame, Tracker
from tests.apis.fakes import noise_frames, tiny_detector, write_video

pytest.importorskip('lap')
pytest.importorskip('mmdet')
pytest.importorskip('mmpose')

SIZE = (160, 120)
DETECTOR_MACS = 160 * 120 * 3 * 2 * 9
POSE_MACS = 24 * 32 * 3 * 4 * 9
PERSON = np.array([0, 0, 16, 40])


class Scripted(BaseModel):
    """Finds what it is told, and runs a convolution all the same."""

    def __init__(self, scene):
        super().__init__(BaseDataPreprocessor())
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.scene = scene

    def forward(self, inputs, data_samples, mode='predict'):
        self.conv(torch.stack(inputs).float())
        boxes = np.array(self.scene(data_samples[0].frame_id))
        boxes = torch.from_numpy(boxes.reshape(-1, 4)).float()
        data_samples[0].pred_instances = InstanceData(
            bboxes=boxes,
            scores=torch.full((len(boxes),), 0.9),
            labels=torch.ones(len(boxes), dtype=torch.int64),
        )
        return data_samples


class TinyPose(BaseModel):
    """One keypoint, in the middle of the crop; its score is a mean."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.crops = []

    def forward(self, inputs, data_samples, mode='predict'):
        features = self.conv(torch.stack(inputs).float() / 255)
        sample = data_samples[0]
        self.crops.append((*sample.input_center, *sample.input_scale))
        sample.pred_instances = InstanceData(
            keypoints=np.array(sample.input_center)[None, None],
            keypoint_scores=features.mean().sigmoid().numpy()[None, None],
        )
        return data_samples


def configured(model, scope, pipeline, meta):
    model.cfg = Config(
        dict(
            default_scope=scope,
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    model.dataset_meta = meta
    return model.eval()


def detector(scene, threshold=None):
    torch.manual_seed(0)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_shape')),
    ]
    meta = dict(classes=('dog', 'person'))
    model = configured(Scripted(scene), 'mmdet', pipeline, meta)
    return converted(model, threshold)


def pose_model(threshold=None):
    torch.manual_seed(1)
    pipeline = [
        dict(type='LoadImage'),
        dict(type='GetBBoxCenterScale', padding=1.25),
        dict(type='TopdownAffine', input_size=(48, 64)),
        dict(type='PackPoseInputs'),
    ]
    meta = dict(dataset_name='a test', num_keypoints=1)
    model = configured(TinyPose(), 'mmpose', pipeline, meta)
    return converted(model, threshold)


def converted(model, threshold):
    if threshold is not None:
        gate = dict(type='OutputNormGate', threshold=threshold)
        mmskip.convert(model, mmskip.SkipConversion(gate=gate))
    return model


@pytest.fixture
def people():
    """Make a pipeline of models that are closed at the end."""
    with ExitStack() as stack:

        def make(scene, threshold=None, dense=False, tracker=None, **options):
            detecting, pose = (
                stack.enter_context(SharedModel(model, dense))
                for model in (
                    detector(scene, threshold),
                    pose_model(threshold),
                )
            )
            tracker = tracker or Tracker(confirm=1)
            return PeoplePose(FrameStream(detecting), pose, tracker, **options)

        yield make


def run(pipeline, images):
    return [
        pipeline.step(Frame(index, image))
        for index, image in enumerate(images)
    ]


def at(x, y=30):
    return PERSON + np.array([x, y, x, y])


def walking(index):
    """One stands, one walks to the right and comes back."""
    way = index % 60
    return [at(100), at(2 + 2 * min(way, 60 - way), 70)]


def found(result):
    return result.prediction.pred_instances


def test_everyone_on_a_track_has_a_pose(people):
    pipeline = people(walking, tracker=Tracker(confirm=3))
    results = run(pipeline, noise_frames(4, SIZE))
    assert [len(found(result)) for result in results] == [0, 0, 2, 2]
    last = found(results[-1])
    assert last.instances_id.tolist() == [1, 2]
    assert last.keypoints.shape == (2, 1, 2)
    assert last.keypoint_scores.shape == (2, 1)
    np.testing.assert_array_equal(last.bboxes, walking(3))
    for point, box in zip(last.keypoints[:, 0], last.bboxes, strict=True):
        assert (box[:2] < point).all()
        assert (point < box[2:]).all()


def test_without_people_all_is_empty(people):
    (result,) = run(people(lambda _: []), noise_frames(1, SIZE))
    assert found(result).keypoints.shape == (0, 1, 2)
    assert found(result).keypoint_scores.shape == (0, 1)
    assert found(result).bboxes.shape == (0, 4)
    assert result.cost.spent == DETECTOR_MACS


def test_the_cost_is_that_of_the_detector_and_of_each_pose(people):
    results = run(people(walking), noise_frames(2, SIZE))
    for result in results:
        assert result.cost.dense == DETECTOR_MACS + 2 * POSE_MACS
        assert result.cost.spent == result.cost.dense
    assert results[1].seconds > 0


def test_nothing_is_computed_where_nothing_moves(people):
    still = noise_frames(1, SIZE) * 4
    results = run(people(lambda _: [at(30)], threshold=1e-6), still)
    assert results[0].cost.executed == DETECTOR_MACS + POSE_MACS
    assert [result.cost.executed for result in results[1:]] == [0, 0, 0]


def test_skipping_without_loss_gives_what_the_dense_models_give(people):
    images = noise_frames(4, SIZE) * 10
    skip, dense = (
        run(people(walking, threshold=0.0, dense=dense), images)
        for dense in (False, True)
    )
    for a, b in zip(skip, dense, strict=True):
        np.testing.assert_array_equal(found(a).keypoints, found(b).keypoints)
        np.testing.assert_allclose(
            found(a).keypoint_scores, found(b).keypoint_scores, rtol=1e-5
        )
    assert dense[5].cost.overhead == 0


def test_a_person_in_company_has_the_pose_of_one_alone(people):
    images = noise_frames(20, SIZE)
    both = run(people(walking, threshold=0.01), images)
    alone = run(people(lambda n: walking(n)[1:], threshold=0.01), images)
    for a, b in zip(both, alone, strict=True):
        np.testing.assert_array_equal(
            found(a).keypoint_scores[1], found(b).keypoint_scores[0]
        )


def test_a_crop_moves_in_steps_and_is_then_a_reference_frame(people):
    pipeline = people(lambda n: [at(2 * n)], threshold=1e-6)
    still = noise_frames(1, SIZE) * 40
    results = run(pipeline, still)
    crops = pipeline._pose.model.crops
    moved = [a != b for a, b in itertools.pairwise(crops)]
    assert 3 <= sum(moved) <= 8
    costs = [result.cost.executed for result in results[1:]]
    assert costs == [POSE_MACS * move for move in moved]


def box(x, y=0.0, scale=1.0):
    middle = np.array([x, y, x, y], np.float64)
    return middle + scale * np.array([-8, -20, 8, 20])


class Cropping:
    """Gives a crop the area that a pipeline of 3 by 4 would."""

    def __init__(self, room=0.1):
        self.crop = SteadyCrop(room)

    def follow(self, box):
        moved = self.crop.follow(box)
        x1, y1, x2, y2 = self.crop.box
        height = 1.25 * max(y2 - y1, (x2 - x1) * 4 / 3)
        self.crop.area = np.array(
            [
                (x1 + x2) / 2 - height * 3 / 8,
                (y1 + y2) / 2 - height / 2,
                (x1 + x2) / 2 + height * 3 / 8,
                (y1 + y2) / 2 + height / 2,
            ]
        )
        return moved


def test_a_crop_stands_while_a_detector_jitters():
    cropping = Cropping()
    jitter = np.random.default_rng(0).normal(0, 1, (100, 4))
    assert not any(cropping.follow(box(50) + shift) for shift in jitter)


def test_a_crop_holds_a_person_that_walks():
    cropping = Cropping()
    moves = 0
    for step in range(100):
        person = box(2 * step, step)
        moves += cropping.follow(person)
        area = cropping.crop.area
        assert (area[:2] <= person[:2]).all()
        assert (area[2:] >= person[2:]).all()
    assert 10 <= moves <= 40


def test_a_crop_follows_the_size_of_a_person():
    cropping = Cropping()
    for scale in np.linspace(1, 3, 50):
        cropping.follow(box(50, scale=scale))
    large = cropping.crop.area.copy()
    for scale in np.linspace(3, 1, 50):
        cropping.follow(box(50, scale=scale))
    small = cropping.crop.area
    assert (large[3] - large[1]) / 120 == pytest.approx(1.375, rel=0.2)
    assert (small[3] - small[1]) / 40 == pytest.approx(1.6, rel=0.25)


def crowd(index):
    """Three people; every 10 frames three others in other places."""
    return [at(20 + 40 * n, 10 + 60 * (index // 10 % 2)) for n in range(3)]


def test_those_beyond_the_most_are_left_out(people):
    pipeline = people(crowd, max_people=2)
    results = run(pipeline, noise_frames(5, SIZE))
    for result in results:
        assert found(result).instances_id.tolist() == [1, 2]
    assert pipeline.left_out == 1
    assert results[-1].cost.dense == DETECTOR_MACS + 2 * POSE_MACS


def test_memory_does_not_grow_with_the_people(people):
    pipeline = people(
        crowd,
        threshold=0.0,
        max_people=4,
        tracker=Tracker(confirm=1, retain=5),
    )
    images = noise_frames(2, SIZE) * 40
    held = []
    for index, image in enumerate(images):
        last = pipeline.step(Frame(index, image))
        held.append(pipeline.nbytes)
    assert max(held) == max(held[:30])
    assert len(pipeline._people) + len(pipeline._spare) <= 4
    assert found(last).instances_id.tolist() == [22, 23, 24]


@pytest.mark.parametrize('is_lost', [True, False])
def test_it_begins_anew_after_a_loss_and_with_another_size(people, is_lost):
    pipeline = people(lambda _: [at(30)], threshold=1e-6)
    still = noise_frames(1, SIZE)
    first, second = run(pipeline, still * 2)
    assert (first.restart, second.restart) == ('first', None)
    image = still[0] if is_lost else noise_frames(1, (SIZE[0], 100))[0]
    third = pipeline.step(Frame(2, image, 0.0, restarts=is_lost))
    assert third.restart == ('reconnect' if is_lost else 'size')
    assert third.cost.executed == third.cost.dense
    assert found(third).instances_id.tolist() == [2]


def watched(path, max_memory=None):
    """Run a camera that sees one person from its sixth frame on."""
    camera = Camera(
        'a',
        open_reader(path),
        lambda *shared: PeoplePose(
            FrameStream(shared[0]), shared[1], Tracker(confirm=1)
        ),
    )
    with Cameras(
        detector(lambda index: [at(100)] if index > 4 else [], 0.0),
        [camera],
        pose=pose_model(0.0),
        max_memory=max_memory,
    ) as running:
        for _ in running.wait():
            pass
    return camera


def test_memory_of_those_who_come_later_counts(tmp_path):
    path = write_video(tmp_path / 'a.avi', noise_frames(8, SIZE))
    with SharedModel(detector(lambda _: [], 0.0)) as shared:
        stream = FrameStream(shared)
        stream(Frame(0, noise_frames(1, SIZE)[0]))
        empty = stream.nbytes
    camera = watched(path)
    assert camera.error is None
    assert camera.nbytes > empty
    assert watched(path, camera.nbytes).error is None
    refused = watched(path, camera.nbytes - 1)
    assert isinstance(refused.error, CameraError)
    assert refused.totals.frames == 6


def test_models_of_other_kinds_are_refused():
    def make(detecting, pose):
        stream = FrameStream(SharedModel(detecting))
        return PeoplePose(stream, SharedModel(pose), Tracker())

    with pytest.raises(UserError, match="a class 'person', got one of car"):
        make(tiny_detector(), pose_model())
    with pytest.raises(UserError, match='expected a pose estimator'):
        make(detector(walking), detector(walking))


@pytest.mark.parametrize('options', [dict(max_people=0), dict(room=-0.1)])
def test_options_that_cannot_be_are_refused(people, options):
    with pytest.raises(UserError, match='expected max_people'):
        people(walking, **options)
