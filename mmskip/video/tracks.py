"""Identities of objects from frame to frame."""

from typing import Any, TypeVar

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmskip.reading import InputError

#: Boxes with a lower score are on no track.
LOW_SCORE = 0.1

Sample = TypeVar('Sample', bound=BaseDataElement)


class Tracker:
    """Follows the objects of one camera with mmdet's ByteTracker.

    An object is on a track once it was found in ``confirm`` frames; a
    track that is not found for ``retain`` frames has ended. Memory is of the
    tracks that go on alone, whatever the number of frames. Scores
    are compared with what mmdet's config of ByteTrack has; overlaps are not
    weighted by them, as those of small detectors are low.

    Args:
        begin: Only boxes with a score above it begin a track.
        high: Boxes with a score above it are matched first; default a tenth
            below ``begin``, as in ByteTrack, but not below ``low``.
        low: Those with a score between this and ``high`` only continue a
            track that was found in the frame before.
        min_overlap: IoU of a box with the predicted place of its track from
            which on they may be the same.
        confirm: Frames in a row in which an object has to be found.
        retain: Frames of the source, dropped ones included, after which a
            lost track ends.

    Raises:
        InputError: mmdet or the package ``lap`` is not installed, or a
            threshold cannot be.

    Source: ByteTrack, ECCV 2022, https://arxiv.org/abs/2110.06864.
    """

    def __init__(
        self,
        begin: float = 0.7,
        high: float | None = None,
        low: float = LOW_SCORE,
        min_overlap: float = 0.2,
        confirm: int = 3,
        retain: int = 30,
    ) -> None:
        if high is None:
            high = max(low, begin - 0.1)
        if not 0 <= low <= high <= begin <= 1 or not 0 <= min_overlap < 1:
            raise InputError(
                'expected thresholds 0 <= low <= high <= begin <= 1 and '
                f'0 <= min_overlap < 1, got low={low}, high={high}, '
                f'begin={begin} and min_overlap={min_overlap}'
            )
        if confirm < 1 or retain < 1:
            raise InputError(
                'expected confirm and retain of at least one frame, got '
                f'confirm={confirm} and retain={retain}'
            )
        self.retain = retain
        self._begin = begin
        self._confirm = confirm
        self._bytes = _byte_tracker(
            obj_score_thrs=dict(high=high, low=low),
            init_track_thr=begin,
            weight_iou_with_det_scores=False,
            match_iou_thrs=dict(
                high=min_overlap, low=0.5, tentative=min_overlap
            ),
            num_tentatives=confirm,
            num_frames_retain=retain,
        )
        self._last_index: int | None = None
        self._given = 0

    @property
    def num_tracks(self) -> int:
        """Tracks that are in memory, those not confirmed yet included."""
        return len(self._bytes.tracks)

    def reset(self) -> None:
        """Forget all tracks, as after a cut; their ids do not come again."""
        self._bytes.tracks.clear()
        self._last_index = None

    def update(self, prediction: Sample, index: int) -> Sample:
        """Say which of the boxes of a frame are on which track.

        Args:
            prediction: What a detector found in the frame, (N, 4) boxes in
                pixels; gets ``pred_instances.instances_id``, int64 (N,), -1
                for a box on no track. Ids count from 1.
            index: Of the frame in its source. A gap means frames that were
                dropped: the tracks move on meanwhile. One that is not above
                the last begins anew, see :meth:`reset`.

        Returns:
            ``prediction``.
        """
        found = prediction.pred_instances
        ids = torch.full((len(found.scores),), -1, dtype=torch.int64)
        usable = _usable(found.bboxes).nonzero().flatten()
        self._skip_to(index, is_empty=not len(usable))
        # ByteTracker forgets all at a frame 0, and takes objects in it for
        # confirmed at once.
        sample = BaseDataElement(metainfo=dict(frame_id=index + 1))
        sample.pred_instances = found[usable].cpu()
        tracked = self._bytes.track(sample)
        # It gives the boxes that it has taken in an order of its own.
        self._drop_weak(tracked)
        same = _same_rows(tracked, sample.pred_instances)
        for row, number in zip(
            same.tolist(), tracked.instances_id.tolist(), strict=True
        ):
            ids[usable[row]] = self._id_of(number)
        self._shorten()
        found.instances_id = ids.to(found.scores.device)
        return prediction

    def _skip_to(self, index: int, is_empty: bool) -> None:
        """Let tracks move on over frames that nobody looked at.

        Args:
            index: Of the frame that comes now.
            is_empty: Nothing was found in it: ByteTracker would let the
                tracks stand still.
        """
        last, self._last_index = self._last_index, index
        if last is None:
            return
        if not last < index < last + self.retain:
            self._bytes.tracks.clear()
            return
        missed = index - last - 1
        for track in self._bytes.tracks.values():
            if missed and int(track.frame_ids[-1]) == last + 1:
                # It was found as late as could be: it is not lost.
                track.frame_ids[-1] = torch.tensor([index])
            if not track.tentative:
                for _ in range(missed + is_empty):
                    track.mean, track.covariance = self._bytes.motion.predict(
                        track.mean, track.covariance
                    )

    def _drop_weak(self, tracked: InstanceData) -> None:
        """Drop tracks that weak boxes have begun.

        ByteTracker asks for ``begin`` only while there is no track at all;
        the paper, always.
        """
        for number, score in zip(
            tracked.instances_id.tolist(), tracked.scores, strict=True
        ):
            track = self._bytes.tracks.get(number)
            is_new = track is not None and len(track.frame_ids) == 1
            if is_new and score <= self._begin:
                del self._bytes.tracks[number]

    def _id_of(self, number: int) -> int:
        """Give the id of one of ByteTracker's tracks, -1 at its beginning.

        Ids are given when a track is confirmed: what flickers takes none.
        """
        track = self._bytes.tracks.get(number)
        if track is None or len(track.frame_ids) < self._confirm:
            return -1
        if 'id' not in track:
            self._given += 1
            track.id = self._given
        return track.id

    def _shorten(self) -> None:
        """Drop the past of the tracks, which ByteTracker keeps for ever."""
        for track in self._bytes.tracks.values():
            for name in self._bytes.memo_items:
                del track[name][: -self._confirm]


def _byte_tracker(**options: Any) -> Any:
    """Build mmdet's tracker.

    Raises:
        InputError: A package is missing.
    """
    try:
        from mmdet.models.task_modules.tracking import KalmanFilter
        from mmdet.models.trackers import ByteTracker
    except ImportError as error:
        raise InputError(
            f'expected mmdet, whose tracker is used, got: {error}; pip '
            "install 'mmdet>=3.3'"
        ) from error
    try:
        tracker = ByteTracker(**options)
    except RuntimeError as error:
        raise InputError(
            'expected the package lap, which tracks objects; '
            "pip install 'mmskip[cameras]'"
        ) from error
    tracker.motion = KalmanFilter()
    return tracker


def _usable(boxes: Tensor) -> Tensor:
    """Tell which boxes have an area: the filter divides by their height."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    return (boxes.isfinite() & (sizes > 0).repeat(1, 2)).all(1)


def _same_rows(tracked: InstanceData, found: InstanceData) -> Tensor:
    """Find each tracked box, (M,), among those that were found."""
    columns = [
        torch.cat(
            [
                instances.bboxes,
                instances.scores[:, None],
                instances.labels[:, None],
            ],
            dim=1,
        )
        for instances in (tracked, found)
    ]
    same = (columns[0][:, None] == columns[1]).all(-1)
    # Of equal rows the first, so that no id comes twice.
    return same.int().argmax(1) if same.numel() else torch.zeros(0).long()
