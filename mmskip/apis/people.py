"""Poses of several people who move: detector, tracker, a crop for each."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from mmskip.core import MacCount
from mmskip.skip_conv import StreamState
from mmskip.video import Frame, FrameResult, Tracker

from .errors import UserError
from .frame_stream import FramePipeline, FrameStream, SharedModel

# Share of a crop along each of its edges that a person keeps out of.
MARGIN = 0.05
# A moved crop stands ahead of the person by this share of how far it was
# behind: who walks on stays in it for longer.
LEAD = 0.5
# A person that has become so much smaller gets a smaller crop.
SHRINKING = 1.25
# Share of the newest box in the mean over the boxes: detectors jitter.
NEWEST = 0.5


class SteadyCrop:
    """A crop that stays where it is while a person moves little in it.

    A Skip-Convolution compares each crop with the one before: while the crop
    stands, only the person changes. It moves in steps.

    Args:
        room: Share of the person's size by which the crop is larger.

    Attributes:
        box: What to crop, (x1, y1, x2, y2) in pixels; pipelines pad it and
            give it the shape of their input.
        area: What was cropped, (x1, y1, x2, y2); None before the first crop.
    """

    def __init__(self, room: float) -> None:
        self.box = np.zeros(4, np.float32)
        self.area: np.ndarray | None = None
        self._room = room
        self._mean: np.ndarray | None = None
        self._size = np.zeros(2)

    def follow(self, box: np.ndarray) -> bool:
        """Take the person's newest box and say if the crop has moved."""
        is_first = self._mean is None
        mean = box if is_first else self._mean + NEWEST * (box - self._mean)
        self._mean = mean
        size, center = mean[2:] - mean[:2], (mean[2:] + mean[:2]) / 2
        if self.area is not None:
            if self._holds(mean) and (self._size < SHRINKING * size).any():
                return False
            center = center + LEAD * (
                center - (self.box[2:] + self.box[:2]) / 2
            )
        half = size * (1 + self._room) / 2
        self.box = np.concatenate([center - half, center + half])
        self._size = size
        return not is_first

    def note(self, sample: BaseDataElement) -> None:
        """Note what a pose estimator's pipeline has cropped."""
        center, scale = sample.input_center, sample.input_scale
        self.area = np.concatenate([center - scale / 2, center + scale / 2])

    def _holds(self, box: np.ndarray) -> bool:
        margin = MARGIN * (self.area[2:] - self.area[:2])
        inner = self.area + np.concatenate([margin, -margin])
        return bool(
            (box[:2] >= inner[:2]).all() and (box[2:] <= inner[2:]).all()
        )


@dataclass
class _Person:
    """Keeps the crop and the stream of a person.

    Attributes:
        crop: Of the pose estimator.
        state: Memory of the pose estimator; None if it runs densely.
        seen: Index of the last frame that had the person.
        heads: What the heads found in the last frame, see
            :class:`SharedModel`.
    """

    crop: SteadyCrop
    state: StreamState | None
    seen: int
    heads: dict[str, Any] = field(default_factory=dict)


class PeoplePose:
    """Finds the people of a camera, follows them and estimates their poses.

    The detector looks at the whole frame. Each track has a crop and a stream
    of the pose estimator. Memory is bounded: there are never more than
    ``max_people`` of these streams, which those take over who come later.

    Args:
        detector: Stream of the camera on a detector of people, without a
            tracker.
        pose: A top-down pose estimator, inside its context.
        tracker: Gives the ids; it belongs to this camera.
        max_people: Poses per frame at most; who has a stream already goes
            first, then who was found with the highest score.
        room: Share of a person's size by which crops are larger, so that
            they move less often.

    Attributes:
        left_out: People of the newest frame beyond ``max_people``.

    Raises:
        UserError: The models are not a detector of people and a pose
            estimator, or an option cannot be.
    """

    def __init__(
        self,
        detector: FrameStream,
        pose: SharedModel,
        tracker: Tracker,
        max_people: int = 8,
        room: float = 0.1,
    ) -> None:
        if max_people < 1 or room < 0:
            raise UserError(
                'expected max_people of at least 1 and room of at least 0, '
                f'got {max_people} and {room}'
            )
        self._pipeline = FramePipeline(pose.model)
        if not self._pipeline.is_pose:
            raise UserError(
                'expected a pose estimator of mmpose to run on each person, '
                f'got {type(pose.model).__name__}'
            )
        self._label = _label_of_people(detector.model)
        self._detector = detector
        self._pose = pose
        self._tracker = tracker
        self._max_people = max_people
        self._room = room
        self._people: dict[int, _Person] = {}
        self._spare: list[StreamState] = []
        self._shape: tuple[int, ...] | None = None
        self.left_out = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory of all streams, those that wait included."""
        states = [person.state for person in self._people.values()]
        states = [self._detector.state, *states, *self._spare]
        return sum(state.nbytes for state in states if state is not None)

    def prepare(self, frame: Frame) -> tuple[Frame, dict[str, Any], float]:
        """Prepare a frame for the detector, see :class:`FrameStream`."""
        return self._detector.prepare(frame)

    def step(self, frame: Frame) -> FrameResult:
        """Prepare the next frame and find people and poses in it."""
        return self.run(*self.prepare(frame))

    def run(
        self, frame: Frame, data: dict[str, Any], seconds: float
    ) -> FrameResult:
        """Find the people of the next frame and their poses.

        Args:
            frame: Indices rise; a gap means frames that were dropped. One
                of another size, or that ``restarts``, begins anew.
            data: What :meth:`prepare` made of it.
            seconds: How long that took.

        Returns:
            ``prediction.pred_instances`` holds, of the N people that are on
            a track, ``bboxes`` (N, 4) and ``scores`` (N,) of the detector,
            ``keypoints`` (N, K, 2), ``keypoint_scores`` (N, K) and
            ``instances_id`` (N,), as arrays; coordinates are pixels of the
            frame. ``cost`` and ``seconds`` are those of both models, mask
            and ``restart`` those of the detector.
        """
        result = self._detector.run(frame, data, seconds)
        start = time.perf_counter()
        if frame.restarts or self._shape not in (None, frame.image.shape):
            self._begin_anew()
        self._shape = frame.image.shape
        prediction = result.prediction
        found = prediction.pred_instances
        prediction.pred_instances = found[found.labels == self._label]
        self._tracker.update(prediction, frame.index)
        people = self._choose(prediction.pred_instances, frame.index)
        poses, costs = [], [result.cost]
        for number, box in zip(
            people.instances_id.tolist(), people.bboxes, strict=True
        ):
            pose, cost = self._estimate(number, box, frame)
            poses.append(pose)
            costs.append(cost)
        self._forget(frame.index)
        prediction.pred_instances = _join(people, poses, self._pose.model)
        return replace(
            result,
            cost=MacCount.sum(costs),
            seconds=result.seconds + time.perf_counter() - start,
        )

    def _begin_anew(self) -> None:
        """Forget all people; their ids do not come again."""
        self._tracker.reset()
        for number in list(self._people):
            self._drop(number)

    def _choose(self, found: InstanceData, index: int) -> InstanceData:
        """Choose whose poses are estimated, and give each a stream.

        Args:
            found: People with ``instances_id``.
            index: Of the frame.

        Returns:
            Those that are chosen, as arrays.
        """
        found = found[found.instances_id >= 0].numpy()
        is_new = [n not in self._people for n in found.instances_id.tolist()]
        order = np.lexsort((-found.scores, is_new))
        self.left_out = max(len(order) - self._max_people, 0)
        found = found[np.sort(order[: self._max_people])]
        numbers = found.instances_id.tolist()
        for number in numbers:
            if number in self._people:
                self._people[number].seen = index
                continue
            if len(self._people) == self._max_people:
                absent = self._people.keys() - set(numbers)
                self._drop(min(absent, key=lambda n: self._people[n].seen))
            self._people[number] = self._enter(index)
        return found

    def _enter(self, index: int) -> _Person:
        state = None
        if self._pose.skips:
            state = self._spare.pop() if self._spare else StreamState()
        return _Person(SteadyCrop(self._room), state, index)

    def _drop(self, number: int) -> None:
        """Let another person have the stream of one who has left.

        What plans hold is kept for it.
        """
        state = self._people.pop(number).state
        if state is not None:
            state.reset()
            self._spare.append(state)

    def _forget(self, index: int) -> None:
        """Drop those whose tracks have ended."""
        for number, person in list(self._people.items()):
            if index - person.seen >= self._tracker.retain:
                self._drop(number)

    def _estimate(
        self, number: int, box: np.ndarray, frame: Frame
    ) -> tuple[InstanceData, MacCount]:
        """Estimate the pose of one person."""
        person = self._people[number]
        if person.crop.follow(box) and person.state is not None:
            # All that is in the crop has moved.
            person.state.reset()
        data = self._pipeline(frame.image, frame.index, person.crop.box)
        person.crop.note(data['data_samples'][0])
        prediction, cost = self._pose.run(data, person.state, person.heads)
        return prediction.pred_instances, cost


def _join(
    people: InstanceData, poses: list[InstanceData], pose_model: nn.Module
) -> InstanceData:
    """Put boxes, ids and poses together, also of no people."""
    number = (pose_model.dataset_meta or {}).get('num_keypoints', 0)
    points = [np.asarray(pose.keypoints) for pose in poses]
    scores = [np.asarray(pose.keypoint_scores) for pose in poses]
    return InstanceData(
        bboxes=people.bboxes,
        scores=people.scores,
        instances_id=people.instances_id,
        keypoints=np.concatenate(points or [np.zeros((0, number, 2))]),
        keypoint_scores=np.concatenate(scores or [np.zeros((0, number))]),
    )


def _label_of_people(detector: nn.Module) -> int:
    """Find the label of people.

    Raises:
        UserError: The detector does not tell them.
    """
    classes = (getattr(detector, 'dataset_meta', None) or {}).get('classes')
    if not classes or 'person' not in classes:
        raise UserError(
            "expected a detector with a class 'person', got one of "
            f'{", ".join(classes or ["unknown classes"])}'
        )
    return list(classes).index('person')
