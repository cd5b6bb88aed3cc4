"""What takes part in looking at videos, and the meter of what ran."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from mmskip.layers import Judges, StopOrForwardHead

from .costs import StageCosts
from .early_exit import EarlyExit
from .stages import list_stages

Row = tuple[int, int]  # a video of the batch, and a frame of its window


@dataclass(frozen=True)
class Parts:
    """What takes part in looking.

    Attributes:
        backbone: See :func:`list_stages`.
        cls_head: Classifier of the last feature.
        policies: One per stage, or none: all frames are forwarded.
        early_exit: When to terminate; None never does.
        costs: MACs of a frame of this size.
        uses_sigmoid: Whether scores are sigmoids (a classifier trained by
            binary cross entropy) in place of the softmax of Eq. 3.6.
        stages: Of the backbone, at this moment.
        judges: The policies together; None without any.
    """

    backbone: nn.Module
    cls_head: nn.Module
    policies: list[StopOrForwardHead]
    early_exit: EarlyExit | None
    costs: StageCosts
    uses_sigmoid: bool = False
    stages: list[nn.Sequential] = field(init=False)
    judges: Judges | None = field(init=False)

    def __post_init__(self) -> None:
        judges = Judges(self.policies) if self.policies else None
        object.__setattr__(self, 'judges', judges)
        object.__setattr__(self, 'stages', list_stages(self.backbone))

    @property
    def places(self) -> int:
        """Number of places where a frame may stop."""
        return len(self.stages)

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities of logits (B, K)."""
        return logits.sigmoid() if self.uses_sigmoid else logits.softmax(-1)


class Meter:
    """Runs the parts and keeps count.

    Args:
        parts: What runs.
        videos: B.

    Attributes:
        rows: How many frames ran through each stage and, last, the
            classifier, since :meth:`take_rows`.
        macs: MACs spent on each video, policies included.
    """

    def __init__(self, parts: Parts, videos: int) -> None:
        self.parts = parts
        self.rows = [0] * (parts.places + 1)
        self.macs = [0] * videos
        policies = [policy.frame_macs for policy in parts.policies]
        policies += [0] * (parts.places - len(policies))
        self._stage_macs = [
            stage + policy
            for stage, policy in zip(
                parts.costs.by_stage, policies, strict=True
            )
        ]
        self._head_macs = sum(parts.costs.head.values())

    def run_stage(self, place: int, x: Tensor, videos: list[int]) -> Tensor:
        """Run a stage; x (n, C, h, w) are frames of these n videos."""
        self._count(place, self._stage_macs[place], videos)
        return self.parts.stages[place](x)

    def classify(self, x: Tensor, videos: list[int]) -> Tensor:
        """Logits (n, K) of the last stage's features of n frames."""
        self._count(-1, self._head_macs, videos)
        return self.parts.cls_head(x, num_segs=1)

    def take_rows(self) -> list[int]:
        """Return ``rows`` and begin anew."""
        rows, self.rows = self.rows, [0] * len(self.rows)
        return rows

    def _count(self, place: int, macs: int, videos: list[int]) -> None:
        self.rows[place] += len(videos)
        for video in videos:
            self.macs[video] += macs
