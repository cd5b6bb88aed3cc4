"""What a task is judged by: its accuracy, its cost, and further figures."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Which figures rows of results have, and where they come from.

    Rows have ``method``, ``setting``, the keys of ``metrics``, the time and
    ``backend``.

    Attributes:
        accuracy: Key of the accuracy in a row.
        cost: Key of the cost, GMAC per unit: ``gmac_per_<unit>``.
        accuracy_label: Accuracy as an axis of a plot tells it.
        cost_label: The same of the cost.
        digits: After the decimal point of accuracies.
        metrics: Key of a row to the name of the metric that a test reports.
        extras: Keys of further accuracies and shares, for tables.
        needs: What has to be in ``test_evaluator``.
    """

    accuracy: str
    cost: str
    accuracy_label: str
    cost_label: str
    digits: int
    metrics: Mapping[str, str]
    extras: tuple[str, ...]
    needs: str

    @property
    def unit(self) -> str:
        """What a cost is of: ``frame``, ``video`` or ``clip``."""
        return self.cost.removeprefix('gmac_per_')

    @property
    def dense(self) -> str:
        """Key of the cost of the model that computes everything."""
        return f'dense_{self.cost}'

    @property
    def time(self) -> str:
        """Key of the milliseconds per unit, None where nobody measured."""
        return f'ms_per_{self.unit}'

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the figures that differ from seed to seed."""
        return (*self.metrics, self.time)


# Parts of what was spent, by mmskip.ComputeCost: gates, reference frames.
SHARES = dict(
    gate_share='cost/gate_share', reference_share='cost/reference_share'
)
DETECTION = Task(
    accuracy='AP',
    cost='gmac_per_frame',
    accuracy_label='AP (IoU 0.5:0.95)',
    cost_label='GMAC per frame (whole model, reference frames included)',
    digits=3,
    metrics=dict(
        AP='coco/bbox_mAP',
        AP50='coco/bbox_mAP_50',
        gmac_per_frame='cost/gmac',
        dense_gmac_per_frame='cost/dense_gmac',
        reduction='cost/reduction',
        **SHARES,
    ),
    extras=('AP50',),
    needs='CocoMetric and mmskip.ComputeCost',
)
RECOGNITION = Task(
    accuracy='mAP',
    cost='gmac_per_video',
    accuracy_label='mAP (%)',
    cost_label='GMAC per video (policies included)',
    digits=1,
    metrics=dict(
        mAP='acc/mAP',
        top1='acc/top1',
        used='cost/used',
        gmac_per_video='cost/gmac_per_video',
        dense_gmac_per_video='cost/dense_gmac_per_video',
        reduction='cost/reduction',
    ),
    extras=('top1', 'used'),
    needs='mmskip.ActionAccuracy and mmskip.VideoCost',
)
CLIPS = Task(
    accuracy='clip_1',
    cost='gmac_per_clip',
    accuracy_label='clip-1 (%)',
    cost_label='GMAC per clip (gates and cheap maps included)',
    digits=1,
    metrics=dict(
        clip_1='acc/clip-1',
        video_1='acc/video-1',
        gmac_per_clip='cost/gmac_per_clip',
        max_gmac='cost/max_gmac',
        min_gmac='cost/min_gmac',
        dense_gmac_per_clip='cost/dense_gmac_per_clip',
        reduction='cost/reduction',
    ),
    extras=('video_1',),
    needs='mmskip.ClipAccuracy and mmskip.ClipCost',
)
POSE = Task(
    accuracy='PCK',
    cost='gmac_per_frame',
    accuracy_label='PCK at 0.2 of the box',
    cost_label='GMAC per frame (whole model, reference frames included)',
    digits=3,
    metrics=dict(
        PCK='PCK',
        tPCK='tPCK',
        gmac_per_frame='cost/gmac',
        dense_gmac_per_frame='cost/dense_gmac',
        reduction='cost/reduction',
        **SHARES,
    ),
    extras=('tPCK',),
    needs="JhmdbPCKAccuracy, by 'bbox' and 'torso', and mmskip.ComputeCost",
)
# Recognition from frames that are computed one by one (TSN).
FRAMES = Task(
    accuracy='top1',
    cost='gmac_per_frame',
    accuracy_label='top-1 (%)',
    cost_label='GMAC per frame (whole model, reference frames included)',
    digits=1,
    metrics=dict(
        top1='acc/top1',
        gmac_per_frame='cost/gmac',
        dense_gmac_per_frame='cost/dense_gmac',
        reduction='cost/reduction',
        **SHARES,
    ),
    extras=(),
    needs='mmskip.ActionAccuracy and mmskip.ComputeCost',
)
TASKS = dict(
    detection=DETECTION,
    pose=POSE,
    recognition=RECOGNITION,
    frames=FRAMES,
    clips=CLIPS,
)
